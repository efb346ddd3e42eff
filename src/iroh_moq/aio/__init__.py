"""Small asyncio tools that every layer uses: an event that many can wait for, and owners for tasks."""

from .signal import Signal
from .tasks import TaskScope, reap

__all__ = ["Signal", "TaskScope", "reap"]

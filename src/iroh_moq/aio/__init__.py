"""Two small asyncio tools that every layer uses: an event that many can wait for, and a task owner."""

from .signal import Signal
from .tasks import TaskScope

__all__ = ["Signal", "TaskScope"]

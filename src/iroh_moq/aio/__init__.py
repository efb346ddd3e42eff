"""Small asyncio tools that every layer uses: an event that many can wait for, owners for tasks, and a token bucket."""

from .bucket import Bucket
from .signal import Signal
from .tasks import TaskScope, reap, while_wanted

__all__ = ["Bucket", "Signal", "TaskScope", "reap", "while_wanted"]

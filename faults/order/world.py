"""Runs one coroutine where nothing depends on anything but its seed."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from iroh_moq.model import group, origin, track
from iroh_moq.transport import memory

from .clock import Deadlock, Livelock, VirtualLoop

__all__ = ["Aftermath", "run_in_world"]

_IN_SETS: list[Any] = [origin.View, track.Reader, group.Cursor, group.GroupState, memory._Pipe]
"""What the library keeps in sets, whose order would depend on where in memory each is."""


@dataclass
class Aftermath:
    """How a run ended, and what it leaves that it should not: errors nobody handled, failed tasks, tasks that go on."""

    error: Exception | None = None
    unseen: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class _Failures(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._into.append(f"{record.getMessage()}: {error!r}")


def run_in_world(main: Coroutine[Any, Any, None]) -> Aftermath:
    """Runs it to its end in virtual time, or until nothing can happen any more (`Deadlock`, `Livelock`)."""
    aftermath = Aftermath()
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, context: aftermath.unseen.append(str(context.get("message"))))
    logger = logging.getLogger("iroh_moq.tasks")
    handler = _Failures(aftermath.failed)
    collecting = gc.isenabled()
    with ExitStack() as stack:
        stack.enter_context(patch.object(time, "monotonic", loop.time))
        for kind in _IN_SETS:
            # All alike, a set of them keeps the order in which they came.
            stack.enter_context(patch.object(kind, "__hash__", lambda _: 0))
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        stack.callback(loop.close)
        # The collector runs when much was made, by whomever, and finalizers do things.
        gc.disable()
        if collecting:
            stack.callback(gc.enable)
        asyncio.set_event_loop(loop)
        stack.callback(asyncio.set_event_loop, None)
        try:
            loop.run_until_complete(main)
        except (Deadlock, Livelock, TimeoutError) as error:
            aftermath.error = error
        finally:
            aftermath.left = sorted(_cancel_all(loop))
    return aftermath


def _cancel_all(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Ends the tasks that are left, and says which they were."""
    left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    return [task.get_name() for task in left]

"""An owner for tasks: what it starts, it awaits or cancels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .signal import Signal

__all__ = ["TaskScope", "reap", "while_wanted"]

logger = logging.getLogger("iroh_moq.tasks")

Result = TypeVar("Result")


class TaskScope:
    """Starts tasks and sees every one of them to its end.

    A task that fails is logged with its traceback at once: an exception never waits unseen for
    the garbage collector. Tasks are expected to handle the errors of their own work, so whatever
    arrives here is a defect.
    """

    __slots__ = ("_closed", "_name", "_tasks")

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Starts a task of this scope. In a closed scope the task starts cancelled."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if self._closed:
            task.cancel()
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    def cancel(self) -> None:
        """Asks every task to end, and refuses new ones. :meth:`aclose` waits for them."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Waits until every task has ended by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Cancels every task and waits for all of them but the one that calls.

        Cancelling this await does not leave a task behind: they are already asked to end, and
        the loop sees each of them out.
        """
        self.cancel()
        current = asyncio.current_task()
        while others := [task for task in self._tasks if task is not current]:
            await asyncio.wait(others)


async def reap(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits for its end. Nobody wants to know any more how it ends."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


async def while_wanted(
    work: Coroutine[Any, Any, Result], wanted: Callable[[], object], changed: Signal
) -> asyncio.Future[Result] | None:
    """Does work as long as somebody wants its outcome, which is looked at whenever that may have changed.

    Returns:
        The outcome, which has come; None if the work was given up.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if not wanted():
                return None
            change = changed.future()
            try:
                await asyncio.wait((task, change), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.forget(change)
        return task
    finally:
        if not task.done():
            await reap(task)
        elif not task.cancelled():
            # Seen, even where this was cancelled in the same turn.
            task.exception()

"""Reads and writes that may block for ever, off the event loop.

Pipes, terminals, devices and files can all be at either end of this command. A thread deals with
each of them, on every platform. asyncio's own pipes do not: they refuse files, do not exist on
Windows, and make the descriptor non-blocking for every other process that shares it.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

__all__ = ["Worker", "read_some", "write_all"]

Result = TypeVar("Result")


class Worker:
    """A thread that makes blocking calls, one after another.

    It is a daemon, unlike those of `asyncio.to_thread`: a call that never returns does not keep
    the process from ending. A cancelled call still runs to its end, and its result is lost.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of a call, made on the thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._calls.put(partial(_call, loop, future, call))
        return await future

    def close(self) -> None:
        """Ends the thread, after the call that is under way."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _call(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result], call: Callable[[], Result]) -> None:
    try:
        result = call()
    except OSError as error:
        _settle(loop, future, partial(future.set_exception, error))
    else:
        _settle(loop, future, partial(future.set_result, result))


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result], settle: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(lambda: None if future.done() else settle())
    except RuntimeError:
        # The loop has ended, and whoever waited with it.
        return


def read_some(descriptor: int, limit: int) -> bytes:
    """What there is to read, at most ``limit`` bytes; empty at the end. Waits for the first byte."""
    while True:
        try:
            return os.read(descriptor, limit)
        except BlockingIOError:
            # Another process that shares the descriptor has made it non-blocking.
            select.select([descriptor], [], [])


def write_all(descriptor: int, data: bytes) -> None:
    """Writes everything, however long the reader takes."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])

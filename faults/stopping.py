"""Ctrl-C and SIGTERM: a run ends where it is, tidily, and what it has found by then is written."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

__all__ = ["Terminated", "run_async", "stoppable", "whole"]

T = TypeVar("T")


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While this is open, SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """What is within is not stopped in its middle: a signal that comes meanwhile counts when it is over."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, where both signals cancel the coroutine, which so can put away what it has."""

    terminated: list[bool] = []

    async def run() -> T:
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            terminated.append(True)
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await coroutine

    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
    finally:
        # The loop has put the default in its place.
        signal.signal(signal.SIGTERM, before)

"""An event loop whose time is made up: it jumps to the next timer, so hours take no time and nothing races.

Where nothing can happen any more, that is an error (`Deadlock`) at once, and so is a loop that turns
without end (`Livelock`). Tasks and futures hash by their number, so that even sets of them have one order.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from itertools import count
from typing import Any

__all__ = ["Deadlock", "Livelock", "VirtualLoop"]

_SPINS = 20_000
"""Turns of the loop in a row without any time passing after which it is taken to turn for ever."""


class Deadlock(Exception):
    """Everybody waits, and nothing is left that could wake anybody."""


class Livelock(Exception):
    """Somebody always has something to do, and it leads nowhere."""


class _Future(asyncio.Future[Any]):
    def __init__(self, *, loop: VirtualLoop) -> None:
        self._number = next(loop.numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Task(asyncio.Task[Any]):
    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, loop: VirtualLoop, **options: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Selector(selectors.SelectSelector):
    """Waits for nothing but the next timer, which it lets come at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._spins = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("everybody waits for somebody else")
        if timeout > 0:
            self.now += timeout
            self._spins = 0
        else:
            self._spins += 1
            if self._spins > _SPINS:
                self._spins = 0
                raise Livelock("the loop turns and no time passes")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. It can wait for timers and nothing else."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        self.numbers: Iterator[int] = count()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-6
        make: Any = self._make_task
        self.set_task_factory(make)

    def time(self) -> float:
        """The made-up time, in seconds."""
        return self._virtual.now

    def create_future(self) -> asyncio.Future[Any]:
        """A future with a number."""
        return _Future(loop=self)

    @staticmethod
    def _make_task(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        return _Task(coroutine, loop=loop, **options)

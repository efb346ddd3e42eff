"""Counting what arrives, and waiting until all of it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from .failed import Failed

__all__ = ["HELLO", "Arrivals", "Reading", "all_arrived", "all_ready", "meanwhile"]

T = TypeVar("T")

Reading = Sequence[asyncio.Task[None]]
"""The tasks that read, one for each track of each subscriber."""

HELLO = b"hello"
"""The one frame of group 0 of each track, written before anybody subscribes: whoever has read it is all set up."""

_PATIENCE = 30.0
"""Seconds within which a subscription must bring group 0."""

_STALLED = 5.0
"""Seconds without anything arriving after which the rest is taken for lost."""


class Arrivals:
    """What one subscriber has got of one track."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0
        self.last = 0
        """When the latest came, by `time.monotonic_ns`."""
        self.ready = asyncio.Event()
        """Group 0 is here."""
        self.complete = asyncio.Event()
        """Everything is here."""
        self.expected: int | None = None

    def arrived(self) -> None:
        """Counts one more."""
        self.count += 1
        self.last = time.monotonic_ns()
        if self.count == self.expected:
            self.complete.set()

    def expect(self, count: int) -> None:
        """Says how many there are, group 0 left out."""
        self.expected = count
        if self.count >= count:
            self.complete.set()


async def all_ready(arrivals: Sequence[Arrivals], reading: Reading) -> None:
    """Waits until every subscriber has group 0.

    Raises:
        Failed: one does not get it, or a reader has failed.
    """

    def late() -> None:
        raise Failed("a subscription brought nothing")

    await meanwhile(_each(arrival.ready for arrival in arrivals), reading, _PATIENCE, late)


async def all_arrived(arrivals: Sequence[Arrivals], reading: Reading) -> None:
    """Waits until every subscriber has what it expects.

    Raises:
        Failed: something is lost, or a reader has failed.
    """
    before = -1

    def stalled() -> None:
        nonlocal before
        count = sum(arrival.count for arrival in arrivals)
        if count == before:
            total = sum(arrival.expected or 0 for arrival in arrivals)
            raise Failed(f"{total - count} of {total} {arrivals[0].what} never arrived")
        before = count

    await meanwhile(_each(arrival.complete for arrival in arrivals), reading, _STALLED, stalled)


async def meanwhile(
    wait: Coroutine[Any, Any, T],
    reading: Reading,
    patience: float | None = None,
    look: Callable[[], None] = lambda: None,
) -> T:
    """Waits for something while tasks read, which only ever end by failing.

    Args:
        wait: what to wait for; its result is returned.
        reading: the tasks.
        patience: seconds after each of which to take a look.
        look: may raise, to give up.

    Raises:
        Failed: a reader's failure, or another exception of its own.
    """
    waiting = asyncio.create_task(wait)
    try:
        while not waiting.done():
            done, _ = await asyncio.wait([waiting, *reading], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done.intersection(reading):
                task.result()
                raise Failed("a track ended while it was read")
            if not done:
                look()
        return waiting.result()
    finally:
        waiting.cancel()


async def _each(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()

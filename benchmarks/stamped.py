"""Frames that say when they were written, written at a steady pace, and how long they took."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from random import Random

from .arrivals import HELLO, Arrivals
from .failed import Failed

__all__ = ["Stamped", "paced", "stamp"]

_HEADER = struct.Struct(">QQ")
_NOISE = Random(1).randbytes(1 << 20)
_LATE_BY = 0.25
_LATE_SHARE = 0.25
"""Seconds, and which part of the time that the work takes, by which a write may be late. Were it more, another
work than the one asked for would be measured."""


def stamp(index: int, size: int) -> bytes:
    """The frame of that number in its track, written now."""
    return _HEADER.pack(time.monotonic_ns(), index) + _NOISE[: size - _HEADER.size]


class Stamped(Arrivals):
    """The frames that one subscriber has got of one track, and how long they took."""

    def __init__(self) -> None:
        super().__init__("frames")
        self.delays: list[float] = []
        """Seconds from write to read."""
        self._seen: set[int] = set()
        self._latest: tuple[int, int] = (0, 0)
        """The group and the number of the latest frame."""

    def take(self, sequence: int, frame: bytes) -> None:
        """Notes a frame.

        Raises:
            Failed: it is not what was sent.
        """
        now = time.monotonic_ns()
        if frame == HELLO:
            self.ready.set()
            return
        written, index = _HEADER.unpack_from(frame)
        if frame[_HEADER.size :] != _NOISE[: len(frame) - _HEADER.size]:
            raise Failed(f"frame {index} is not as it was sent")
        if index in self._seen:
            raise Failed(f"frame {index} came twice")
        if self._latest[0] == sequence and index < self._latest[1]:
            raise Failed(f"frame {index} came after frame {self._latest[1]} of its group")
        self._seen.add(index)
        self._latest = sequence, index
        self.delays.append((now - written) / 1e9)
        self.arrived()


async def paced(rate: float, seconds: float) -> AsyncIterator[int]:
    """Counts from 0 at so many a second. What is late is made up for; the loop gets a turn each time.

    Raises:
        Failed: whoever iterates is too slow for it.
    """
    clock = time.monotonic
    start = clock()
    patience = _LATE_BY + _LATE_SHARE * seconds
    for index in range(round(rate * seconds)):
        ahead = start + index / rate - clock()
        if ahead < -patience:
            raise Failed(f"{rate:g} frames a second are more than it can write")
        await asyncio.sleep(max(0.0, ahead))
        yield index

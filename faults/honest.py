"""The honest ones: a publisher who writes all the time, and a subscriber who must be given every group."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256

from iroh_moq import BroadcastProducer, Cache, Moq, MoqSession, TrackProducer

__all__ = ["NAME", "Honest", "content"]

NAME = "cam"
_TRACK = "video"
_PACE = 0.005
"""Seconds between two groups."""

_PATIENCE = 30.0


def content(sequence: int) -> bytes:
    """What must be in a group, after the time at which it was written."""
    return sha256(sequence.to_bytes(8, "big")).digest() * (1 + sequence % 7)


class Honest:
    """Both ends of the honest broadcast, from `start` to `finish`."""

    def __init__(self) -> None:
        self.written = 0
        self.read = 0
        self.latencies: list[float] = []
        self.wrong: list[str] = []
        self._broadcast = BroadcastProducer(cache=Cache(max_bytes=1 << 28, max_age=1e6))
        self._track: TrackProducer = self._broadcast.create_track(_TRACK)
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = True

    async def start(self, publisher: Moq, subscriber: MoqSession) -> None:
        """Returns once the first group has been read, or cannot be."""
        await publisher.publish(NAME, self._broadcast)
        broadcast = await subscriber.subscribe(NAME)
        track = broadcast.subscribe_track(_TRACK, priority=255, ordered=True, start_group=0)
        begun = asyncio.Event()

        async def read() -> None:
            async with track:
                async for group in track:
                    data = await group.read_all()
                    self.latencies.append(time.monotonic() - float(data[:20]))
                    if group.sequence != self.read or data[20:] != content(group.sequence):
                        self.wrong.append(f"group {group.sequence} came where {self.read} was due")
                        self.read = group.sequence
                    self.read += 1
                    begun.set()

        async def write() -> None:
            while self._writing:
                self._track.write_frame(f"{time.monotonic():020.9f}".encode() + content(self.written))
                self.written += 1
                await asyncio.sleep(_PACE)
            self._track.finish()

        self._tasks = [asyncio.create_task(read()), asyncio.create_task(write())]
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED, timeout=_PATIENCE)
        waiting.cancel()

    async def finish(self, patience: float) -> None:
        """Ends the track, and waits for the reader to have all of it, or to fail."""
        self._writing = False
        _, left = await asyncio.wait(self._tasks, timeout=patience)
        for task in left:
            self.wrong.append(f"still at work after {patience:g} s, with {self.read} of {self.written} groups")
            task.cancel()
        for task in self._tasks:
            if not task.cancelled() and task.done() and (error := task.exception()) is not None:
                self.wrong.append(repr(error))
        if self.read != self.written:
            self.wrong.append(f"{self.read} of {self.written} groups were read")
        self._broadcast.finish()

    def percentile(self, share: float) -> float:
        """Seconds that this share of the groups took at most."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0

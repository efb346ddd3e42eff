"""What this peer offers: broadcasts, tracks, groups, frames."""

from __future__ import annotations

import asyncio
from typing import Any

from iroh_moq import BroadcastProducer, Cache, GroupProducer, Moq, TrackProducer

from ..content import frame
from .failures import Usage

__all__ = ["Publishing"]

_ROOM = 1 << 32
"""Bytes that each track may keep: nothing is to be lost for the lack of them."""


class Track:
    """A track, and the groups of it that are open, with the number of frames each has."""

    def __init__(self, producer: TrackProducer, timescale: int) -> None:
        self.producer = producer
        self._timescale = timescale
        self._next_datagram = 0
        self.open: dict[int, tuple[GroupProducer, int]] = {}

    def write(self, sequence: int | None, sizes: list[int], keep_open: bool, timestamp: int | None) -> int:
        """Writes one group, or goes on with one that is open."""
        known = self.open.pop(sequence, None) if sequence is not None else None
        if known is not None:
            group, index = known
        elif sequence is not None:
            group, index = self.producer.create_group(sequence), 0
        else:
            group, index = self.producer.append_group(), 0
        for offset, size in enumerate(sizes):
            data = frame(group.sequence, index, size)
            group.write_frame(data, None if timestamp is None else (timestamp + offset) / self._timescale)
            index += 1
        if keep_open:
            self.open[group.sequence] = group, index
        else:
            group.finish()
        return group.sequence

    def write_datagrams(self, sizes: list[int], timestamp: int) -> list[int]:
        """Writes a datagram of each size."""
        sequences = []
        for stamp, size in enumerate(sizes, timestamp):
            # They share their numbers with the groups.
            latest = -1 if self.producer.latest is None else self.producer.latest
            sequence = max(latest + 1, self._next_datagram)
            sequences.append(self.producer.write_datagram(frame(sequence, 0, size), stamp / self._timescale))
            self._next_datagram = sequence + 1
        return sequences

    def take(self, sequence: int) -> GroupProducer:
        """An open group, which is open no longer."""
        if sequence not in self.open:
            raise Usage(f"group {sequence} is not open")
        return self.open.pop(sequence)[0]


class Publishing:
    """Broadcasts by name."""

    def __init__(self, moq: Moq) -> None:
        self._moq = moq
        self._broadcasts: dict[str, tuple[BroadcastProducer, dict[str, Track]]] = {}

    async def publish(self, broadcast: str, tracks: list[dict[str, Any]]) -> dict[str, Any]:
        """Offers a broadcast; one of the same name is replaced."""
        producer = BroadcastProducer()
        self._broadcasts[broadcast] = producer, {}
        for track in tracks:
            self.add_track(broadcast, **track)
        await self._moq.publish(broadcast, producer)
        return {}

    async def unpublish(self, broadcast: str) -> dict[str, Any]:
        """Takes the offer back; the broadcast itself goes on."""
        await self._moq.unpublish(broadcast)
        return {}

    def add_track(
        self, broadcast: str, name: str, priority: int = 0, keep: float = 3600, timescale: int = 1000
    ) -> dict[str, Any]:
        """Makes a track."""
        producer, tracks = self._of(broadcast)
        cache = Cache(max_bytes=_ROOM, max_age=keep)
        tracks[name] = Track(producer.create_track(name, priority, cache=cache, timescale=timescale), timescale)
        return {}

    async def write(
        self,
        broadcast: str,
        track: str,
        groups: int,
        sizes: list[int],
        first: int | None = None,
        interval: float = 0,
        open: bool = False,
        timestamp: int | None = None,
    ) -> dict[str, Any]:
        """Writes groups, and says which they were."""
        target = self.track(broadcast, track)
        sequences = []
        for number in range(groups):
            if number and interval:
                await asyncio.sleep(interval)
            sequence = None if first is None else first + number
            stamp = None if timestamp is None else timestamp + number * len(sizes)
            sequences.append(target.write(sequence, sizes, open, stamp))
            if number % 100 == 99:
                await asyncio.sleep(0)
        return {"sequences": sequences}

    def datagrams(self, broadcast: str, track: str, sizes: list[int], timestamp: int) -> dict[str, Any]:
        """Writes one datagram of each size, their timestamps one unit apart."""
        return {"sequences": self.track(broadcast, track).write_datagrams(sizes, timestamp)}

    def finish(self, broadcast: str, track: str | None = None, group: int | None = None) -> dict[str, Any]:
        """Ends a broadcast, a track or a group well."""
        if track is None:
            self._of(broadcast)[0].finish()
        elif group is None:
            self.track(broadcast, track).producer.finish()
        else:
            self.track(broadcast, track).take(group).finish()
        return {}

    def abort(self, broadcast: str, code: int, track: str | None = None, group: int | None = None) -> dict[str, Any]:
        """Ends a broadcast, a track or a group with a code."""
        if track is None:
            self._of(broadcast)[0].abort(code)
        elif group is None:
            self.track(broadcast, track).producer.abort(code)
        else:
            self.track(broadcast, track).take(group).abort(code)
        return {}

    async def used(self, broadcast: str, track: str) -> dict[str, Any]:
        """Waits until somebody reads a track."""
        await self.track(broadcast, track).producer.used()
        return {}

    async def unused(self, broadcast: str, track: str) -> dict[str, Any]:
        """Waits until nobody does."""
        await self.track(broadcast, track).producer.unused()
        return {}

    def track(self, broadcast: str, name: str) -> Track:
        """A track that was made."""
        _, tracks = self._of(broadcast)
        if name not in tracks:
            raise Usage(f"no track {name}")
        return tracks[name]

    def _of(self, broadcast: str) -> tuple[BroadcastProducer, dict[str, Track]]:
        if broadcast not in self._broadcasts:
            raise Usage(f"no broadcast {broadcast}")
        return self._broadcasts[broadcast]

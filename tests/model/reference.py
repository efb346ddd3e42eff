"""A simple model of the model: it keeps everything for ever, and looks through all of it each time.

Each object holds its real counterpart. Calls are foretold from the state alone, none is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from iroh_moq.errors import ErrorCode
from iroh_moq.model import (
    BroadcastConsumer,
    BroadcastProducer,
    Cache,
    GroupConsumer,
    GroupProducer,
    OriginConsumer,
    TrackConsumer,
    TrackProducer,
)
from iroh_moq.model.group import FRAME_OVERHEAD, GROUP_OVERHEAD

CACHE = Cache(max_bytes=5000, max_age=float("inf"))
FRAMES_PER_GROUP = 8
"""So few that the latest group is never over the bounds of the cache, and no reader lags."""


@dataclass(frozen=True)
class Failed:
    """The outcome of a call that raised."""

    code: int


ENDED = None
"""The outcome of reading past the end."""


class Waits:
    """The outcome of a call that has nothing to return yet."""


@dataclass(eq=False)
class Group:
    track: Track
    number: int
    producer: GroupProducer
    frames: list[bytes] = field(default_factory=list)
    finished: bool = False
    error: int | None = None
    kept: bool = True
    """Whether it is in the cache."""
    discarded: bool = False
    trimmed: int = 0
    """How many of its frames went, after all readers had passed them."""
    readers: list[Reader] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        return self.finished or self.error is not None

    @property
    def size(self) -> int:
        return sum(map(len, self.frames))

    @property
    def cost(self) -> int:
        frames = [] if self.discarded else self.frames[self.trimmed :]
        return GROUP_OVERHEAD + sum(map(len, frames)) + FRAME_OVERHEAD * len(frames)

    def trim_passed(self) -> None:
        """What all have read of a group can go before others do."""
        if self.readers and not self.awaited():
            self.trimmed = max(self.trimmed, min(reader.place for reader in self.readers))

    def fail(self, code: int) -> None:
        self.error = self.error or code
        self.discarded = True

    def awaited(self) -> bool:
        return self.kept and any(consumer.awaits(self) for consumer in self.track.consumers)

    def unread(self) -> int:
        if self.error is not None and (self.discarded or not self.frames):
            return 0
        if self.awaited():
            return self.size
        return max((self.size - sum(map(len, self.frames[: reader.place])) for reader in self.readers), default=0)

    def drained(self, limit: int) -> bool:
        if self.error is not None:
            return True
        if sum(group.unread() for group in self.track.kept() if group.number <= self.number) > limit:
            return False
        read = all(reader.place == len(self.frames) for reader in self.readers)
        return limit > 0 or (read and not self.awaited())


@dataclass(eq=False)
class Track:
    producer: TrackProducer
    groups: list[Group] = field(default_factory=list)
    """All there ever were, as they came."""
    finished: bool = False
    error: int | None = None
    consumers: list[Consumer] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        return self.finished or self.error is not None

    def kept(self) -> list[Group]:
        return [group for group in self.groups if group.kept]

    @property
    def latest(self) -> Group | None:
        return max(self.kept(), key=lambda group: group.number, default=None)

    def evict(self) -> None:
        while len(kept := self.kept()) > 1 and sum(group.cost for group in kept) > CACHE.max_bytes:
            kept.sort(key=lambda group: group.number)
            for group in kept[:-1][:8]:
                if sum(each.cost for each in kept) > CACHE.max_bytes:
                    group.trim_passed()
            if sum(each.cost for each in kept) <= CACHE.max_bytes:
                return
            oldest = kept[0]
            oldest.kept = False
            oldest.fail(ErrorCode.EVICTED)

    def end(self, code: int | None) -> None:
        if code is not None:
            self.producer.abort(code)
            if not self.closed:
                self.fail(code)
        elif self.error is None:
            self.producer.finish()
            self.finished = True

    def fail(self, code: int) -> None:
        self.error = self.error or code
        for group in self.kept():
            group.kept = False
            group.fail(code)


@dataclass(eq=False)
class Broadcast:
    producer: BroadcastProducer
    tracks: dict[str, Track] = field(default_factory=dict)

    def end(self, code: int | None) -> None:
        if code is None:
            self.producer.finish()
            for track in self.tracks.values():
                track.finished = track.finished or track.error is None
        else:
            self.producer.abort(code)
            for track in self.tracks.values():
                track.fail(code)


@dataclass(eq=False)
class Reader:
    """Reads a group."""

    group: Group
    consumer: GroupConsumer | None = None
    """None inside a consumer that reads frames."""
    place: int = 0
    closed: bool = False
    pending: asyncio.Task[object] | None = None

    def read(self) -> object:
        group = self.group
        if self.closed:
            return Failed(ErrorCode.CLOSED)
        if self.place < len(group.frames) and not group.discarded:
            self.place += 1
            return group.frames[self.place - 1]
        if group.finished and self.place == len(group.frames):
            return ENDED
        return Waits if group.error is None else Failed(group.error)

    def must_wait(self) -> bool:
        return self.read() is Waits

    def call(self) -> Coroutine[Any, Any, object]:
        assert self.consumer is not None
        return self.consumer.read_frame()

    def compare(self, actual: object) -> None:
        """Whether the real outcome of a call is the one foretold, which it takes."""
        assert actual == self.read()

    def close(self) -> None:
        assert self.consumer is not None
        self.consumer.close()
        self.leave()

    def leave(self) -> None:
        self.closed = True
        if self in self.group.readers:
            self.group.readers.remove(self)


@dataclass(eq=False)
class Consumer:
    """Reads a track in one of three ways."""

    track: Track
    consumer: TrackConsumer
    way: str
    ordered: bool
    start: int
    joined: int
    end: int | None
    given: set[Group] = field(default_factory=set)
    current: Reader | None = None
    closed: bool = False
    pending: asyncio.Task[object] | None = None
    readers: list[Reader] = field(default_factory=list)
    """Readers of the groups it was given, until they are taken up."""

    def wants(self, group: Group) -> bool:
        came = group not in self.given and self.track.groups.index(group) >= self.joined
        return came and group.number >= self.start and not group.trimmed

    def awaits(self, group: Group) -> bool:
        held = self.end is not None and group.number > self.end and not self.ordered
        return not self.closed and not held and self.wants(group)

    def read(self) -> object:
        return self.read_frame() if self.way == "frames" else self.read_group()

    def read_group(self) -> object:
        if self.closed:
            return Failed(ErrorCode.CLOSED)
        wanted = [group for group in self.track.kept() if self.wants(group)]
        allowed = [group for group in wanted if self.end is None or group.number <= self.end]
        if allowed:
            if self.way == "arrivals":
                group = allowed[0]
            else:
                group = min(allowed, key=lambda group: group.number)
                self.start = group.number + 1
            self.given.add(group)
            reader = Reader(group)
            group.readers.append(reader)
            return reader
        if wanted or not self.track.closed:
            return Waits
        return ENDED if self.track.error is None else Failed(self.track.error)

    def read_frame(self) -> object:
        while True:
            if self.current is None:
                given = self.read_group()
                if not isinstance(given, Reader):
                    return given
                self.current = given
            frame = self.current.read()
            if isinstance(frame, bytes) or frame is Waits:
                return frame
            self.current.leave()
            self.current = None
            if frame is not ENDED and frame != Failed(ErrorCode.EVICTED):
                return frame

    def must_wait(self) -> bool:
        return self.read() is Waits

    def call(self) -> Coroutine[Any, Any, object]:
        if self.way == "frames":
            return self.consumer.read_frame()
        return self.consumer.recv_group() if self.way == "arrivals" else self.consumer.next_group()

    def close(self) -> None:
        self.consumer.close()
        self.closed = True
        if self.current is not None:
            self.current.leave()
            self.current = None

    def compare(self, actual: object) -> None:
        """Whether the real outcome of a call is the one foretold, which it takes."""
        expected = self.read()
        if isinstance(expected, Reader):
            assert isinstance(actual, GroupConsumer)
            assert actual.sequence == expected.group.number
            expected.consumer = actual
            self.readers.append(expected)
        else:
            assert actual == expected


@dataclass(eq=False)
class Listener:
    """Follows an origin."""

    consumer: OriginConsumer
    prefix: str
    active: dict[str, BroadcastProducer]
    """What is available now."""
    told: dict[str, BroadcastConsumer] = field(default_factory=dict)
    pending: asyncio.Task[object] | None = None

    def true_now(self) -> dict[str, BroadcastConsumer]:
        paths = [path for path in self.active if (path + "/").startswith(self.prefix + "/" if self.prefix else "")]
        return {path: self.active[path].consume() for path in paths}

    def must_wait(self) -> bool:
        return self.told == self.true_now()

    def call(self) -> Coroutine[Any, Any, object]:
        return self.consumer.announced()

    def compare(self, news: object) -> None:
        """Whether it was told something that it did not know, and that brings it nearer to the truth."""
        assert isinstance(news, tuple)
        path, broadcast = news
        before, now = self.told.pop(path, None), self.true_now().get(path)
        if broadcast is None:
            assert before is not None
            assert before != now
        else:
            assert before is None
            assert broadcast == now
            self.told[path] = broadcast

"""This package, by its public names alone."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from iroh_moq import (
    BroadcastConsumer,
    BroadcastProducer,
    Cache,
    GroupProducer,
    Moq,
    MoqSession,
    TrackConsumer,
    TrackProducer,
)

from ..channel import Channel
from ..contender import (
    BROADCAST,
    Contender,
    FrameSink,
    GroupSink,
    GroupWriter,
    Publisher,
    Subscriber,
    TrackReader,
    TrackWriter,
    Window,
)

__all__ = ["IrohMoq", "IrohMoqWithoutDriver"]


class _GroupWriter(GroupWriter):
    def __init__(self, group: GroupProducer) -> None:
        self._group = group

    def write(self, frame: bytes) -> None:
        self._group.write_frame(frame)

    def finish(self) -> None:
        self._group.finish()


class _TrackWriter(TrackWriter):
    def __init__(self, track: TrackProducer, window: Window) -> None:
        self._track = track
        self._limit = window.bytes

    async def write_group(self, frames: Sequence[bytes]) -> None:
        with self._track.append_group() as group:
            for frame in frames:
                group.write_frame(frame)
        await group.drained(self._limit)

    def begin_group(self) -> GroupWriter:
        return _GroupWriter(self._track.append_group())

    def send(self, frame: bytes) -> None:
        self._track.write_frame(frame)


class _Publisher(Publisher):
    def __init__(self, moq: Moq) -> None:
        self._moq = moq
        self._broadcasts: list[BroadcastProducer] = []

    @property
    def address(self) -> str:
        return self._moq.ticket()

    async def publish(self, tracks: Sequence[str], window: Window, readers: int = 1) -> list[TrackWriter]:
        # The window, the group that is being written and those on their way must all be kept.
        broadcast = BroadcastProducer(cache=Cache(max_bytes=max(Cache().max_bytes, 4 * window.bytes)))
        writers: list[TrackWriter] = [_TrackWriter(broadcast.create_track(name), window) for name in tracks]
        await self._offer(BROADCAST, broadcast)
        return writers

    async def announce(self, names: Sequence[str]) -> None:
        for name in names:
            await self._offer(name, BroadcastProducer())

    async def _offer(self, name: str, broadcast: BroadcastProducer) -> None:
        self._broadcasts.append(broadcast)
        await self._moq.publish(name, broadcast)


class _TrackReader(TrackReader):
    def __init__(self, track: TrackConsumer) -> None:
        self._track = track

    async def groups(self, sink: GroupSink) -> None:
        async for group in self._track:
            sink(group.sequence, [frame async for frame in group])

    async def frames(self, sink: FrameSink) -> None:
        # By arrival, so that a group which was overtaken is late and not lost.
        while (group := await self._track.recv_group()) is not None:
            async for frame in group:
                sink(group.sequence, frame)


class _Subscriber(Subscriber):
    def __init__(self, moq: Moq) -> None:
        self._moq = moq
        self._session: MoqSession | None = None
        self._broadcast: BroadcastConsumer | None = None

    async def connect(self, address: str) -> None:
        self._session = await self._moq.connect(address)

    async def subscribe(self, track: str, window: Window | None = None) -> TrackReader:
        assert self._session is not None
        if self._broadcast is None:
            self._broadcast = await self._session.subscribe(BROADCAST)
        if window is None:
            return _TrackReader(self._broadcast.subscribe_track(track))
        return _TrackReader(self._broadcast.subscribe_track(track, ordered=True, start_group=0))

    async def announced(self, count: int) -> list[str]:
        assert self._session is not None
        origin = self._session.origin_consumer()
        names: list[str] = []
        while len(names) < count and (news := await origin.announced()) is not None:
            names.append(news[0])
        return names


class IrohMoq(Contender):
    """As it is installed: with its native driver, where that was built."""

    name: ClassVar[str] = "iroh-moq"
    packages: ClassVar[tuple[str, ...]] = ("iroh-moq", "iroh")

    @asynccontextmanager
    async def publisher(self, channel: Channel) -> AsyncIterator[Publisher]:
        async with await Moq.bind(network="loopback") as moq:
            yield _Publisher(moq)

    @asynccontextmanager
    async def subscriber(self, channel: Channel) -> AsyncIterator[Subscriber]:
        async with await Moq.bind(network="loopback") as moq:
            yield _Subscriber(moq)

    def facts(self) -> dict[str, object]:
        return {"driver": "iroh_moq.transport._driver" in sys.modules}


class IrohMoqWithoutDriver(IrohMoq):
    """On the calls of the `iroh` package, as where there is no compiler."""

    name: ClassVar[str] = "iroh-moq without driver"
    environment: ClassVar[Mapping[str, str]] = {"IROH_MOQ_NO_EXTENSION": "1"}

"""`moq-rs`: the Rust implementation by its own Python package, server and client, over its own QUIC.

It has no subscription that loses nothing: a publisher keeps groups for a time, and a reader skips what has
grown old. What is natural to lose nothing all the same is to be no further ahead than a window, so the
subscriber acknowledges groups over the channel between the two processes (four times a window, which costs
next to nothing), the maximum age is far longer than a window takes, and groups are read by arrival, for in
order `next_group` skips those that were overtaken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, ClassVar

import moq

from ..channel import Channel, Message
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

__all__ = ["MoqRs"]

_MAX_AGE_US = 30_000_000
_ACKNOWLEDGEMENTS = 4
"""How many times in each window the subscriber acknowledges."""


class _Acknowledged:
    """How many groups every reader has got, as they acknowledge it."""

    def __init__(self, channel: Channel, readers: int) -> None:
        self._readers = readers
        self._groups: dict[int, int] = {}
        self._news = asyncio.Event()
        channel.on("acknowledge", self._note)

    def _note(self, message: Message) -> None:
        self._groups[message["reader"]] = message["groups"]
        self._news.set()

    @property
    def by_all(self) -> int:
        return min(self._groups.values()) if len(self._groups) == self._readers else 0

    async def reach(self, groups: int) -> None:
        while self.by_all < groups:
            self._news.clear()
            await self._news.wait()


def _now_us() -> int:
    return time.monotonic_ns() // 1000


class _GroupWriter(GroupWriter):
    def __init__(self, group: moq.GroupProducer) -> None:
        self._group = group

    def write(self, frame: bytes) -> None:
        self._group.write_frame(frame, _now_us())

    def finish(self) -> None:
        self._group.finish()


class _TrackWriter(TrackWriter):
    def __init__(self, track: moq.TrackProducer, window: Window, acknowledged: _Acknowledged) -> None:
        self._track = track
        self._window = window.groups
        self._acknowledged = acknowledged
        self._written = 0

    async def write_group(self, frames: Sequence[bytes]) -> None:
        group = self._track.append_group()
        for frame in frames:
            group.write_frame(frame)
        group.finish()
        self._written += 1
        await self._acknowledged.reach(self._written - self._window)

    def begin_group(self) -> GroupWriter:
        return _GroupWriter(self._track.append_group())

    def send(self, frame: bytes) -> None:
        self._track.write_frame(frame, _now_us())


class _Publisher(Publisher):
    def __init__(self, address: str, origin: moq.OriginProducer, channel: Channel) -> None:
        self._address = address
        self._origin = origin
        self._channel = channel
        self._broadcasts: list[moq.BroadcastProducer] = []

    @property
    def address(self) -> str:
        return self._address

    async def publish(self, tracks: Sequence[str], window: Window, readers: int = 1) -> list[TrackWriter]:
        acknowledged = _Acknowledged(self._channel, readers)
        broadcast = self._origin.create_broadcast(BROADCAST)
        info = moq.TrackInfo(max_age_us=_MAX_AGE_US)
        writers: list[TrackWriter] = [
            _TrackWriter(broadcast.publish_track(name, info), window, acknowledged) for name in tracks
        ]
        broadcast.announce()
        self._broadcasts.append(broadcast)
        return writers

    async def announce(self, names: Sequence[str]) -> None:
        for name in names:
            broadcast = self._origin.create_broadcast(name)
            broadcast.announce()
            self._broadcasts.append(broadcast)


class _TrackReader(TrackReader):
    _numbers = count()

    def __init__(self, track: moq.TrackConsumer, window: Window | None, channel: Channel) -> None:
        self._track = track
        self._every = max(1, window.groups // _ACKNOWLEDGEMENTS) if window else 0
        self._channel = channel
        self._number = next(self._numbers)

    async def groups(self, sink: GroupSink) -> None:
        read = 0
        while (group := await self._track.recv_group()) is not None:
            sink(group.sequence, [frame.payload async for frame in group])
            read += 1
            if self._every and read % self._every == 0:
                self._channel.tell("acknowledge", reader=self._number, groups=read)

    async def frames(self, sink: FrameSink) -> None:
        while (group := await self._track.recv_group()) is not None:
            async for frame in group:
                sink(group.sequence, frame.payload)


class _Subscriber(Subscriber):
    def __init__(self, stack: AsyncExitStack, channel: Channel) -> None:
        self._stack = stack
        self._channel = channel
        self._origin = moq.OriginProducer()
        self._broadcast: moq.BroadcastConsumer | None = None

    async def connect(self, address: str) -> None:
        # The scheme makes it raw QUIC, as iroh's is.
        client: Any = moq.Client(
            address, tls_verify=False, websocket_enabled=False, reconnect=False, subscribe=self._origin
        )
        await self._stack.enter_async_context(client)

    async def subscribe(self, track: str, window: Window | None = None) -> TrackReader:
        if self._broadcast is None:
            self._broadcast = await self._origin.consume().announced_broadcast(BROADCAST)
        wishes = moq.Subscription(max_age_us=_MAX_AGE_US)
        return _TrackReader(await self._broadcast.subscribe_track(track, wishes), window, self._channel)

    async def announced(self, count: int) -> list[str]:
        news = self._origin.consume().announced()
        return [(await anext(news)).prefix for _ in range(count)]


class MoqRs(Contender):
    name: ClassVar[str] = "moq-rs"
    packages: ClassVar[tuple[str, ...]] = ("moq-rs", "moq-ffi")

    @asynccontextmanager
    async def publisher(self, channel: Channel) -> AsyncIterator[Publisher]:
        origin = moq.OriginProducer()
        server: Any = moq.Server(
            "127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=moq.OriginProducer()
        )
        async with server:
            serving = asyncio.create_task(server.serve())
            port = server.local_addr.rpartition(":")[2]
            try:
                yield _Publisher(f"moql://127.0.0.1:{port}", origin, channel)
            finally:
                serving.cancel()
                await asyncio.wait([serving])

    @asynccontextmanager
    async def subscriber(self, channel: Channel) -> AsyncIterator[Subscriber]:
        async with AsyncExitStack() as stack:
            yield _Subscriber(stack, channel)

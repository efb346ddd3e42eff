"""One of our sessions, and the peer at the other end of its connection, driven by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from iroh_moq import (
    BroadcastProducer,
    Cache,
    GroupProducer,
    Limits,
    MoqError,
    OriginProducer,
    Subscription,
    TrackProducer,
)
from iroh_moq.lite import LiteSession
from iroh_moq.lite.messages import Announce, AnnounceOk, AnnounceRequest, Setup, Subscribe
from iroh_moq.lite.policy import Policy
from iroh_moq.model.cache import DEFAULT_CACHE
from iroh_moq.transport import RecvStream, SendStream, StreamReset, StreamStopped
from iroh_moq.transport.memory import MemoryTransport
from tests.conftest import MakePair, idle, within

PEER = 99
"""The id of the peer's origin."""


class Bytes:
    """A stream that the peer reads: so many bytes, or all to its end."""

    def __init__(self, stream: RecvStream) -> None:
        self.stream = stream

    @property
    def priority(self) -> int:
        """What its writer has set."""
        stream: Any = self.stream
        return int(stream._pipe.priority)

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes, which must come."""
        data = b""
        async with within():
            while len(data) < size:
                more = await self.stream.read(size - len(data))
                assert more, f"the stream ended after {data!r}"
                data += more
        return data

    async def expect(self, *parts: bytes) -> None:
        """Reads these bytes and no others."""
        wanted = b"".join(parts)
        assert await self.read(len(wanted)) == wanted

    async def rest(self) -> bytes:
        """Everything up to the end, which must be a good one."""
        data = b""
        async with within():
            while more := await self.stream.read():
                data += more
        return data

    async def reset(self) -> int:
        """The code that the stream is reset with, whatever comes before."""
        with pytest.raises(StreamReset) as caught:
            await self.rest()
        return caught.value.code

    async def quiet(self) -> None:
        """Nothing comes, and no end, once everything that can happen has."""
        await idle()
        stream: Any = self.stream
        pipe = stream._pipe
        assert (list(pipe.chunks), pipe.finished, pipe.reset, pipe.lost) == ([], False, None, None)

    def stop(self, code: int) -> None:
        self.stream.stop(code)


class Writer:
    """A stream that the peer writes."""

    def __init__(self, stream: SendStream) -> None:
        self.stream = stream

    async def write(self, *parts: bytes) -> None:
        async with within():
            await self.stream.write(b"".join(parts))

    async def finish(self) -> None:
        self.stream.finish()

    def reset(self, code: int) -> None:
        self.stream.reset(code)

    async def stopped(self) -> int:
        """The code that our side stops the stream with."""
        await idle()
        with pytest.raises(StreamStopped) as caught:
            await self.stream.write(b"\0")
        return caught.value.code


class Exchange(Writer):
    """Both halves of a bidirectional stream."""

    def __init__(self, stream: tuple[SendStream, RecvStream]) -> None:
        super().__init__(stream[0])
        self.reply = Bytes(stream[1])

    async def refused(self) -> int:
        """The one code that both halves are ended with by our side."""
        code = await self.reply.reset()
        assert await self.stopped() == code
        return code


class Lite:
    """A session of ours with what it offers and receives, and the peer's end of the connection."""

    def __init__(self, make: MakePair, limits: Limits | None = None, **options: Any) -> None:
        self.ours, self.peer = make(**options)
        self.offered, self.received = OriginProducer(), OriginProducer()
        self.policy = Policy(self.ours.remote_id, limits=limits or Limits())
        self._begun: list[GroupProducer] = []
        self.session = LiteSession(self.ours, self.offered.consume(), self.received, self.policy)

    # The peer subscribes.

    def publish(
        self, name: str = "cam", track: str = "video", priority: int = 0, cache: Cache = DEFAULT_CACHE
    ) -> tuple[BroadcastProducer, TrackProducer]:
        """A broadcast of ours with one track."""
        broadcast = BroadcastProducer(cache=cache)
        producer = broadcast.create_track(track, priority)
        self.offered.publish_broadcast(name, broadcast.consume())
        return broadcast, producer

    def begin(self, track: TrackProducer, *frames: bytes, sequence: int | None = None) -> GroupProducer:
        """A group with these frames that stays unfinished, even if nobody keeps it."""
        group = track.append_group() if sequence is None else track.create_group(sequence)
        self._begun.append(group)
        for frame in frames:
            group.write_frame(frame)
        return group

    async def request(self, *parts: bytes) -> Exchange:
        """A stream that the peer opens and begins with these bytes."""
        async with within():
            exchange = Exchange(await self.peer.open_bi())
            await exchange.write(*parts)
        return exchange

    async def announce(self, prefix: str = "") -> Exchange:
        return await self.request(AnnounceRequest(prefix).encode(self.session.version))

    async def subscribe(self, id: int = 0, broadcast: str = "cam", track: str = "video", **wishes: Any) -> Exchange:
        return await self.request(Subscribe(id, broadcast, track, Subscription(**wishes)).encode())

    async def next_group(self) -> Bytes:
        """The next unidirectional stream that our side opens."""
        async with within():
            return Bytes(await self.peer.accept_uni())

    async def no_group(self) -> None:
        """Our side has opened no other."""
        await idle()
        assert not self.peer._uni

    # The peer publishes.

    async def asked(self) -> Exchange:
        """The next stream that our side opens."""
        async with within():
            return Exchange(await self.peer.accept_bi())

    async def announcing(self) -> Exchange:
        """The stream on which our side wants to hear of broadcasts, which is the first it opens."""
        exchange = await self.asked()
        version, own = self.session.version, self.session.origin_id
        await exchange.reply.expect(AnnounceRequest("", own).encode(version))
        if version.announce_ok:
            await exchange.write(AnnounceOk(PEER, 0).encode())
        return exchange

    async def set_up(self) -> None:
        """The first stream of all says what our side can do."""
        stream = await self.next_group()
        assert await stream.rest() == Setup(self.session.origin_id, 1).encode()

    async def group(self, *parts: bytes) -> Writer:
        """A unidirectional stream that the peer opens and begins with these bytes."""
        async with within():
            writer = Writer(await self.peer.open_uni())
            await writer.write(*parts)
        return writer

    async def whole_group(self, *parts: bytes) -> Writer:
        """The same, and ended."""
        writer = await self.group(*parts)
        await writer.finish()
        return writer

    async def still_answers(self) -> None:
        """The session lives: another stream is served as ever."""
        assert self.ours.close_error is None
        self.publish("still/there")
        exchange = await self.announce("still")
        version, own = self.session.version, self.session.origin_id
        if version.announce_ok:
            await exchange.reply.expect(AnnounceOk(own, 1).encode())
        route = () if version.announce_ok else (own,)
        await exchange.reply.expect(Announce(True, "there", 1, route).encode(version))
        await exchange.finish()
        assert await exchange.reply.rest() == b""


@asynccontextmanager
async def lite(make: MakePair, **options: Any) -> AsyncIterator[Lite]:
    """A session that is closed by the peer in the end, and of which nothing is left then."""
    run = Lite(make, **options)
    try:
        yield run
    finally:
        run.peer.close(0, "")
        async with within():
            await run.session.closed()


def assert_no_streams(transport: MemoryTransport, but: int = 0) -> None:
    """No direction of a stream is open, but so many."""
    assert transport.open_streams == but


async def code_of(awaitable: Any) -> int:
    """The code of the MoqError that this must end with."""
    async with within():
        with pytest.raises(MoqError) as caught:
            await awaitable
    return caught.value.code

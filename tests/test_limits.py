"""Each limit, with a hostile or greedy peer that runs into it, and an honest one beside it that does not notice.

A test is named after the field it is about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from iroh_moq import (
    ALPN,
    ALPNS,
    BroadcastProducer,
    ErrorCode,
    InvalidArgument,
    InvalidType,
    Limits,
    Moq,
    MoqSession,
    ServerError,
    TrackConsumer,
    TrackProducer,
)
from iroh_moq.address import dial, parse_remote
from iroh_moq.aio import TaskScope
from iroh_moq.lite.messages import Announce, AnnounceRequest, Group, Subscribe
from iroh_moq.lite.version import LITE_03
from iroh_moq.lite.wire import varint
from iroh_moq.model import Subscription
from iroh_moq.transport import TransportError
from tests.conftest import MakePair, idle, within
from tests.endpoints import PATIENCE, bare_endpoint, bound, published, subscribed
from tests.lite.peer import Lite, lite

GROUPS = 20


async def pass_on(producer: TrackProducer, consumer: TrackConsumer) -> None:
    """Every group arrives, in bounded time."""
    async with within(PATIENCE):
        for number in range(GROUPS):
            data = b"%d" % number
            producer.write_frame(data)
            assert await consumer.read_frame() == data


class Honest:
    """An honest peer, which both publishes to our side and subscribes there."""

    def __init__(self, *tracks: tuple[TrackProducer, TrackConsumer]) -> None:
        self._tracks = tracks

    async def unharmed(self) -> None:
        for producer, consumer in self._tracks:
            await pass_on(producer, consumer)


async def _track(publisher: MoqSession, subscriber: MoqSession) -> tuple[TrackProducer, TrackConsumer]:
    broadcast = BroadcastProducer()
    producer = broadcast.create_track("video")
    publisher.publish("cam", broadcast.consume())
    async with within():
        found = await subscriber.subscribe("cam")
    return producer, found.subscribe_track("video", ordered=True, start_group=0)


@asynccontextmanager
async def honest(make: MakePair) -> AsyncIterator[Honest]:
    made = [await MoqSession.session_connect(end) for end in make()]
    try:
        peer = Honest(await _track(made[0], made[1]), await _track(made[1], made[0]))
        await peer.unharmed()
        yield peer
        await peer.unharmed()
    finally:
        for session in made:
            session.close()
            await session.closed()


@asynccontextmanager
async def beside(make: MakePair, limits: Limits, **options: Any) -> AsyncIterator[tuple[Lite, Honest]]:
    """A session of ours with limits, whose peer is driven by hand, and an honest one."""
    async with honest(make) as peer, lite(make, limits=limits, **options) as run:
        yield run, peer


def refusals(run: Lite, limit: str) -> int:
    return run.policy.refusals.counts.get(limit, 0)


async def eventually(true: Callable[[], bool]) -> None:
    async with within(PATIENCE):
        while not true():  # noqa: ASYNC110 - nothing tells of a change in the metrics
            await asyncio.sleep(0.01)


async def receiving(run: Lite, *, ordered: bool = False) -> TrackConsumer:
    """The peer has a broadcast, and our side reads a track of it."""
    news = await run.announcing()
    await news.write(Announce(True, "mic", 1).encode(LITE_03))
    await idle()
    broadcast = run.received.consume_broadcast("mic")
    assert broadcast is not None
    track = broadcast.subscribe_track("sound", ordered=ordered, start_group=0)
    await run.asked()
    return track


# Sessions, on real connections


async def honest_session(moq: Moq, viewer: Moq) -> Honest:
    _, producer = await published(moq)
    _, broadcast = await subscribed(moq, viewer)
    peer = Honest((producer, broadcast.subscribe_track("video", ordered=True, start_group=0)))
    await peer.unharmed()
    return peer


async def test_sessions() -> None:
    async with bound(limits=Limits(sessions=1)) as moq, bound() as viewer, bound() as greedy:
        peer = await honest_session(moq, viewer)
        async with within(PATIENCE):
            with pytest.raises(ServerError) as caught:
                await greedy.connect(moq.ticket())
        assert (caught.value.code, caught.value.reason) == (ErrorCode.BOUNDS_EXCEEDED, "too many sessions")
        assert moq.metrics().refusals == {"sessions": 1}
        await peer.unharmed()


async def test_connections_per_peer() -> None:
    decided = asyncio.Event()
    asked: list[str] = []

    async def authorize(peer: Any) -> bool:
        asked.append(str(peer))
        if str(peer) != str(viewer.id()):
            await decided.wait()
        return True

    limits = Limits(connections_per_peer=2)
    async with bound() as viewer, bound(limits=limits, authorize=authorize) as moq, bare_endpoint() as greedy:
        peer = await honest_session(moq, viewer)
        async with within(PATIENCE):
            dialled = [await dial(greedy, parse_remote(moq.ticket()), ALPN) for _ in range(2)]
            await eventually(lambda: len(asked) == 3)
            third = await dial(greedy, parse_remote(moq.ticket()), ALPN)
            assert "too many connections" in await third.closed()
        assert moq.metrics().refusals == {"connections_per_peer": 1}
        await peer.unharmed()
        decided.set()
        for connection in dialled:
            connection.close(0, b"")


class HalfOpen(asyncio.DatagramProtocol):
    """Begins a handshake and never goes on, but shows its address if it must."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        # So many names that the first packet does not hold them all.
        names = [f"{number:0200}" for number in range(30)]
        self._quic = QuicConnection(
            configuration=QuicConfiguration(is_client=True, alpn_protocols=names, server_name="x")
        )
        self._retried = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._quic.connect(self._address, time.monotonic())
        self._send()

    def _send(self) -> None:
        data, _ = self._quic.datagrams_to_send(time.monotonic())[0]
        self._transport.sendto(data)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        is_retry = data[0] & 0xF0 == 0xF0
        if is_retry and not self._retried:
            self._retried = True
            self._quic.receive_datagram(data, self._address, time.monotonic())
            self._send()


@asynccontextmanager
async def half_open(moq: Moq, count: int) -> AsyncIterator[None]:
    address = next(a for a in parse_remote(moq.ticket()).direct_addresses() if a.startswith("127."))
    host, port = address.rsplit(":", 1)
    target = host, int(port)
    transports = []
    try:
        for _ in range(count):
            transport, _protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: HalfOpen(target), remote_addr=target
            )
            transports.append(transport)
        yield
    finally:
        for transport in transports:
            transport.close()


async def test_handshakes() -> None:
    async with bound(limits=Limits(handshakes=2, handshake_seconds=60)) as moq, bound() as viewer:
        _, producer = await published(moq)
        async with half_open(moq, 6):
            await eventually(lambda: moq.metrics().refusals.get("handshakes", 0) > 0)
            _, broadcast = await subscribed(moq, viewer)
            await pass_on(producer, broadcast.subscribe_track("video", ordered=True, start_group=0))


async def test_handshake_seconds() -> None:
    async with bound(limits=Limits(handshake_seconds=0.5)) as moq, bound() as viewer:
        peer = await honest_session(moq, viewer)
        async with half_open(moq, 1):
            await eventually(lambda: moq.metrics().handshakes_failed["incoming"] == 1)
            await peer.unharmed()


# What a peer has open at a time


async def test_bi_streams(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(bi_streams=3)) as (run, peer):
        run.publish()
        held = [await run.announce() for _ in range(3)]
        for each in held:
            await each.reply.expect(Announce(True, "cam", 1).encode(LITE_03))
        more = await run.announce()
        await more.reply.quiet()
        await peer.unharmed()
        await held[0].finish()
        await more.reply.expect(Announce(True, "cam", 1).encode(LITE_03))
        assert refusals(run, "bi_streams") == 1


async def test_uni_streams(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(uni_streams=3)) as (run, peer):
        track = await receiving(run)
        held = [await run.group(Group(0, number).encode()) for number in range(3)]
        await idle()
        await run.whole_group(Group(0, 3).encode(), b"\x01d")
        await idle()
        assert track._state.arrivals == 3
        await peer.unharmed()
        for stream in held:
            await stream.finish()
        async with within():
            assert [(await track.next_group() or pytest.fail("ended")).sequence for _ in range(4)] == [0, 1, 2, 3]
        assert refusals(run, "uni_streams") == 1


async def test_subscriptions(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(subscriptions=2)) as (run, peer):
        _, track = run.publish()
        first, _second = [await run.subscribe(number) for number in range(2)]
        await idle()
        assert await (await run.subscribe(2)).refused() == ErrorCode.BOUNDS_EXCEEDED
        await peer.unharmed()
        track.write_frame(b"x")
        assert await (await run.next_group()).rest() == Group(0, 0).encode() + b"\x01x"
        await first.finish()
        await idle()
        await (await run.subscribe(3)).reply.read(1)
        assert refusals(run, "subscriptions") == 1


async def test_announce_streams(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(announce_streams=2)) as (run, peer):
        run.publish()
        held = [await run.announce() for _ in range(2)]
        assert await (await run.announce()).refused() == ErrorCode.BOUNDS_EXCEEDED
        await peer.unharmed()
        for each in held:
            await each.reply.expect(Announce(True, "cam", 1).encode(LITE_03))
        assert refusals(run, "announce_streams") == 1


async def test_probe_streams(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(probe_streams=2)) as (run, peer):
        held = [await run.request(b"\x04") for _ in range(2)]
        assert await (await run.request(b"\x04")).refused() == ErrorCode.BOUNDS_EXCEEDED
        await peer.unharmed()
        for each in held:
            await each.reply.read(1)
        assert refusals(run, "probe_streams") == 1


async def test_announcements(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(announcements=3)) as (run, peer):
        news = await run.announcing()
        await news.write(*(Announce(True, name, 1).encode(LITE_03) for name in "abc"))
        await news.reply.quiet()
        await news.write(Announce(True, "d", 1).encode(LITE_03))
        assert await news.refused() == ErrorCode.BOUNDS_EXCEEDED
        await peer.unharmed()
        assert refusals(run, "announcements") == 1
        await run.still_answers()


# Sizes


async def test_message_bytes(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(message_bytes=64)) as (run, peer):
        fits = await run.request(AnnounceRequest("x" * 60).encode(LITE_03))
        await fits.reply.quiet()
        for start in (b"\x01", b"\x02"):
            assert await (await run.request(start, varint(65))).refused() == ErrorCode.FRAME_TOO_LARGE
        assert await (await run.group(b"\x00", varint(65))).stopped() == ErrorCode.FRAME_TOO_LARGE
        news = await run.announcing()
        await news.write(varint(65))
        assert await news.refused() == ErrorCode.FRAME_TOO_LARGE
        await peer.unharmed()
        assert refusals(run, "frame_too_large") == 4


async def test_frame_bytes(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(frame_bytes=1000)) as (run, peer):
        track = await receiving(run)
        await run.whole_group(Group(0, 0).encode(), varint(1000), bytes(1000))
        assert await (await run.group(Group(0, 1).encode(), varint(1001))).stopped() == ErrorCode.FRAME_TOO_LARGE
        async with within():
            assert await track.read_frame() == bytes(1000)
        await peer.unharmed()
        assert refusals(run, "frame_too_large") == 1


async def test_track_bytes(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(track_bytes=20_000)) as (run, peer):
        track = await receiving(run)
        for number in range(50):
            await run.whole_group(Group(0, number).encode(), varint(1000), bytes(1000))
            await idle()
            assert track._state.cost <= 20_000
        await peer.unharmed()
        assert track._state.latest == 49


async def test_session_bytes(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(session_bytes=50_000)) as (run, peer):
        large = await receiving(run)
        broadcast = run.received.consume_broadcast("mic")
        assert broadcast is not None
        small = broadcast.subscribe_track("small", start_group=0)
        await run.asked()
        await run.whole_group(Group(1, 0).encode(), varint(100), bytes(100))
        for number in range(100):
            await run.whole_group(Group(0, number).encode(), varint(1000), bytes(1000))
            await idle()
            assert large._state.cost + small._state.cost <= 50_000
        # Those that never end count as well.
        for number in range(100, 110):
            await run.group(Group(0, number).encode(), varint(1 << 20), bytes(20_000))
            await idle()
            assert large._state.cost + small._state.cost <= 50_000
        async with within():
            assert await small.read_frame() == bytes(100)
        await peer.unharmed()
        assert refusals(run, "session_bytes") > 0


# Times


async def test_message_seconds(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(message_seconds=0.2)) as (run, peer):
        track = await receiving(run)
        waiting = await run.group(Group(0, 0).encode(), b"\x01a")
        # Requests, of which one drips, and a header.
        silent = [await run.request(begun) for begun in (b"\x02", b"\x01\x05", b"\x02\x20\x00")]
        nameless = await run.group(b"\x00\x05")
        await peer.unharmed()
        for each in silent:
            assert await each.reply.reset() == ErrorCode.TIMEOUT
        await eventually(lambda: refusals(run, "message_seconds") == 4)
        assert await nameless.stopped() == ErrorCode.TIMEOUT
        await waiting.write(b"\x01b")
        await waiting.finish()
        async with within():
            assert [await track.read_frame(), await track.read_frame()] == [b"a", b"b"]


async def test_what_may_be_of_a_reliable_track_is_waited_for(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(message_seconds=0.1)) as (run, peer):
        track = await receiving(run, ordered=True)
        nameless = await run.group(b"\x00")
        silent = await run.request(b"\x02")
        assert await silent.reply.reset() == ErrorCode.TIMEOUT
        await peer.unharmed()
        await nameless.write(Group(0, 0).encode()[1:], b"\x01a")
        async with within():
            assert await track.read_frame() == b"a"
        # Nobody else could miss anything.
        nameless = await run.group(b"\x00")
        track.close()
        await eventually(lambda: refusals(run, "message_seconds") == 2)
        assert await nameless.stopped() == ErrorCode.TIMEOUT


async def test_blocked_seconds(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(blocked_seconds=0.2), window=1000) as (run, peer):
        _, track = run.publish()
        all_of_it = await run.subscribe(0, ordered=True)
        some = await run.subscribe(1)
        await idle()
        group = track.append_group()
        group.write_frame(bytes(5000))
        group.finish()
        streams = [await run.next_group() for _ in range(2)]
        await peer.unharmed()
        # A publisher that waits for its readers goes on.
        async with within():
            await group.drained()
        assert await all_of_it.reply.reset() == ErrorCode.TIMEOUT
        assert [await stream.reset() for stream in streams] == [ErrorCode.TIMEOUT] * 2
        track.write_frame(b"next")
        assert await (await run.next_group()).rest() == Group(1, 1).encode() + b"\x04next"
        await some.finish()
        assert refusals(run, "blocked_seconds") == 2


# Rates: how much has been done can be told from the time that has passed, however fast the machine is.

RATE, MANY = 20, 45


class Stopwatch:
    """At most so many may have happened: a second's worth at once, then so many a second, in small batches."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()

    def checked(self, done: int) -> int:
        assert done <= RATE + RATE * (asyncio.get_running_loop().time() - self._began) + 2
        return done


async def test_groups_per_second(memory_pair: MakePair) -> None:
    async with beside(memory_pair, Limits(groups_per_second=RATE)) as (run, peer):
        track = await receiving(run)
        watch = Stopwatch()
        for number in range(MANY):
            await run.whole_group(Group(0, number).encode(), b"\x01x")
        await idle()
        watch.checked(track._state.arrivals)
        await peer.unharmed()
        async with within(PATIENCE):
            for number in range(MANY):
                group = await track.next_group()
                assert group is not None
                assert group.sequence == number
                watch.checked(track._state.arrivals)
        assert refusals(run, "groups_per_second") > 0


def answered(run: Lite, request: bytes, tasks: TaskScope) -> list[int]:
    """Makes many requests; how many of them have been answered, as it changes."""
    count = [0]

    async def ask() -> None:
        exchange = await run.request(request)
        await exchange.finish()
        with suppress(TransportError):
            await exchange.reply.stream.read()
        count[0] += 1

    for _ in range(MANY):
        tasks.spawn(ask(), "ask")
    return count


async def test_requests_per_second(memory_pair: MakePair) -> None:
    tasks = TaskScope("test")
    async with beside(memory_pair, Limits(requests_per_second=RATE)) as (run, peer):
        run.publish()
        watch = Stopwatch()
        count = answered(run, AnnounceRequest("").encode(LITE_03), tasks)
        await idle()
        watch.checked(count[0])
        assert count[0] >= RATE
        await peer.unharmed()
        await eventually(lambda: watch.checked(count[0]) == MANY)
        assert refusals(run, "requests_per_second") > 0


async def test_refusals_per_second(memory_pair: MakePair) -> None:
    tasks = TaskScope("test")
    async with beside(memory_pair, Limits(refusals_per_second=RATE)) as (run, peer):
        watch = Stopwatch()
        count = answered(run, Subscribe(0, "no", "no", Subscription()).encode(), tasks)
        await idle()
        watch.checked(count[0])
        assert count[0] >= RATE
        await peer.unharmed()
        await eventually(lambda: watch.checked(count[0]) == MANY)
        assert refusals(run, "refusals_per_second") > 0
        await run.still_answers()


# The object itself

NAMES = [field.name for field in fields(Limits)]


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_its_test_and_its_row(name: str) -> None:
    assert f"test_{name}" in globals()
    security = (Path(__file__).parents[1] / "SECURITY.md").read_text()
    assert f"| `{name}` |" in security


@pytest.mark.parametrize("name", NAMES)
def test_mistakes_of_the_caller(name: str) -> None:
    value: Any
    for value in ("1", None, True):
        with pytest.raises(InvalidType, match=name):
            Limits(**{name: value})
    for value in (0, -1):
        with pytest.raises(InvalidArgument, match=name):
            Limits(**{name: value})


def test_more_mistakes() -> None:
    with pytest.raises(InvalidType, match="sessions"):
        Limits(sessions=1.5)  # type: ignore[arg-type]
    wrong: Any
    for wrong in ({"frame_bytes": 1 << 30}, {"message_bytes": 63}, {"message_seconds": 1e6}):
        with pytest.raises(InvalidArgument):
            Limits(**wrong)


async def test_limits_must_be_limits() -> None:
    wrong: Any = {"sessions": 1}
    with pytest.raises(InvalidType, match="limits must be a Limits"):
        await Moq.bind(network="loopback", limits=wrong)
    async with bare_endpoint(alpns=ALPNS) as endpoint:
        with pytest.raises(InvalidType, match="limits must be a Limits"):
            Moq(endpoint, limits=wrong)

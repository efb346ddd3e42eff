"""Versions of the protocol between sessions of ours: which is spoken, and what it can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from iroh import Connection, Endpoint, EndpointAddr

from iroh_moq import (
    ALPN,
    ALPNS,
    MAX_DATAGRAM_SIZE,
    BroadcastConsumer,
    BroadcastProducer,
    ConnectError,
    ErrorCode,
    InvalidArgument,
    InvalidType,
    Moq,
    MoqError,
    MoqSession,
    Router,
    TrackInfo,
    TrackProducer,
    address,
)
from iroh_moq.address import Dialer, parse_remote
from tests.conftest import MakePair, idle, within
from tests.endpoints import PATIENCE, bare_endpoint, bound, published, subscribed
from tests.transport.ends import both

every_version = pytest.mark.parametrize("alpn", ALPNS, ids=bytes.decode)
NEWEST = ALPNS[0]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The protocols that were dialled with."""
    names: list[bytes] = []
    real = address.dial

    async def counting(endpoint: Endpoint, remote: EndpointAddr, alpn: bytes) -> Connection:
        names.append(alpn)
        return await real(endpoint, remote, alpn)

    monkeypatch.setattr(address, "dial", counting)
    return names


class TestNegotiation:
    async def test_the_newest_that_both_speak(self) -> None:
        async with bound() as alice, bound() as bob:
            incoming = alice.incoming_sessions()
            session = await bob.connect(alice.ticket())
            assert (session.alpn, session.version) == (NEWEST, "moq-lite-05")
            accepted = await asyncio.wait_for(incoming.next(), PATIENCE)
            assert accepted is not None
            assert accepted.accept().alpn == NEWEST

    @every_version
    async def test_what_one_side_insists_on(self, alpn: bytes, dialled: list[bytes]) -> None:
        async with bound(alpns=alpn) as alice, bound() as bob:
            _, track = await published(alice)
            incoming = alice.incoming_sessions()
            session, consumer = await subscribed(alice, bob)
            assert session.alpn == alpn
            assert dialled == list(ALPNS[: ALPNS.index(alpn) + 1])
            track.write_frame(b"x")
            async with within(PATIENCE):
                assert await consumer.subscribe_track("video").read_frame() == b"x"
                # The other way round it is dialled with at once.
                dialled.clear()
                session.close()
                accepted = await incoming.next()
                assert accepted is not None
                await accepted.accept().closed()
                assert (await alice.connect(bob.ticket())).alpn == alpn
            assert dialled == [alpn]

    async def test_what_a_peer_spoke_is_remembered_until_that_fails(self, dialled: list[bytes]) -> None:
        async with bound(alpns=[ALPNS[1], ALPN]) as alice, bound() as bob:
            for attempt in (list(ALPNS[:2]), [ALPNS[1]]):
                session = await bob.connect(alice.ticket())
                assert session.alpn == ALPNS[1]
                assert dialled == attempt
                dialled.clear()
                session.close()
                await session.closed()
            alice.endpoint.set_alpns([ALPN])
            assert (await bob.connect(alice.ticket())).alpn == ALPN
            assert dialled == [ALPNS[1], NEWEST, ALPN]

    async def test_none_in_common(self) -> None:
        async with bound(alpns=ALPN) as alice, bound(alpns=NEWEST) as bob:
            with pytest.raises(ConnectError, match="does not speak moq-lite-05"):
                await bob.connect(alice.ticket())

    async def test_a_router_for_one_version_alone(self) -> None:
        async with (
            bare_endpoint() as endpoint,
            Moq(endpoint) as alice,
            bound() as bob,
            Router(endpoint).accept(ALPN, alice.protocol_handler()),
        ):
            assert (await bob.connect(alice.ticket())).alpn == ALPN

    @every_version
    async def test_a_session_without_a_moq(self, alpn: bytes) -> None:
        async with bound() as alice, bare_endpoint() as endpoint:
            await published(alice)
            async with within(PATIENCE):
                async with await MoqSession.connect(endpoint, alice.ticket(), alpn=alpn) as session:
                    assert session.alpn == alpn
                    assert await session.subscribe("cam")
                async with await MoqSession.connect(endpoint, alice.ticket()) as session:
                    assert session.alpn == NEWEST

    async def test_both_dial_at_once(self) -> None:
        async with bound(alpns=ALPN) as alice, bound() as bob, within(PATIENCE):
            first, second = await asyncio.gather(bob.connect(alice.ticket()), alice.connect(bob.ticket()))
            assert (first.alpn, second.alpn) == (ALPN, ALPN)
            # The connection is the same one.
            first.close(7, "enough")
            assert (await second.closed()).code == 7

    @pytest.mark.parametrize(
        ("alpns", "error"),
        [([], InvalidArgument), (b"", InvalidArgument), ([bytes(256)], InvalidArgument), (["x"], InvalidType)],
    )
    async def test_names_that_are_none(self, alpns: Any, error: type[Exception]) -> None:
        async with bare_endpoint() as endpoint:
            for call in (
                lambda: Moq(endpoint, alpns=alpns),
                lambda: Router(endpoint).accept(alpns, None),  # type: ignore[arg-type]
            ):
                with pytest.raises(error, match="ALPN"):
                    call()
            for coroutine in (MoqSession.connect(endpoint, "x", alpn=alpns), Moq.bind(network="loopback", alpns=alpns)):
                with pytest.raises((error, InvalidArgument)):
                    await coroutine

    async def test_few_peers_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(address, "_REMEMBERED", 1)
        async with bound() as alice, bound() as bob, bare_endpoint() as endpoint:
            dialer = Dialer(endpoint, (NEWEST,))
            for moq in (alice, bob):
                (await dialer.dial(parse_remote(moq.ticket()))).close(0, b"")
            assert list(dialer._known) == [str(bob.id())]


@asynccontextmanager
async def chain(make: MakePair, alpns: Iterable[bytes]) -> AsyncIterator[tuple[MoqSession, MoqSession]]:
    """A publisher, relays, and a subscriber: sessions of these versions between one and the next."""
    async with AsyncExitStack() as stack:
        publisher: MoqSession | None = None
        origin: MoqSession | None = None
        for number, alpn in enumerate(alpns):
            first, second = make(alpn=alpn)
            near = await stack.enter_async_context(MoqSession(first, origin_id=number + 1))
            far = await stack.enter_async_context(MoqSession(second, origin_id=number + 2))
            if origin is None:
                publisher = near
            else:
                stack.push_async_callback(_stop, asyncio.ensure_future(pass_on(origin, near)))
            origin = far
        assert publisher is not None
        assert origin is not None
        yield publisher, origin


async def pass_on(source: MoqSession, sink: MoqSession) -> None:
    """What a relay does."""
    async for name, broadcast in source.origin_consumer():
        if broadcast is not None:
            sink.publish(name, broadcast)


async def _stop(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def offered(publisher: MoqSession, subscriber: MoqSession) -> tuple[BroadcastProducer, BroadcastConsumer]:
    """A broadcast with one track, of 90,000 parts of a second."""
    broadcast = BroadcastProducer()
    broadcast.create_track("video", 3, timescale=90_000)
    publisher.publish("cam", broadcast.consume())
    async with within():
        return broadcast, await subscriber.subscribe("cam")


def track_of(broadcast: BroadcastProducer) -> TrackProducer:
    return TrackProducer(broadcast._state.tracks["video"])


class TestChains:
    @pytest.mark.parametrize("hops", [1, 2, 3])
    async def test_all_of_it_goes_through_relays(self, memory_pair: MakePair, hops: int) -> None:
        async with chain(memory_pair, [NEWEST] * hops) as (publisher, subscriber), within(PATIENCE):
            broadcast, consumer = await offered(publisher, subscriber)
            assert consumer.hops == hops
            assert consumer._state.route == tuple(range(1, hops + 1))
            track = track_of(broadcast)
            track.write_frame(b"past", 1)
            track.write_frame(b"latest", 2.5)
            reader = consumer.subscribe_track("video")
            assert await reader.read_timed_frame() == (b"latest", 2.5)
            assert await reader.info() == TrackInfo(3, False, 30.0, 90_000)
            group = await consumer.fetch_group("video", 0)
            assert await group.read_timed_frame() == (b"past", 1.0)
            assert await group.read_timed_frame() is None
            await idle()
            assert track.write_datagram(b"datagram", 3) == 2
            assert await reader.recv_datagram() == (2, b"datagram", 3.0)
            for name, sequence in (("video", 9), ("audio", 0)):
                with pytest.raises(MoqError) as caught:
                    await consumer.fetch_group(name, sequence)
                assert caught.value.code == ErrorCode.NOT_FOUND
            broadcast.finish()
            assert await reader.recv_datagram() is None
            assert await reader.next_group() is None

    @pytest.mark.parametrize("alpns", [[ALPN, NEWEST], [NEWEST, ALPN], [ALPNS[1], NEWEST], [NEWEST, ALPNS[1]]])
    async def test_a_relay_between_versions(self, memory_pair: MakePair, alpns: list[bytes]) -> None:
        async with chain(memory_pair, alpns) as (publisher, subscriber), within(PATIENCE):
            broadcast, consumer = await offered(publisher, subscriber)
            assert consumer.hops == 2
            track = track_of(broadcast)
            with track.append_group() as group:
                group.write_frame(b"a", 1)
                group.write_frame(b"b")
            reader = consumer.subscribe_track("video", start_group=0)
            # Where no time can come, the next version has none to tell.
            time = 0.0 if alpns[-1] == NEWEST else None
            assert await reader.read_timed_frame() == (b"a", time)
            assert await reader.read_timed_frame() == (b"b", time)
            if alpns[-1] == NEWEST:
                # Of the relay's own session, which cannot.
                with pytest.raises(MoqError) as caught:
                    await consumer.fetch_group("video", 5)
                assert caught.value.code == ErrorCode.UNSUPPORTED
                assert (await reader.info()).timescale == TrackInfo().timescale
            broadcast.finish()
            assert await reader.next_group() is None

    @pytest.mark.parametrize("alpn", ALPNS[:2], ids=bytes.decode)
    async def test_what_comes_back_is_not_taken(self, memory_pair: MakePair, alpn: bytes) -> None:
        """Two relays that pass everything on to each other, over two sessions."""
        first, second = memory_pair(alpn=alpn), memory_pair(alpn=alpn)
        async with AsyncExitStack() as stack:
            near, back = [
                await stack.enter_async_context(MoqSession(end, origin_id=1)) for end in (first[0], second[1])
            ]
            far, forth = [
                await stack.enter_async_context(MoqSession(end, origin_id=2)) for end in (first[1], second[0])
            ]
            for source, sink in ((back, near), (far, forth)):
                stack.push_async_callback(_stop, asyncio.ensure_future(pass_on(source, sink)))
            broadcast = BroadcastProducer()
            near.publish("cam", broadcast.consume())
            async with within():
                assert (await far.subscribe("cam")).hops == 1
            await idle()
            assert back.origin_consumer().consume_broadcast("cam") is None


class TestOverIroh:
    @both
    @pytest.mark.parametrize("reliable", [False, True])
    async def test_all_of_it(self, make: Any, reliable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("iroh_moq.actor.iroh_transport", make)
        async with bound() as alice, bound() as bob, within(PATIENCE):
            broadcast, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            for number in range(20):
                with track.append_group() as group:
                    for part in range(5):
                        group.write_frame(b"%d.%d" % (number, part), number + part / 8)
            reader = consumer.subscribe_track("video", ordered=reliable, start_group=0)
            for number in range(20):
                for part in range(5):
                    assert await reader.read_timed_frame() == (b"%d.%d" % (number, part), number + part / 8)
            group_7 = await consumer.fetch_group("video", 7)
            assert await group_7.read_timed_frame() == (b"7.0", 7.0)
            received = asyncio.ensure_future(reader.recv_datagram())
            # It may be lost.
            while not received.done():
                sequence = track.write_datagram(b"datagram", 2.5)
                await asyncio.wait((received,), timeout=0.2)
            datagram = received.result()
            assert datagram is not None
            assert datagram.sequence <= sequence
            assert datagram[1:] == (b"datagram", 2.5)
            with pytest.raises(MoqError, match="fit now") as caught:
                track.write_datagram(bytes(MAX_DATAGRAM_SIZE + 1))
            assert caught.value.code == ErrorCode.FRAME_TOO_LARGE
            broadcast.finish()
            assert await reader.next_group() is None
            await broadcast.unused()

    @both
    async def test_a_burst_of_groups_comes_in_order_and_whole(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """More than there is room for at first, which the reader knows is to come."""
        monkeypatch.setattr("iroh_moq.actor.iroh_transport", make)
        async with bound() as alice, bound() as bob, within(PATIENCE):
            broadcast, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video")
            await track.used()
            for number in range(300):
                track.write_frame(number.to_bytes(2, "big") * 1000)
            for number in range(300):
                assert await reader.read_frame() == number.to_bytes(2, "big") * 1000
            broadcast.finish()
            await broadcast.unused()

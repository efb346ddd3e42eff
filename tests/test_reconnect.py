"""Sessions that come back: over real endpoints, whose connections are cut and whose peers are restarted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from iroh import Connection, Endpoint, EndpointAddr, SecretKey

from iroh_moq import (
    ALPNS,
    Access,
    BroadcastConsumer,
    BroadcastProducer,
    ConnectError,
    InvalidArgument,
    InvalidType,
    Moq,
    MoqSession,
    Reconnect,
    SessionClosed,
    TrackConsumer,
    TrackProducer,
)
from iroh_moq.lite.keeping import Kept
from iroh_moq.lite.silence import fallen_silent
from iroh_moq.reconnect import check_reconnect
from iroh_moq.transport import TransportStats
from tests.conftest import MakePair
from tests.endpoints import PATIENCE, bare_endpoint, bound, published

FAST = Reconnect(initial=0.01, maximum=0.2)


class TestPolicy:
    def test_delays_grow_to_the_longest(self) -> None:
        assert list(Reconnect(initial=1, maximum=5, jitter=0, attempts=5).delays()) == [1, 2, 4, 5, 5]

    def test_jitter_only_shortens(self) -> None:
        for delay in Reconnect(initial=1, factor=1, jitter=0.25, attempts=100).delays():
            assert 0.75 <= delay <= 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"initial": -1},
            {"maximum": 0.1},
            {"factor": 0.5},
            {"jitter": 2},
            {"attempts": 0},
            {"timeout": 0},
            {"silence": 5.0},
            {"grace": -1},
            {"initial": float("nan")},
        ],
    )
    def test_values_out_of_range(self, wrong: dict[str, float]) -> None:
        with pytest.raises(InvalidArgument):
            Reconnect(**wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [{"initial": "1"}, {"attempts": 1.5}, {"jitter": True}, {"grace": None}])
    def test_values_of_the_wrong_type(self, wrong: dict[str, object]) -> None:
        with pytest.raises(InvalidType):
            Reconnect(**wrong)  # type: ignore[arg-type]

    def test_true_and_false_stand_for_policies(self) -> None:
        assert check_reconnect(True) == Reconnect()
        assert check_reconnect(False) is None
        assert check_reconnect(FAST) is FAST
        with pytest.raises(InvalidType):
            check_reconnect(1)  # type: ignore[arg-type]


@asynccontextmanager
async def streaming(**options: object) -> AsyncIterator[tuple[Moq, Moq, TrackProducer, MoqSession, BroadcastConsumer]]:
    """A publisher, a subscriber whose session comes back, the track, and the broadcast as the subscriber has it."""
    async with bound(**options) as publisher, bound() as subscriber:
        _, track = await published(publisher)
        async with asyncio.timeout(PATIENCE):
            session = await subscriber.connect(publisher.ticket(), reconnect=FAST)
            yield publisher, subscriber, track, session, await session.subscribe("cam")


def cut(publisher: Moq) -> None:
    """Ends the publisher's connection as a peer does that goes away for a moment."""
    for peer in list(publisher._actor._peers.values()):
        assert peer.session is not None
        peer.session.close(0, "cut")


async def away(session: MoqSession) -> None:
    async for status in session.status_changes():
        if status == "reconnecting":
            return


async def back(session: MoqSession) -> None:
    async for status in session.status_changes():
        if status == "connected":
            return


async def next_group(reader: TrackConsumer) -> tuple[int, bytes]:
    group = await reader.next_group()
    assert group is not None
    return group.sequence, await group.read_all()


class TestReaders:
    @pytest.mark.parametrize("alpn", ALPNS)
    @pytest.mark.parametrize("ordered", [False, True], ids=["live", "reliable"])
    async def test_ride_through_in_the_middle_of_a_group(self, ordered: bool, alpn: bytes) -> None:
        async with streaming(alpns=alpn) as (publisher, subscriber, track, session, broadcast):
            reader = broadcast.subscribe_track("video", ordered=ordered)
            await track.used()
            track.write_frame(b"whole")
            assert await next_group(reader) == (0, b"whole")
            group = track.append_group()
            group.write_frame(b"first")
            reading = await reader.next_group()
            assert reading is not None
            assert await reading.read_frame() == b"first"
            cut(publisher)
            await away(session)
            group.write_frame(b"second")
            group.finish()
            track.write_frame(b"next")
            assert [frame async for frame in reading] == [b"second"]
            assert await next_group(reader) == (2, b"next")
            await back(session)
            assert subscriber.metrics().reconnects == 1

    async def test_a_reliable_one_misses_nothing_and_gets_nothing_twice(self) -> None:
        async with streaming() as (publisher, _, track, session, broadcast):
            reader = broadcast.subscribe_track("video", ordered=True, start_group=0)
            numbers: list[int] = []
            for _ in range(5):
                for _ in range(20):
                    track.write_frame(os.urandom(20_000))
                numbers += [(await next_group(reader))[0] for _ in range(10)]
                cut(publisher)
                await away(session)
            track.finish()
            async for group in reader:
                numbers.append(group.sequence)
                assert len(await group.read_all()) == 20_000
            assert numbers == list(range(100))

    async def test_one_that_comes_while_away_is_served_later(self) -> None:
        async with streaming() as (publisher, _, track, session, broadcast):
            cut(publisher)
            await away(session)
            reader = broadcast.subscribe_track("video")
            track.write_frame(b"later")
            assert await next_group(reader) == (0, b"later")

    async def test_one_that_leaves_while_away_is_not_asked_for_again(self) -> None:
        async with streaming() as (publisher, _, track, session, broadcast):
            reader = broadcast.subscribe_track("video")
            await track.used()
            cut(publisher)
            await away(session)
            reader.close()
            await back(session)
            await track.unused()
            other = broadcast.subscribe_track("video")
            track.write_frame(b"x")
            assert await next_group(other) == (0, b"x")

    async def test_the_end_of_the_track_comes_through(self) -> None:
        async with streaming() as (publisher, _, track, session, broadcast):
            reader = broadcast.subscribe_track("video", ordered=True)
            await track.used()
            track.write_frame(b"last")
            assert await next_group(reader) == (0, b"last")
            cut(publisher)
            await away(session)
            track.finish()
            assert await reader.next_group() is None


class TestTheSession:
    async def test_announces_again_what_is_published(self) -> None:
        async with bound() as publisher, bound() as subscriber, asyncio.timeout(PATIENCE):
            broadcast, track = await published(subscriber, "mine")
            incoming = publisher.incoming_sessions()
            session = await subscriber.connect(publisher.ticket(), reconnect=FAST)
            for _ in range(2):
                other = await incoming.next()
                assert other is not None
                consumer = await other.accept().subscribe("mine")
                reader = consumer.subscribe_track("video")
                await track.used()
                track.write_frame(b"x")
                assert (await next_group(reader))[1] == b"x"
                other.accept().close(0, "cut")
            del broadcast
            session.close()

    async def test_says_what_was_published_and_taken_back_while_it_was_away(self) -> None:
        async with streaming() as (publisher, _, _, session, broadcast):
            await publisher.publish("other", other := BroadcastProducer())
            news = session.origin_consumer()
            assert {(await news.announced() or ("",))[0] for _ in range(2)} == {"cam", "other"}
            cut(publisher)
            await away(session)
            await publisher.publish("new", BroadcastProducer())
            other.finish()
            assert await session.subscribe("new")
            # What did not come again is taken back after a while, and nothing else is.
            told = dict([await news.announced() or ("", None) for _ in range(2)])
            assert told["other"] is None
            assert told["new"] is not None
            assert not broadcast.is_closed

    async def test_is_the_same_for_all_who_connect(self) -> None:
        async with streaming() as (publisher, subscriber, _, session, _):
            cut(publisher)
            await away(session)
            assert await subscriber.connect(publisher.ticket()) is session
            assert session.status() == "connected"

    async def test_ends_when_it_is_closed_here(self) -> None:
        async with streaming() as (_, _, _, session, broadcast):
            session.close(7, "enough")
            assert (await session.closed()).code == 7
            assert session.status() == "closed"
            assert isinstance(await broadcast.closed(), SessionClosed)
            assert [status async for status in session.status_changes()] == ["closed"]

    async def test_ends_when_it_is_closed_while_it_is_away(self) -> None:
        async with bound() as subscriber, AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            publisher = await stack.enter_async_context(bound())
            await published(publisher)
            session = await subscriber.connect(publisher.ticket(), reconnect=Reconnect(initial=600, maximum=600))
            broadcast = await session.subscribe("cam")
            reader = broadcast.subscribe_track("video")
            await stack.aclose()
            await away(session)
            session.close(9, "no more")
            assert (await session.closed()).code == 9
            with pytest.raises(SessionClosed):
                await reader.next_group()
            with pytest.raises(SessionClosed):
                await session.subscribe("other")
            # It is not in the way of another.
            while subscriber._actor._peers:  # noqa: ASYNC110 - the actor learns of it in a moment
                await asyncio.sleep(0)

    async def test_who_wants_one_while_it_is_given_up_gets_a_new_one(self) -> None:
        async with bound() as subscriber, bare_endpoint() as peer, asyncio.timeout(PATIENCE):
            connections = []
            streams = []

            async def accept() -> None:
                while (incoming := await peer.accept_next()) is not None:
                    connections.append(await (await incoming.accept()).connect())
                    if len(connections) != 2:
                        streams.append(await connections[-1].open_bi())
                        await streams[-1].send().write_all(b"\x01\x01\x00")
                    came.set()

            came = asyncio.Event()
            accepting = asyncio.ensure_future(accept())
            address = EndpointAddr(peer.id(), None, peer.bound_sockets())
            session = await subscriber.connect(address, reconnect=Reconnect(initial=600, maximum=600))
            came.clear()
            connections[0].close(0, b"restart")
            await away(session)
            # Somebody wants it now, but the peer is slow to take the connection; and somebody else gives it up.
            second = asyncio.ensure_future(subscriber.connect(address))
            await came.wait()
            session.close()
            assert await second is not session
            assert not second.result().is_closed
            accepting.cancel()

    async def test_ends_with_any_other_code_of_the_peer(self) -> None:
        async with streaming() as (publisher, subscriber, _, session, _):
            (peer,) = publisher._actor._peers.values()
            assert peer.session is not None
            peer.session.close(5, "go away")
            assert (await session.closed()).code == 5
            assert subscriber.metrics().reconnects == 0

    async def test_ends_when_it_is_refused(self) -> None:
        allowed = True

        def authorize(_: object) -> bool:
            return allowed

        async with streaming(authorize=authorize) as (publisher, _, _, session, _):
            allowed = False
            cut(publisher)
            assert (await session.closed()).code == 6

    async def test_ends_after_the_attempts_that_it_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with bound() as publisher, bound() as subscriber, asyncio.timeout(PATIENCE):
            await published(publisher)
            limited = Reconnect(initial=0.01, maximum=0.01, attempts=3)
            session = await subscriber.connect(publisher.ticket(), reconnect=limited)
            broadcast = await session.subscribe("cam")
            reader = broadcast.subscribe_track("video")
            dials = 0

            async def unreachable(_: object) -> None:
                nonlocal dials
                dials += 1
                raise ConnectError("nobody is there")

            # A real one takes iroh half a minute each.
            monkeypatch.setattr(subscriber._actor._dialer, "dial", unreachable)
            cut(publisher)
            error = await session.closed()
            assert dials == 3
            assert error.code is None
            assert "did not come back" in error.reason
            with pytest.raises(SessionClosed, match="did not come back"):
                await reader.next_group()

    async def test_without_it_a_loss_is_the_end(self) -> None:
        async with bound() as publisher, bound() as subscriber, asyncio.timeout(PATIENCE):
            await published(publisher)
            session = await subscriber.connect(publisher.ticket())
            broadcast = await session.subscribe("cam")
            cut(publisher)
            assert (await session.closed()).code == 0
            assert isinstance(await broadcast.closed(), SessionClosed)

    async def test_can_be_asked_for_later(self) -> None:
        async with bound() as publisher, bound() as subscriber, asyncio.timeout(PATIENCE):
            await published(publisher)
            session = await subscriber.connect(publisher.ticket())
            assert await subscriber.connect(publisher.ticket(), reconnect=FAST) is session
            cut(publisher)
            await away(session)
            await back(session)

    async def test_both_sides_can_want_it_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A connection that both ends have lost takes iroh's idle timeout, so here a closed one passes for one.
        monkeypatch.setattr(Kept, "keeps", lambda kept, _error: kept.enabled)
        async with bound() as first, bound() as second, asyncio.timeout(PATIENCE):
            await published(first)
            session = await second.connect(first.ticket(), reconnect=FAST)
            other = await first.connect(second.ticket(), reconnect=FAST)
            broadcast = await session.subscribe("cam")
            for _ in range(3):
                session.conn().close(0, b"cut")
                await asyncio.gather(away(other), away(session))
                await asyncio.gather(back(other), back(session))
                assert not broadcast.is_closed
            assert len(first._actor._peers) == len(second._actor._peers) == 1

    async def test_keeps_what_the_peer_may_do(self) -> None:
        async with bound() as publisher, bound() as subscriber, asyncio.timeout(PATIENCE):
            await published(publisher)
            await publisher.publish("hidden", BroadcastProducer())
            session = await subscriber.connect(publisher.ticket(), access=Access(publish=["cam"]), reconnect=FAST)
            await session.subscribe("cam")
            cut(publisher)
            await away(session)
            await back(session)
            await session.subscribe("cam")
            assert session.origin_consumer().consume_broadcast("hidden") is None

    async def test_a_shutdown_while_it_is_away(self) -> None:
        async with bound() as subscriber, AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            publisher = await stack.enter_async_context(bound())
            session = await subscriber.connect(publisher.ticket(), reconnect=Reconnect(initial=600, maximum=600))
            await stack.aclose()
            await away(session)
            await subscriber.shutdown()
            assert (await session.closed()).code == 0


class TestAPeerThatSaysNothing:
    async def test_is_lost_after_a_while_and_dialled_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was killed, and has come back with the same key and address: nothing of the old connection answers."""
        key = SecretKey.generate().to_bytes()
        async with bound() as subscriber, AsyncExitStack() as first_life, asyncio.timeout(PATIENCE):
            endpoint = await first_life.enter_async_context(bare_endpoint(key))
            address = EndpointAddr(endpoint.id(), None, endpoint.bound_sockets())
            accepted = asyncio.ensure_future(taken(endpoint))
            session = await subscriber.connect(address, reconnect=Reconnect(initial=0.01, silence=6.0))
            assert session._silence == 6.0
            connection = await accepted
            # What six seconds without a packet do.
            monkeypatch.setattr(type(session._lite.transport), "stats", lambda _: TransportStats(0, 0))
            session._lite.give_up_after(0.1)
            again = asyncio.ensure_future(taken(endpoint))
            await away(session)
            assert str(session._kept.loss) == "session closed without a close code, nothing has come for 0.1 seconds"
            await back(session)
            # Should it still be there, it knows.
            assert await connection.closed() == "closed by peer: nothing has come for 0.1 seconds (code 0)"
            await again

    async def test_is_not_lost_as_long_as_something_comes(self, memory_pair: MakePair) -> None:
        ours, _ = memory_pair()
        counts = iter([*range(20), *[20] * 20])
        ours.stats = lambda: TransportStats(0, 0, received_packets=next(counts))  # type: ignore[method-assign]
        await fallen_silent(ours, 0.001)
        assert next(counts) == 20
        assert len(list(counts)) == 10

    async def test_an_attempt_takes_only_so_long(self) -> None:
        async with bound() as subscriber, bare_endpoint() as endpoint, asyncio.timeout(PATIENCE):
            address = EndpointAddr(endpoint.id(), None, endpoint.bound_sockets())
            accepted = asyncio.ensure_future(taken(endpoint))
            policy = Reconnect(initial=0, attempts=2, timeout=0.2)
            session = await subscriber.connect(address, reconnect=policy)
            (await accepted).close(0, b"restart")
            # Nobody accepts any more.
            error = await session.closed()
            assert error.reason.startswith("it did not come back: peer ")
            assert error.reason.endswith("did not answer in time")


async def taken(endpoint: Endpoint) -> Connection:
    """The next connection to a bare endpoint, which looks as if a `Moq` had taken it."""
    incoming = await endpoint.accept_next()
    assert incoming is not None
    connection = await (await incoming.accept()).connect()
    stream = await connection.open_bi()
    await stream.send().write_all(b"\x01\x01\x00")
    return connection


class TestARestartedPeer:
    """One that has lost all it knew: to the subscriber it is the same broadcast, announced again."""

    @pytest.mark.parametrize("ordered", [False, True], ids=["live", "reliable"])
    async def test_may_count_its_groups_anew(self, ordered: bool) -> None:
        async with streaming() as (publisher, _, track, session, broadcast):
            reader = broadcast.subscribe_track("video", ordered=ordered)
            await track.used()
            for text in (b"a", b"b", b"c"):
                track.write_frame(text)
                assert (await next_group(reader))[1] == text
            cut(publisher)
            await away(session)
            _, other = await published(publisher)
            await other.used()
            for number, text in enumerate((b"d", b"e", b"f"), 3):
                other.write_frame(text)
                assert await next_group(reader) == (number, text)
            assert not broadcast.is_closed

    async def test_that_writes_the_same_again_gives_nothing_twice(self) -> None:
        texts = [b"%d" % number for number in range(10)]
        async with streaming() as (publisher, _, track, session, broadcast):
            reader = broadcast.subscribe_track("video", ordered=True, start_group=0)
            await track.used()
            for text in texts[:5]:
                track.write_frame(text)
            read = [(await next_group(reader))[1] for _ in range(3)]
            cut(publisher)
            await away(session)
            _, other = await published(publisher)
            for text in texts:
                other.write_frame(text)
            other.finish()
            read += [await group.read_all() async for group in reader]
            assert read == texts

"""The behaviour that design asks of `Moq` and its sessions, over real endpoints on loopback."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from typing import Any
from weakref import ref

import pytest
from iroh import Connection, Endpoint, EndpointAddr, EndpointBuilder, EndpointId, Incoming, SecretKey

from iroh_moq import (
    ALPN,
    BroadcastConsumer,
    BroadcastProducer,
    Cache,
    Closed,
    ConnectError,
    Error,
    ErrorCode,
    InternalConsistencyError,
    InvalidArgument,
    InvalidType,
    Moq,
    MoqError,
    MoqSession,
    Router,
    ServerError,
    SessionClosed,
    actor,
)
from iroh_moq.access import EVERYTHING
from iroh_moq.actor import Connect
from tests.endpoints import PATIENCE, bare_endpoint, bound, next_news, pair, published, subscribed


@pytest.fixture(autouse=True)
async def _bounded() -> None:
    """Nothing here may leave a task behind; see also tests/conftest.py."""


class TestOneConnectionPerPeer:
    async def test_connect_returns_the_live_session(self) -> None:
        async with pair() as (alice, bob):
            first = await bob.connect(alice.ticket())
            assert await bob.connect(alice.id()) is first
            assert await bob.connect(str(alice.id())) is first
            assert await bob.connect(alice.endpoint.addr()) is first

    async def test_the_dialled_side_returns_it_too(self) -> None:
        async with pair() as (alice, bob):
            incoming = alice.incoming_sessions()
            await bob.connect(alice.ticket())
            session = await incoming.next()
            assert session is not None
            assert await alice.connect(bob.id()) is session.accept()

    async def test_concurrent_connects_share_one_attempt(self) -> None:
        async with pair() as (alice, bob):
            incoming = alice.incoming_sessions()
            sessions = await asyncio.gather(*(bob.connect(alice.ticket()) for _ in range(10)))
            assert len(set(sessions)) == 1
            assert await incoming.next() is not None
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(incoming.next(), 0.3)

    async def test_all_get_the_error_of_the_one_attempt(self) -> None:
        async with bound() as bob, bare_endpoint(alpns=(b"other",)) as stranger:
            address = EndpointAddr(stranger.id(), None, stranger.bound_sockets())

            async def refuse() -> int:
                attempts = 0
                while (incoming := await stranger.accept_next()) is not None:
                    attempts += 1
                    await incoming.refuse()
                return attempts

            refusing = asyncio.ensure_future(refuse())
            results = await asyncio.gather(*(bob.connect(address) for _ in range(5)), return_exceptions=True)
            assert [type(result) for result in results] == [ConnectError] * 5
            assert len({id(result) for result in results}) == 1
            await stranger.close()
            assert await refusing == 1

    async def test_a_new_attempt_after_a_failed_one(self) -> None:
        async with pair() as (alice, bob):
            ticket = alice.ticket()
            alice.endpoint.set_alpns([b"other"])
            with pytest.raises(ConnectError, match="does not speak moq-lite-05, moq-lite-04, moq-lite-03"):
                await bob.connect(ticket)
            alice.endpoint.set_alpns([ALPN])
            assert not (await bob.connect(ticket)).is_closed

    async def test_a_new_session_after_one_has_ended(self) -> None:
        async with pair() as (alice, bob):
            first = await bob.connect(alice.ticket())
            first.close(7, "enough")
            second = await bob.connect(alice.ticket())
            assert second is not first
            assert not second.is_closed

    async def test_a_cancelled_connect_leaves_the_others(self) -> None:
        async with pair() as (alice, bob):
            impatient = asyncio.ensure_future(bob.connect(alice.ticket()))
            patient = asyncio.ensure_future(bob.connect(alice.ticket()))
            await asyncio.sleep(0)
            impatient.cancel()
            assert not (await patient).is_closed

    async def test_a_connect_that_nobody_waits_for_is_given_up(self) -> None:
        async with bound() as bob, bare_endpoint() as silent:
            address = EndpointAddr(silent.id(), None, silent.bound_sockets())
            connecting = asyncio.ensure_future(bob.connect(address))
            incoming = await asyncio.wait_for(silent.accept_next(), PATIENCE)
            assert incoming is not None
            connection = await (await incoming.accept()).connect()
            connecting.cancel()
            assert await asyncio.wait_for(connection.closed(), PATIENCE)
            assert not bob._actor._peers

    async def test_one_that_was_abandoned_does_not_end_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The peer has turned the first down in favour of a dial of its own that never came."""
        monkeypatch.setattr(actor, "_PATIENCE", 0.3)
        async with bound() as bob, bare_endpoint() as peer, asyncio.timeout(PATIENCE):
            address = EndpointAddr(peer.id(), None, peer.bound_sockets())
            first = asyncio.ensure_future(bob.connect(address))
            connection = await (await (await _next(peer)).accept()).connect()
            connection.close(0, b"duplicate")
            while (known := bob._actor._peers.get(str(peer.id()))) is None or known.patience is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            first.cancel()
            second = asyncio.ensure_future(bob.connect(address))
            incoming = await _next(peer)
            # It is slow to accept, which is all right.
            await asyncio.sleep(0.5)
            connection = await (await incoming.accept()).connect()
            stream = await connection.open_bi()
            await stream.send().write_all(b"\x01\x01\x00")
            assert not (await second).is_closed

    async def test_one_that_fails_when_its_caller_has_just_gone_does_not_fail_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with pair() as (alice, bob), asyncio.timeout(PATIENCE):
            actor, dial = bob._actor, bob._actor._dialer.dial
            begun, end = asyncio.Event(), asyncio.Event()

            async def failing(_: EndpointAddr) -> Connection:
                begun.set()
                await end.wait()
                monkeypatch.setattr(actor._dialer, "dial", dial)
                # In the same turn of the loop the first caller goes, and the next one comes.
                first.cancel()
                actor.send(Connect(alice.endpoint.addr(), EVERYTHING, None, second))
                raise ConnectError("the first")

            monkeypatch.setattr(actor._dialer, "dial", failing)
            second: asyncio.Future[MoqSession] = asyncio.get_running_loop().create_future()
            first = asyncio.ensure_future(bob.connect(alice.ticket()))
            await begun.wait()
            end.set()
            assert not (await second).is_closed


async def _next(endpoint: Endpoint) -> Incoming:
    incoming = await endpoint.accept_next()
    assert incoming is not None
    return incoming


class TestBothDialAtOnce:
    @pytest.mark.parametrize("round_", range(6))
    async def test_one_connection_survives_and_nobody_sees_an_error(self, round_: int) -> None:
        async with pair() as (alice, bob):
            delay = round_ * 0.002

            async def later() -> MoqSession:
                await asyncio.sleep(delay)
                return await bob.connect(alice.ticket())

            ours, theirs = await asyncio.gather(alice.connect(bob.ticket()), later())
            _, track = await published(alice)
            consumer = (await theirs.subscribe("cam")).subscribe_track("video")
            await track.used()
            track.write_frame(b"one connection")
            assert await consumer.read_frame() == b"one connection"
            assert not ours.is_closed
            assert not theirs.is_closed
            # The same connection: one side dialled it, the other was dialled.
            assert {ours.conn().side().name, theirs.conn().side().name} == {"CLIENT", "SERVER"}
            assert await alice.connect(bob.id()) is ours
            assert await bob.connect(alice.id()) is theirs
            smaller = min((alice, bob), key=lambda moq: str(moq.id()))
            if delay == 0:
                survivor = ours if smaller is alice else theirs
                assert survivor.conn().side().name == "CLIENT"

    async def test_the_survivor_outlives_the_closing_of_the_other(self) -> None:
        async with pair() as (alice, bob):
            ours, theirs = await asyncio.gather(alice.connect(bob.ticket()), bob.connect(alice.ticket()))
            # Longer than a second connection is ever held.
            await asyncio.sleep(1.3)
            assert not ours.is_closed
            assert not theirs.is_closed

    async def test_a_peer_that_lost_its_session_gets_a_new_one(self) -> None:
        """It comes back with the same key while its old session still looks alive here."""
        key = SecretKey.generate().to_bytes()
        async with bound() as alice, AsyncExitStack() as first_life:
            endpoint = await first_life.enter_async_context(bare_endpoint(key))
            # A first life that is gone without a word: nothing answers on its connection.
            moq = await first_life.enter_async_context(_on(endpoint))
            address = EndpointAddr(endpoint.id(), None, endpoint.bound_sockets())
            old = await alice.connect(address)
            moq._actor._peers.clear()
            await published(alice)
            fresh = await MoqSession.connect(endpoint, alice.ticket())
            assert await asyncio.wait_for(fresh.subscribe("cam"), PATIENCE)
            error = await asyncio.wait_for(old.closed(), PATIENCE)
            assert (error.code, error.reason) == (0, "replaced")
            assert await alice.connect(endpoint.id()) is not old
            fresh.close()
            await fresh.closed()


class _on:  # noqa: N801 - reads as a word
    """A `Moq` with a router on an endpoint that is not its own."""

    def __init__(self, endpoint: object) -> None:
        self._endpoint = endpoint

    async def __aenter__(self) -> Moq:
        self._moq = Moq(self._endpoint)  # type: ignore[arg-type]
        self._router = Router(self._endpoint).accept(ALPN, self._moq.protocol_handler()).spawn()  # type: ignore[arg-type]
        return self._moq

    async def __aexit__(self, *exc: object) -> None:
        await self._moq.shutdown()
        await self._router.shutdown()


class TestASessionEnds:
    async def test_only_its_own_entry_goes(self) -> None:
        async with pair() as (alice, bob), bound() as carol:
            await published(alice)
            with_bob = await bob.connect(alice.ticket())
            with_carol = await carol.connect(alice.ticket())
            with_bob.close(3, "done")
            await with_bob.closed()
            await published(alice, "later")
            assert await asyncio.wait_for(with_carol.subscribe("later"), PATIENCE)
            assert not with_carol.is_closed

    async def test_its_consumers_end_with_session_closed(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            session, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video")
            await track.used()
            group = track.append_group()
            group.write_frame(b"begun")
            begun = await reader.next_group()
            assert begun is not None
            assert await begun.read_frame() == b"begun"
            waiting = asyncio.ensure_future(session.subscribe("never"))
            ended = asyncio.ensure_future(consumer.closed())
            await asyncio.sleep(0)
            incoming = await alice.connect(bob.id())
            incoming.close(42, "going away")
            for read in (begun.read_frame(), reader.next_group(), waiting, session.subscribe("cam")):
                with pytest.raises(SessionClosed) as caught:
                    await asyncio.wait_for(read, PATIENCE)
                assert (caught.value.code, caught.value.reason) == (42, "going away")
            assert isinstance(await asyncio.wait_for(ended, PATIENCE), SessionClosed)
            assert await session.origin_consumer().announced() is None

    async def test_its_producers_see_no_more_demand(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            session, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video")
            await asyncio.wait_for(track.used(), PATIENCE)
            session.close()
            await asyncio.wait_for(track.unused(), PATIENCE)
            reader.close()

    async def test_closed_says_why_on_both_sides(self) -> None:
        async with pair() as (alice, bob):
            incoming = alice.incoming_sessions()
            session = await bob.connect(alice.ticket())
            other = await incoming.next()
            assert other is not None
            session.close(99, "ünïcode")
            here, there = await session.closed(), await asyncio.wait_for(other.accept().closed(), PATIENCE)
            assert (here.code, here.reason, here.local) == (99, "ünïcode", True)
            assert (there.code, there.reason, there.local) == (99, "ünïcode", False)
            assert "99" in str(there)
            assert "ünïcode" in str(there)


class TestPublish:
    async def test_a_broadcast_that_has_ended_is_kept_by_nobody(self) -> None:
        async with bound() as alice:
            broadcast = BroadcastProducer()
            await alice.publish("cam", broadcast)
            broadcast.finish()
            async with asyncio.timeout(PATIENCE):
                # Looked at, as to ask would be the last that the actor has heard of.
                while alice._actor._published:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            known = ref(broadcast)
            del broadcast
            gc.collect()
            assert known() is None

    async def test_to_live_sessions_and_to_later_ones(self) -> None:
        async with pair() as (alice, bob), bound() as carol:
            live = await bob.connect(alice.ticket())
            waiting = asyncio.ensure_future(live.subscribe("cam"))
            await asyncio.sleep(0)
            await published(alice)
            assert await asyncio.wait_for(waiting, PATIENCE)
            later = await carol.connect(alice.ticket())
            assert await asyncio.wait_for(later.subscribe("cam"), PATIENCE)

    async def test_the_dialling_side_publishes_as_well(self) -> None:
        async with pair() as (alice, bob):
            incoming = alice.incoming_sessions()
            await published(bob)
            await bob.connect(alice.ticket())
            session = await incoming.next()
            assert session is not None
            assert await asyncio.wait_for(session.accept().subscribe("cam"), PATIENCE)

    async def test_the_same_name_again_replaces(self) -> None:
        async with pair() as (alice, bob):
            old, _ = await published(alice)
            session, before = await subscribed(alice, bob)
            news = session.origin_consumer()
            assert await news.announced() == ("cam", before)
            _, track = await published(alice)
            assert await next_news(news) == ("cam", None)
            name, after = await next_news(news)
            assert name == "cam"
            assert after is not None
            assert after != before
            # The end of the old producer does not take the new one down.
            old.finish()
            assert await alice.published_broadcasts() == ["cam"]
            reader = after.subscribe_track("video")
            await asyncio.wait_for(track.used(), PATIENCE)
            track.write_frame(b"new")
            assert await reader.read_frame() == b"new"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(news.announced(), 0.2)

    async def test_a_producer_ends(self) -> None:
        async with pair() as (alice, bob), bound() as carol:
            broadcast, _ = await published(alice)
            watching = [(await moq.connect(alice.ticket())).origin_consumer() for moq in (bob, carol)]
            for news in watching:
                name, consumer = await next_news(news)
                assert name == "cam"
                assert isinstance(consumer, BroadcastConsumer)
            broadcast.finish()
            assert await alice.published_broadcasts() == []
            for news in watching:
                assert await next_news(news) == ("cam", None)

    async def test_unpublish_leaves_the_broadcast_alone(self) -> None:
        async with pair() as (alice, bob):
            broadcast, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video")
            await asyncio.wait_for(track.used(), PATIENCE)
            await alice.unpublish("cam")
            assert await alice.published_broadcasts() == []
            assert await asyncio.wait_for(consumer.closed(), PATIENCE) is None
            assert not broadcast.is_closed
            track.write_frame(b"still")
            assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"still"

    async def test_a_session_publishes_to_its_peer_alone(self) -> None:
        async with pair() as (alice, bob), bound() as carol:
            incoming = alice.incoming_sessions()
            to_bob, to_carol = await bob.connect(alice.ticket()), await carol.connect(alice.ticket())
            broadcast = BroadcastProducer()
            for session in (await incoming.next(), await incoming.next()):
                assert session is not None
                if session.remote_id() == bob.id():
                    session.accept().publish("private", broadcast.consume())
            assert await asyncio.wait_for(to_bob.subscribe("private"), PATIENCE)
            assert to_carol.origin_consumer().consume_broadcast("private") is None
            assert await alice.published_broadcasts() == []

    @pytest.mark.parametrize("name", ["", "/", "x" * 1025, "a/" * 33, "\ud800"])
    async def test_names_that_cannot_be(self, name: str) -> None:
        async with bound() as alice:
            with pytest.raises(InvalidArgument):
                await alice.publish(name, BroadcastProducer())
            with pytest.raises(InvalidArgument):
                await alice.unpublish(name)

    async def test_mistakes_of_the_caller(self) -> None:
        async with bound() as alice:
            with pytest.raises(InvalidType, match="BroadcastProducer"):
                await alice.publish("cam", BroadcastProducer().consume())  # type: ignore[arg-type]
            with pytest.raises(InvalidType, match="str"):
                await alice.publish(b"cam", BroadcastProducer())  # type: ignore[arg-type]
            ended = BroadcastProducer()
            ended.finish()
            with pytest.raises(MoqError, match="has ended"):
                await alice.publish("cam", ended)
            assert await alice.published_broadcasts() == []


class TestSubscribe:
    async def test_waits_for_the_name_and_leaves_the_others(self) -> None:
        async with pair() as (alice, bob):
            session = await bob.connect(alice.ticket())
            waiters = {name: asyncio.ensure_future(session.subscribe(name)) for name in ("one", "two", "three")}
            await asyncio.sleep(0)
            for name in ("three", "other", "one", "two"):
                await published(alice, name)
            for waiter in waiters.values():
                assert isinstance(await asyncio.wait_for(waiter, PATIENCE), BroadcastConsumer)
            news = session.origin_consumer()
            assert {(await asyncio.wait_for(news.announced(), PATIENCE) or ("",))[0] for _ in range(4)} == {
                "one",
                "two",
                "three",
                "other",
            }

    async def test_closed_if_it_is_taken_back_while_waiting(self) -> None:
        async with pair() as (alice, bob):
            session = await bob.connect(alice.ticket())
            waiting = asyncio.ensure_future(session.subscribe("cam"))
            await asyncio.sleep(0)
            # Both arrive here before the waiter runs again.
            producer = BroadcastProducer()
            session._subscribe.publish_broadcast("cam", producer.consume())
            producer.finish()
            with pytest.raises(Closed):
                await waiting

    async def test_a_track_that_is_not_there(self) -> None:
        async with pair() as (alice, bob):
            await published(alice)
            _, consumer = await subscribed(alice, bob)
            with pytest.raises(MoqError) as caught:
                await asyncio.wait_for(consumer.subscribe_track("nothing").next_group(), PATIENCE)
            assert caught.value.code == ErrorCode.NOT_FOUND

    async def test_a_broadcast_that_has_just_gone(self) -> None:
        async with pair() as (alice, bob):
            broadcast, _ = await published(alice)
            _, consumer = await subscribed(alice, bob)
            broadcast.finish()
            with pytest.raises(MoqError) as caught:
                await asyncio.wait_for(consumer.subscribe_track("video").next_group(), PATIENCE)
            assert caught.value.code == ErrorCode.NOT_FOUND

    async def test_an_abort_reaches_the_reader_with_its_code(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video")
            await track.used()
            group = track.append_group()
            group.write_frame(b"x")
            received = await reader.next_group()
            assert received is not None
            assert await received.read_frame() == b"x"
            group.abort(64 + 5)
            with pytest.raises(MoqError) as caught:
                await asyncio.wait_for(received.read_frame(), PATIENCE)
            assert caught.value.code == 69
            track.abort(64 + 6)
            with pytest.raises(MoqError) as caught:
                await asyncio.wait_for(reader.next_group(), PATIENCE)
            assert caught.value.code == 70

    async def test_tracks_made_on_demand(self) -> None:
        async with pair() as (alice, bob):
            broadcast, _ = await published(alice)
            _, consumer = await subscribed(alice, bob)
            with broadcast.dynamic() as requests:
                reader = consumer.subscribe_track("wanted")
                refused = consumer.subscribe_track("unwanted")
                for _ in range(2):
                    request = await asyncio.wait_for(requests.requested_track(), PATIENCE)
                    assert request is not None
                    if request.name == "wanted":
                        request.write_frame(b"here")
                        request.finish()
                    else:
                        request.reject(64 + 1)
                assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"here"
                assert await asyncio.wait_for(reader.read_frame(), PATIENCE) is None
                with pytest.raises(MoqError) as caught:
                    await asyncio.wait_for(refused.next_group(), PATIENCE)
                assert caught.value.code == 65


class TestIncomingSessions:
    async def test_a_stream_that_was_thrown_away_is_kept_by_nobody(self) -> None:
        async with bound() as alice:
            streams = [ref(alice.incoming_sessions()) for _ in range(3)]
            gc.collect()
            assert [stream() for stream in streams] == [None] * 3

    async def test_each_stream_gets_each_incoming_session_once_and_no_outgoing(self) -> None:
        async with pair() as (alice, bob), bound() as carol:
            streams = [alice.incoming_sessions(), alice.incoming_sessions()]
            await bob.connect(alice.ticket())
            await alice.connect(carol.ticket())
            for stream in streams:
                incoming = await asyncio.wait_for(stream.next(), PATIENCE)
                assert incoming is not None
                assert incoming.remote_id() == bob.id()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stream.next(), 0.1)

    async def test_a_slow_reader_loses_the_oldest(self, caplog: pytest.LogCaptureFixture) -> None:
        async with pair() as (alice, bob):
            stream = alice.incoming_sessions()
            session = await bob.connect(alice.ticket())
            incoming = await asyncio.wait_for(stream.next(), PATIENCE)
            assert incoming is not None
            with caplog.at_level(logging.WARNING):
                for _ in range(65):
                    stream._push(incoming.accept())
            assert caplog.text.count("too slow") == 1
            assert len(stream._queue) == 64
            assert not session.is_closed

    async def test_reject(self) -> None:
        async with pair() as (alice, bob):
            stream = alice.incoming_sessions()
            session = await bob.connect(alice.ticket())
            incoming = await asyncio.wait_for(stream.next(), PATIENCE)
            assert incoming is not None
            incoming.reject()
            error = await asyncio.wait_for(session.closed(), PATIENCE)
            assert (error.code, error.reason) == (1, "rejected")

    async def test_the_stream_ends_with_the_shutdown(self) -> None:
        async with bound() as alice:
            stream = alice.incoming_sessions()
            waiting = asyncio.ensure_future(stream.next())
            await asyncio.sleep(0)
            await alice.shutdown()
            assert await waiting is None
            assert [session async for session in stream] == []


class TestWhoGetsIn:
    @pytest.mark.parametrize("kind", ["plain", "async", "raises"])
    async def test_a_refused_peer_learns_no_name(self, kind: str) -> None:
        asked: list[EndpointId] = []

        def plain(remote: EndpointId) -> bool:
            asked.append(remote)
            if kind == "raises":
                raise RuntimeError("the list of friends is lost")
            return False

        async def later(remote: EndpointId) -> bool:
            await asyncio.sleep(0)
            return plain(remote)

        async with pair(authorize=later if kind == "async" else plain) as (alice, bob):
            await published(alice, "secret")
            stream = alice.incoming_sessions()
            with pytest.raises(ServerError) as caught:
                await bob.connect(alice.ticket())
            assert (caught.value.code, caught.value.reason) == (ErrorCode.UNAUTHORIZED, "unauthorized")
            assert asked == [bob.id()]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.next(), 0.1)

            # Even one that goes on regardless is told nothing.
            session = await MoqSession.connect(bob.endpoint, alice.ticket())
            assert await session.origin_consumer().announced() is None
            error = await asyncio.wait_for(session.closed(), PATIENCE)
            assert error.code == ErrorCode.UNAUTHORIZED

    @pytest.mark.parametrize("verdict", ["yes", 1, None, object()])
    async def test_only_true_lets_anybody_in(self, verdict: Any, caplog: pytest.LogCaptureFixture) -> None:
        async with pair(authorize=lambda _: verdict) as (alice, bob):
            with pytest.raises(ServerError) as caught:
                await bob.connect(alice.ticket())
            assert caught.value.code == ErrorCode.UNAUTHORIZED
        assert "it must be a bool or an Access" in caplog.text

    async def test_one_that_waits_for_an_answer_is_sent_away_by_the_shutdown(self) -> None:
        asked = asyncio.Event()

        async def never(_: EndpointId) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

        async with bound() as bob, bare_endpoint() as endpoint:
            alice = Moq(endpoint, authorize=never)
            async with Router(endpoint).accept(ALPN, alice.protocol_handler()), asyncio.timeout(PATIENCE):
                session = await MoqSession.connect(bob.endpoint, endpoint.addr(), alpn=ALPN)
                await asked.wait()
                await alice.shutdown()
                error = await session.closed()
                assert (error.code, error.reason) == (0, "shutdown")
                assert not alice._actor._deciding

    async def test_an_authorized_one_gets_in(self) -> None:
        async with bound() as bob, bound(authorize=lambda remote: remote == bob.id()) as alice:
            await published(alice)
            await subscribed(alice, bob)


class TestShutdown:
    async def test_sessions_close_with_code_0_and_nothing_is_left(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            session, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video")
            await track.used()
            await alice.shutdown()
            error = await asyncio.wait_for(session.closed(), PATIENCE)
            assert error.code == 0
            with pytest.raises(SessionClosed):
                await reader.next_group()

    @pytest.mark.parametrize("turns", range(6))
    async def test_one_that_is_cancelled_goes_on(self, turns: int) -> None:
        """Wherever it is: the endpoint is closed, and another call waits for that."""
        moq = await Moq.bind(network="loopback")
        endpoint = moq.endpoint
        ending = asyncio.ensure_future(moq.shutdown())
        for _ in range(turns):
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait([ending])
        await asyncio.wait_for(moq.shutdown(), PATIENCE)
        assert endpoint.is_closed()

    async def test_calls_after_it_raise_and_never_hang(self) -> None:
        async with pair() as (alice, bob):
            ticket = bob.ticket()
            await alice.shutdown()
            await alice.shutdown()
            for call in (
                alice.publish("cam", BroadcastProducer()),
                alice.unpublish("cam"),
                alice.published_broadcasts(),
                alice.connect(ticket),
            ):
                with pytest.raises(InternalConsistencyError):
                    await asyncio.wait_for(call, PATIENCE)
            with pytest.raises(InternalConsistencyError):
                alice.incoming_sessions()

    async def test_calls_under_way_get_the_error(self) -> None:
        async with bare_endpoint() as silent, bound() as alice:
            address = EndpointAddr(silent.id(), None, silent.bound_sockets())
            connecting = asyncio.ensure_future(alice.connect(address))
            await asyncio.sleep(0.05)
            await alice.shutdown()
            with pytest.raises(InternalConsistencyError):
                await asyncio.wait_for(connecting, PATIENCE)

    async def test_what_was_asked_before_is_still_answered(self) -> None:
        async with bound() as alice:
            listing = asyncio.ensure_future(alice.published_broadcasts())
            await asyncio.sleep(0)
            await alice.shutdown()
            assert await asyncio.wait_for(listing, PATIENCE) == []

    async def test_a_connection_that_comes_too_late_is_closed(self) -> None:
        async with bare_endpoint() as endpoint, bound() as bob:
            moq = Moq(endpoint)
            router = Router(endpoint).accept(ALPN, moq.protocol_handler()).spawn()
            await moq.shutdown()
            address = EndpointAddr(endpoint.id(), None, endpoint.bound_sockets())
            with pytest.raises(ServerError) as caught:
                await bob.connect(address)
            assert (caught.value.code, caught.value.reason) == (0, "shutdown")
            await router.shutdown()


class TestLateAndSlow:
    async def test_a_late_joiner_starts_at_the_latest_group_from_its_first_frame(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            track.write_frame(b"old")
            with track.append_group() as group:
                group.write_frame(b"key frame")
                group.write_frame(b"delta")
                _, consumer = await subscribed(alice, bob)
                reader = consumer.subscribe_track("video")
                received = await asyncio.wait_for(reader.next_group(), PATIENCE)
                assert received is not None
                assert received.sequence == 1
                assert [await received.read_frame(), await received.read_frame()] == [b"key frame", b"delta"]

    async def test_start_and_end_group(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            for number in range(10):
                track.write_frame(b"%d" % number)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video", start_group=3, end_group=5)
            for number in (3, 4, 5):
                assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"%d" % number
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read_frame(), 0.2)
            reader.update(end_group=7)
            for number in (6, 7):
                assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"%d" % number

    async def test_a_subscriber_that_reads_nothing_slows_nobody(self) -> None:
        """16 MiB of groups pass it by, within a cache of 1 MiB, and another subscriber gets them all."""
        payload = bytes(64 * 1024)
        async with pair() as (alice, bob), bound() as carol:
            broadcast = BroadcastProducer()
            track = broadcast.create_track("video", cache=Cache(max_bytes=1024 * 1024))
            await alice.publish("cam", broadcast)
            _, stuck = await subscribed(alice, bob)
            # Reliable, so that nothing is read from the connection on its behalf either.
            sleeper = stuck.subscribe_track("video", ordered=True)
            _, lively = await subscribed(alice, carol)
            reader = lively.subscribe_track("video")
            async with asyncio.timeout(PATIENCE):
                while len(track._state.readers) < 2:
                    await track._state.demand.wait()
            received = []
            for number in range(256):
                track.write_frame(number.to_bytes(4, "big") + payload)
                frame = await asyncio.wait_for(reader.read_frame(), PATIENCE)
                assert frame is not None
                received.append(int.from_bytes(frame[:4], "big"))
            assert received == list(range(256))
            assert track._state.cost <= 1024 * 1024
            # What it begins with is old, but the latest is never lost.
            track.finish()
            last = b""
            while True:
                try:
                    group = await asyncio.wait_for(sleeper.next_group(), PATIENCE)
                    if group is None:
                        break
                    last = await group.read_all()
                except MoqError as error:
                    assert error.code in {ErrorCode.OLD, ErrorCode.EVICTED}  # noqa: PT017 - others are fine
            assert int.from_bytes(last[:4], "big") == 255

    async def test_groups_past_max_latency_are_dropped_and_the_latest_is_not(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video", max_latency=0.1)
            await asyncio.wait_for(track.used(), PATIENCE)
            stalled = track.append_group()
            stalled.write_frame(b"begun and never finished")
            first = await asyncio.wait_for(reader.next_group(), PATIENCE)
            assert first is not None
            assert await first.read_frame() == b"begun and never finished"
            track.write_frame(b"newer")
            with pytest.raises(MoqError) as caught:
                await asyncio.wait_for(first.read_frame(), PATIENCE)
            assert caught.value.code == ErrorCode.OLD
            assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"newer"

    async def test_reliable_transfer_waits_for_the_slowest(self) -> None:
        chunk, count = bytes(range(256)) * 256, 600
        async with pair() as (alice, bob):
            broadcast = BroadcastProducer()
            track = broadcast.create_track("file", cache=Cache(max_bytes=2 * 1024 * 1024))
            await alice.publish("cam", broadcast)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("file", ordered=True)
            await asyncio.wait_for(track.used(), PATIENCE)
            written = 0

            async def write() -> None:
                nonlocal written
                for _ in range(count):
                    with track.append_group() as group:
                        group.write_frame(chunk)
                        written += 1
                        await group.drained(256 * 1024)
                track.finish()

            writing = asyncio.ensure_future(write())
            first = await asyncio.wait_for(reader.next_group(), PATIENCE)
            assert first is not None
            # The reader stops; the writer must stop as well, far from its end.
            for _ in range(20):
                before = written
                await asyncio.sleep(0.1)
                if written == before:
                    break
            assert written < count
            rest = [await group.read_all() async for group in reader]
            received = [await first.read_all(), *rest]
            assert received == [chunk] * count
            await writing


class TestCancellation:
    async def test_a_cancelled_read_loses_nothing(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            reader = consumer.subscribe_track("video", ordered=True)
            await asyncio.wait_for(track.used(), PATIENCE)
            received: list[bytes] = []
            for number in range(50):
                reading = asyncio.ensure_future(reader.read_frame())
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait([reading])
                if not reading.cancelled():
                    received.append(reading.result() or b"")
                track.write_frame(b"%d" % number)
            track.finish()
            while (frame := await asyncio.wait_for(reader.read_frame(), PATIENCE)) is not None:
                received.append(frame)
            assert received == [b"%d" % number for number in range(50)]

    async def test_leaving_unsubscribes(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            _, consumer = await subscribed(alice, bob)
            async with consumer.subscribe_track("video"):
                await asyncio.wait_for(track.used(), PATIENCE)
            await asyncio.wait_for(track.unused(), PATIENCE)
            # Thrown away without a word is as good.
            reader = consumer.subscribe_track("video")
            await asyncio.wait_for(track.used(), PATIENCE)
            del reader
            gc.collect()
            await asyncio.wait_for(track.unused(), PATIENCE)


class TestPeersThatFail:
    async def test_unreachable(self) -> None:
        async with bound() as bob, bare_endpoint() as gone:
            address = EndpointAddr(gone.id(), None, gone.bound_sockets())
            await gone.close()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await bob.connect(address)

    @pytest.mark.parametrize("remote", ["", "nonsense", "endpointnonsense", "zz" * 32])
    async def test_a_malformed_ticket(self, remote: str) -> None:
        async with bound() as bob:
            with pytest.raises(InvalidArgument, match=r"neither a ticket|not a whole ticket"):
                await bob.connect(remote)

    async def test_a_wrong_type_and_itself(self) -> None:
        async with bound() as bob:
            with pytest.raises(InvalidType):
                await bob.connect(42)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument, match="itself"):
                await bob.connect(bob.ticket())

    async def test_a_subscription_closed_while_it_starts(self) -> None:
        async with pair() as (alice, bob):
            _, track = await published(alice)
            session, consumer = await subscribed(alice, bob)
            for _ in range(20):
                consumer.subscribe_track("video").close()
            reader = consumer.subscribe_track("video")
            await asyncio.wait_for(track.used(), PATIENCE)
            track.write_frame(b"after them")
            assert await asyncio.wait_for(reader.read_frame(), PATIENCE) == b"after them"
            assert not session.is_closed

    async def test_a_session_needs_an_endpoint_and_a_loop(self) -> None:
        with pytest.raises(InvalidType, match="Endpoint"):
            Moq("endpoint")  # type: ignore[arg-type]
        async with bound() as alice:
            session = None
            with pytest.raises(InvalidType):
                session = await MoqSession.session_connect("connection")  # type: ignore[arg-type]
            assert session is None
            with pytest.raises(InvalidType, match="function"):
                Moq(alice.endpoint, authorize="everybody")  # type: ignore[arg-type]

    async def test_close_codes_that_cannot_be(self) -> None:
        async with pair() as (alice, bob):
            session = await bob.connect(alice.ticket())
            for code in (-1, 1 << 32):
                with pytest.raises(InvalidArgument):
                    session.close(code)
            wrong: list[tuple[Any, Any]] = [("0", ""), (True, ""), (0, 5), (0, None)]
            for each in wrong:
                with pytest.raises(InvalidType):
                    session.close(*each)
            assert not session.is_closed


def test_all_errors_are_one_family() -> None:
    for error in (ConnectError, ServerError, MoqError, InternalConsistencyError, SessionClosed, Closed, InvalidType):
        assert issubclass(error, Error)
    assert EndpointBuilder is not None

"""Sessions without a `Moq`: on the in-memory transport, and between bare endpoints."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from iroh import Connection

from iroh_moq import (
    ALPN,
    BroadcastProducer,
    Closed,
    ConnectError,
    IncomingSession,
    IncomingSessionStream,
    InvalidArgument,
    InvalidType,
    MoqError,
    MoqSession,
    NotAnnounced,
    SessionClosed,
)
from iroh_moq.address import ticket_of
from iroh_moq.session import REJECTED
from iroh_moq.transport.memory import MemoryTransport
from tests.conftest import MakePair, idle, within
from tests.endpoints import PATIENCE, bare_endpoint, refuse_next


async def sessions(make: MakePair) -> tuple[MoqSession, MoqSession]:
    """Both ends of one."""
    first, second = make()
    return await MoqSession.session_connect(first), await MoqSession.session_accept(second)


def broadcast(session: MoqSession, name: str = "cam") -> BroadcastProducer:
    """One that is offered to the session's peer."""
    producer = BroadcastProducer()
    session.publish(name, producer.consume())
    return producer


class TestSubscribing:
    async def test_both_ways_at_once(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            for here, there in ((first, second), (second, first)):
                track = broadcast(here, "/a//b/").create_track("video")
                consumer = await there.subscribe("a/b/")
                reader = consumer.subscribe_track("video")
                await track.used()
                track.write_frame(b"x")
                assert await reader.read_frame() == b"x"

    async def test_waits_for_the_announcement(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            waiting = asyncio.ensure_future(second.subscribe("cam"))
            broadcast(first, "other")
            await idle()
            assert not waiting.done()
            producer = broadcast(first)
            consumer = await waiting
            producer.finish()
            assert await consumer.closed() is None

    async def test_one_that_is_taken_back_at_once(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            waiting = asyncio.ensure_future(second.subscribe("cam"))
            await idle()
            # Both pieces of news in one message, so that no task runs between them.
            second._lite._subscriber._origin.publish("cam", BroadcastProducer()._state)
            second._lite._subscriber._origin.remove("cam")
            with pytest.raises(Closed, match="'cam' was announced and taken back"):
                await waiting

    async def test_a_peer_that_announces_no_more(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            waiting = asyncio.ensure_future(second.subscribe("cam"))
            await idle()
            first.origin_producer()._state.close(None)
            with pytest.raises(NotAnnounced):
                await waiting
            with pytest.raises(NotAnnounced):
                await second.subscribe("cam")

    async def test_one_that_is_not_announced_is_kept_as_long_as_somebody_has_it(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            consumer = await second.subscribe("cam", announced=False)
            assert await second.subscribe("cam", announced=False) == consumer
            del consumer
            gc.collect()
            assert not second._lite._subscriber._asked

    async def test_a_session_that_has_ended(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with within():
            waiting = asyncio.ensure_future(second.subscribe("cam"))
            await idle()
            first.close(7, "bye")
            with pytest.raises(SessionClosed) as caught:
                await waiting
            assert (caught.value.code, caught.value.reason) == (7, "bye")
            with pytest.raises(SessionClosed, match="code 7, bye"):
                await second.subscribe("cam")
            await first.closed()
            await second.closed()

    @pytest.mark.parametrize(("name", "error"), [("", InvalidArgument), ("///", InvalidArgument), (7, InvalidType)])
    async def test_a_name_that_is_none(self, memory_pair: MakePair, name: Any, error: type[Exception]) -> None:
        first, second = await sessions(memory_pair)
        async with first, second:
            with pytest.raises(error, match="broadcast name"):
                await first.subscribe(name)
            with pytest.raises(error, match="broadcast name"):
                first.publish(name, BroadcastProducer().consume())

    async def test_only_a_consumer_can_be_published(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second:
            wrong: Any = BroadcastProducer()
            with pytest.raises(InvalidType, match="not BroadcastProducer"):
                first.publish("cam", wrong)

    async def test_what_is_offered_by_origin(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            first.origin_producer().publish_broadcast("a", BroadcastProducer().consume())
            for _ in range(2):
                # Each consumer starts with all there is.
                news = await second.origin_consumer().announced()
                assert news is not None
                assert news[0] == "a"


class TestBandwidth:
    async def test_the_peers_estimates(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        transport = first.conn()
        assert isinstance(transport, MemoryTransport)
        transport.rtt, transport.congestion_window = 1.0, 1000
        async with first, second, within():
            async for rate in second.bandwidth():
                assert rate == 8000
                break

    async def test_ends_with_the_session(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, within():
            second.close()
            with pytest.raises(SessionClosed):
                async for _ in second.bandwidth():
                    pass
            await second.closed()


class TestEnding:
    async def test_a_broadcast_forgets_those_it_was_offered_to(self, memory_pair: MakePair) -> None:
        """It may outlive any number of them."""
        producer = BroadcastProducer()
        for _ in range(3):
            first, second = await sessions(memory_pair)
            async with first, second, within():
                first.publish("cam", producer.consume())
                await second.subscribe("cam")
            await idle()
        assert not producer._state.watchers

    async def test_a_block_closes_it_well(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with within():
            async with first:
                assert not first.is_closed
            assert first.is_closed
            error = await second.closed()
            assert (error.code, error.reason, error.local) == (0, "", False)

    @pytest.mark.parametrize(
        ("reason", "text"), [("bye", "bye"), (b"bye", "bye"), (b"\xff", "\N{REPLACEMENT CHARACTER}"), ("\udcff", "?")]
    )
    async def test_a_reason_is_text_or_bytes(self, memory_pair: MakePair, reason: str | bytes, text: str) -> None:
        first, second = await sessions(memory_pair)
        first.close(5, reason)
        async with within():
            assert (await second.closed()).reason == text
            assert (await first.closed()).local

    @pytest.mark.parametrize(
        ("code", "error"), [(-1, InvalidArgument), (1 << 32, InvalidArgument), ("0", InvalidType), (None, InvalidType)]
    )
    async def test_a_code_that_is_none(self, memory_pair: MakePair, code: Any, error: type[Exception]) -> None:
        first, second = await sessions(memory_pair)
        async with first, second:
            with pytest.raises(error, match="code must be"):
                first.close(code)
            assert not first.is_closed


class TestWhatItStandsOn:
    async def test_a_transport_or_a_connection_and_nothing_else(self) -> None:
        for make in (MoqSession.session_connect, MoqSession.session_accept):
            wrong: Any = "connection"
            with pytest.raises(InvalidType, match="not str"):
                await make(wrong)

    async def test_it_tells_of_its_peer_and_connection(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second:
            assert first.remote_id() == "b"
            assert repr(first) == "<MoqSession with b>"
            assert first.stats().rtt == 0.01

    async def test_between_bare_endpoints(self) -> None:
        async with bare_endpoint() as here, bare_endpoint() as there, asyncio.timeout(PATIENCE):
            connecting = asyncio.ensure_future(MoqSession.connect(here, ticket_of(there)))
            incoming = await there.accept_next()
            assert incoming is not None
            connection = await (await incoming.accept()).connect()
            async with await connecting as first, await MoqSession.session_accept(connection) as second:
                assert isinstance(first.conn(), Connection)
                assert first.remote_id() == there.id()
                assert second.remote_id() == here.id()
                track = broadcast(second).create_track("video")
                reader = (await first.subscribe("cam")).subscribe_track("video")
                await track.used()
                track.write_frame(b"x")
                assert await reader.read_frame() == b"x"
                assert first.stats().received_bytes > 0

    async def test_a_peer_that_cannot_be_dialled(self) -> None:
        async with bare_endpoint() as here, bare_endpoint(alpns=(b"other",)) as there:
            refusing = asyncio.ensure_future(refuse_next(there))
            session = None
            with pytest.raises(ConnectError, match="cannot be reached"):
                session = await asyncio.wait_for(MoqSession.connect(here, ticket_of(there)), PATIENCE)
            await refusing
            with pytest.raises(InvalidArgument, match="neither a ticket"):
                session = await MoqSession.connect(here, "nonsense")
            assert session is None

    def test_its_protocol_has_a_name(self) -> None:
        assert ALPN == b"moq-lite-03"


class TestIncoming:
    async def test_accept_gives_the_session_that_is_live_already(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second:
            incoming = IncomingSession(first)
            assert incoming.remote_id() == "b"
            assert incoming.accept() is first
            assert not first.is_closed

    async def test_reject_tells_the_peer_so(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        IncomingSession(first).reject()
        async with within():
            error = await second.closed()
            assert (error.code, error.reason) == (REJECTED, "rejected")
            await first.closed()

    async def test_a_stream_gives_each_once_and_ends(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            stream = IncomingSessionStream()
            waiting = asyncio.ensure_future(stream.next())
            await idle()
            stream._push(first)
            given = await waiting
            assert given is not None
            assert given.accept() is first
            stream._push(second)
            stream._end()
            assert [incoming.accept() async for incoming in stream] == [second]
            assert await stream.next() is None

    async def test_a_cancelled_reader_loses_nothing(self, memory_pair: MakePair) -> None:
        first, second = await sessions(memory_pair)
        async with first, second, within():
            stream = IncomingSessionStream()
            waiting = asyncio.ensure_future(stream.next())
            await idle()
            stream._push(first)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            given = await stream.next()
            assert given is not None
            assert given.accept() is first

    async def test_a_slow_reader_misses_the_oldest_and_is_told(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "iroh_moq.session")
        first, second = await sessions(memory_pair)
        async with first, second, within():
            stream = IncomingSessionStream()
            for session in (first, *[second] * 64):
                stream._push(session)
            assert len([record for record in caplog.records if "too slow" in record.message]) == 1
            stream._end()
            assert [incoming.accept() async for incoming in stream] == [second] * 64
            assert not first.is_closed


async def test_a_track_that_is_not_there(memory_pair: MakePair) -> None:
    first, second = await sessions(memory_pair)
    async with first, second, within():
        broadcast(first)
        consumer = await second.subscribe("cam")
        with pytest.raises(MoqError, match="not found"):
            await consumer.subscribe_track("none").next_group()

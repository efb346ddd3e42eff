"""A session as a whole: how it begins and ends, and that two of them understand each other."""

from __future__ import annotations

import asyncio

import pytest

from iroh_moq import BroadcastProducer, OriginProducer, SessionClosed
from iroh_moq.lite import LiteSession
from tests.conftest import MakePair, idle, within
from tests.lite.peer import assert_no_streams, lite


class TestBeginning:
    async def test_one_stream_is_opened_at_once_and_asks_for_every_broadcast(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news = await run.announcing()
            await news.reply.quiet()
            await idle()
            assert not run.peer._bi
            await run.no_group()

    async def test_the_peers_first_stream_confirms_it(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            confirmed = asyncio.ensure_future(run.session.confirmed())
            await idle()
            assert not confirmed.done()
            await run.request()
            async with within():
                await confirmed
                await run.session.confirmed()

    async def test_its_end_is_an_answer_too(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            confirmed = asyncio.ensure_future(run.session.confirmed())
            await idle()
            run.peer.close(1, "rejected")
            async with within():
                await confirmed


class TestEnd:
    @pytest.mark.parametrize(("code", "reason"), [(0, ""), (7, "enough"), ((1 << 32) - 1, "ü")])
    async def test_a_close_reaches_both_sides(self, memory_pair: MakePair, code: int, reason: str) -> None:
        async with lite(memory_pair) as run:
            run.session.close(code, reason)
            async with within():
                here, there = await run.session.closed(), await run.peer.closed()
            assert (here.code, here.reason, here.local) == (code, reason, True)
            assert (there.code, there.reason, there.local) == (code, reason, False)
            # The first one counts.
            run.session.close(9, "again")
            assert await run.session.closed() is here

    async def test_the_peers_close_is_told_as_such(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            run.peer.close(7, "bye")
            async with within():
                error = await run.session.closed()
            assert (error.code, error.reason, error.local) == (7, "bye", False)

    async def test_everything_received_ends_with_it(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            waiting = asyncio.ensure_future(run.received.consume().wait_broadcast("never"))
            news = await run.announcing()
            await news.write(b"\x04\x01\x01a\x01")
            async with within():
                broadcast = await run.received.consume().wait_broadcast("a")
                run.peer.lose()
                await run.session.closed()
                error = await broadcast.closed()
                assert isinstance(error, SessionClosed)
                assert error.reason == "timed out"
                with pytest.raises(SessionClosed, match="timed out"):
                    await waiting
            assert_no_streams(run.peer)

    async def test_what_is_offered_lives_on(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            broadcast, track = run.publish()
            await run.announce()
            await run.subscribe()
            await idle()
            assert track.is_used
            run.peer.close(0, "")
            async with within():
                await track.unused()
                await run.session.closed()
            assert not broadcast.is_closed
            # Nothing in it holds on to the session.
            assert not run.offered._state.views

    async def test_waiting_for_the_end_can_be_cancelled(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            waiting = asyncio.ensure_future(run.session.closed())
            await idle()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await run.still_answers()

    async def test_a_cancelled_supervisor_closes_the_connection(self, memory_pair: MakePair) -> None:
        """As when a loop ends under it: the peer is told, and no task is left."""
        async with lite(memory_pair) as run:
            broadcast, _ = run.publish()
            await run.announcing()
            run.session._supervisor.cancel()
            async with within():
                assert (await run.peer.closed()).code == 0
                assert (await run.session.closed()).local
            assert not broadcast.is_closed


class TestTwoSessions:
    async def test_serve_each_other_at_once(self, memory_pair: MakePair) -> None:
        transports = memory_pair()
        offers, received, sessions = [], [], []
        for index, transport in enumerate(transports):
            offers.append(OriginProducer())
            received.append(OriginProducer())
            sessions.append(LiteSession(transport, offers[index].consume(), received[index]))
        async with within():
            for index, offer in enumerate(offers):
                broadcast = BroadcastProducer()
                track = broadcast.create_track("video")
                offer.publish_broadcast(f"cam/{index}", broadcast.consume())
                consumer = await received[1 - index].consume().wait_broadcast(f"cam/{index}")
                reading = consumer.subscribe_track("video")
                await track.used()
                track.write_frame(b"%d" % index)
                track.finish()
                assert await reading.read_frame() == b"%d" % index
                assert await reading.read_frame() is None
                broadcast.finish()
                assert await consumer.closed() is None
            await idle()
            # The two on which they announce.
            assert_no_streams(transports[0], but=4)
            sessions[0].close(0, "")
            for session in sessions:
                await session.closed()


async def test_what_has_been_silent_so_far_counts(memory_pair: MakePair) -> None:
    """However often the session is asked for again."""
    ours, _ = memory_pair()
    session = LiteSession(ours, OriginProducer().consume(), OriginProducer())
    session.give_up_after(60.0)
    listening = session._listening
    session.give_up_after(60.0)
    assert session._listening is listening
    session.give_up_after(0.01)
    async with within():
        error = await session.closed()
    assert (error.code, error.reason, error.local) == (None, "nothing has come for 0.01 seconds", False)

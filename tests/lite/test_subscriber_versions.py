"""The subscriber's side in the versions after moq-lite-03, against a publisher driven by hand."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from iroh_moq import BroadcastConsumer, ErrorCode, MoqError, SessionClosed, Subscription, TrackConsumer, TrackInfo
from iroh_moq.lite.messages import (
    Announce,
    Datagram,
    Fetch,
    Group,
    Probe,
    Subscribe,
    SubscribeDrop,
    SubscribeEnd,
    SubscribeStart,
    TrackReply,
    TrackRequest,
)
from iroh_moq.lite.version import LITE_03, LITE_04, LITE_05, MAX_HOPS, Version
from iroh_moq.lite.wire import varint, zigzag
from iroh_moq.transport import RecvStream, SendStream
from tests.conftest import MakePair, idle, within
from tests.lite.peer import PEER, Exchange, Lite, assert_no_streams, code_of
from tests.lite.test_publisher_versions import OLD, speaking


async def announced(run: Lite, name: str = "cam", *route: int) -> tuple[Exchange, BroadcastConsumer]:
    """A broadcast of the peer, and the stream it was announced on."""
    news = await run.announcing()
    await news.write(Announce(True, name, len(route), route).encode(run.session.version))
    async with within():
        return news, await run.received.consume().wait_broadcast(name)


async def subscribed(run: Lite, **wishes: Any) -> tuple[Exchange, Exchange, TrackConsumer]:
    """A subscription of ours with moq-lite-05: its stream, and the one that asks what the track is."""
    _, broadcast = await announced(run)
    consumer = broadcast.subscribe_track("video", **wishes)
    subscription, inquiry = await run.asked(), await run.asked()
    # In this order: nothing of the subscription waits for what the track is.
    await subscription.reply.expect(Subscribe(0, "cam", "video", Subscription(**wishes)).encode())
    await inquiry.reply.expect(TrackRequest("cam", "video").encode())
    return subscription, inquiry, consumer


async def tell(exchange: Exchange, info: TrackInfo) -> None:
    await exchange.write(TrackReply(info).encode())
    await exchange.finish()
    assert await exchange.reply.rest() == b""


class TestAnnouncements:
    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_the_way_here_is_known(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            _, broadcast = await announced(run, "cam", 5, 6)
            route = (5, 6, PEER) if version.announce_ok else (5, 6)
            assert (broadcast._state.route, broadcast.hops) == (route, len(route))

    async def test_of_03_only_how_long_it_is(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_03) as run:
            news = await run.announcing()
            for name, hops in (("cam", 2), ("far", 300)):
                await news.write(Announce(True, name, hops).encode(LITE_03))
                async with within():
                    state = (await run.received.consume().wait_broadcast(name))._state
                assert (state.route, state.hops) == ((0,) * min(hops, MAX_HOPS), hops)

    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_what_has_been_here_is_not_taken(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            news = await run.announcing()
            own = run.session.origin_id
            await news.write(Announce(True, "loop", 2, (5, own)).encode(version))
            await news.write(Announce(True, "far", MAX_HOPS, tuple(range(1, MAX_HOPS + 1))).encode(version))
            # Its end is none for us.
            await news.write(Announce(False, "loop").encode(version))
            await news.write(Announce(True, "cam", 1, (5,)).encode(version))
            async with within():
                await run.received.consume().wait_broadcast("cam")
            expected = ["cam"] if version.announce_ok else ["far", "cam"]
            assert list(run.received._state.active) == expected

    async def test_another_way_is_the_same_broadcast(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            news, broadcast = await announced(run, "cam", 5, 6)
            await news.write(Announce(True, "cam", 3, (5, 7, 8)).encode(LITE_05))
            await idle()
            assert run.received.consume_broadcast("cam") == broadcast
            assert broadcast._state.route == (5, 7, 8, PEER)

    @pytest.mark.parametrize("first", [(5, 6), (0,)])
    async def test_another_publisher_is_another_one(self, memory_pair: MakePair, first: tuple[int, ...]) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            news, broadcast = await announced(run, "cam", *first)
            other = (0,) if first == (0,) else (4, 6)
            await news.write(Announce(True, "cam", 2, other).encode(LITE_05))
            await idle()
            assert broadcast.is_closed
            assert run.received.consume_broadcast("cam") not in (None, broadcast)

    async def test_a_way_through_here_is_the_end_of_it(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            news, broadcast = await announced(run, "cam", 5, 6)
            own = run.session.origin_id
            await news.write(Announce(True, "cam", 2, (5, own)).encode(LITE_05))
            await idle()
            assert broadcast.is_closed
            assert run.received.consume_broadcast("cam") is None

    async def test_04_knows_no_second_announcement(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_04) as run:
            news, _ = await announced(run, "cam", 5)
            await news.write(Announce(True, "cam", 1, (5,)).encode(LITE_04))
            assert await news.refused() == ErrorCode.DUPLICATE


class TestSubscriptions:
    async def test_from_its_start_to_its_end(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, track, consumer = await subscribed(run)
            await tell(track, TrackInfo(timescale=10))
            await exchange.write(SubscribeStart(3).encode(LITE_05), SubscribeDrop(1, 2, 2).encode(LITE_05))
            await run.whole_group(Group(0, 3).encode(), b"\x00\x01a", varint(zigzag(25)), b"\x01b", b"\x09\x01c")
            async with within():
                frames = [await consumer.read_timed_frame() for _ in range(3)]
            assert frames == [(b"a", 0.0), (b"b", 2.5), (b"c", 2.0)]
            assert await consumer.info() == TrackInfo(timescale=10)
            await exchange.write(SubscribeEnd(4).encode(LITE_05))
            await exchange.finish()
            async with within():
                assert await consumer.next_group() is None

    async def test_frames_need_not_wait_for_what_the_track_is(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track, consumer = await subscribed(run)
            await run.whole_group(Group(0, 0).encode(), b"\x00\x01a\x02\x01b")
            async with within():
                assert await consumer.read_frame() == b"a"
                reading = asyncio.ensure_future(consumer.read_timed_frame())
            await idle()
            assert not reading.done()
            await tell(track, TrackInfo(timescale=4))
            async with within():
                assert await reading == (b"b", 0.25)

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            pytest.param(b"", ErrorCode.DECODE, id="none"),
            pytest.param(b"\x04\x00\x00\x00\x00", ErrorCode.DECODE, id="a timescale of 0"),
            pytest.param(b"\x01", ErrorCode.DECODE, id="cut short"),
            pytest.param(TrackReply(TrackInfo()).encode() * 2, ErrorCode.UNEXPECTED_MESSAGE, id="two"),
        ],
    )
    async def test_an_answer_that_means_nothing(self, memory_pair: MakePair, answer: bytes, code: int) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track, consumer = await subscribed(run)
            await track.write(answer)
            await track.finish()
            assert await code_of(consumer.info()) == code
            await run.whole_group(Group(0, 0).encode(), b"\x02\x01a")
            async with within():
                assert await consumer.read_timed_frame() == (b"a", None)

    async def test_a_refusal_to_say_what_the_track_is(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track, consumer = await subscribed(run)
            asking = asyncio.ensure_future(consumer.info())
            await idle()
            track.reset(51)
            track.reply.stop(51)
            assert await code_of(asking) == ErrorCode.NOT_FOUND

    async def test_who_leaves_does_not_ask_any_more(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, track, consumer = await subscribed(run)
            consumer.close()
            assert await track.reply.reset() == ErrorCode.CANCEL
            assert await track.stopped() == ErrorCode.CANCEL
            track.reset(0)
            await exchange.finish()
            assert await exchange.reply.rest() == b""
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_who_comes_when_the_first_has_just_left_is_told_too(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While no stream can be opened, both are readers of one subscription."""
        async with speaking(memory_pair, LITE_05) as run:
            _, broadcast = await announced(run)
            allowed, open_bi = asyncio.Event(), run.ours.open_bi

            async def slow() -> tuple[SendStream, RecvStream]:
                await allowed.wait()
                return await open_bi()

            monkeypatch.setattr(run.ours, "open_bi", slow)
            first = broadcast.subscribe_track("video")
            await idle()
            first.close()
            await idle()
            second = broadcast.subscribe_track("video")
            allowed.set()
            await run.asked()
            inquiry = await run.asked()
            await inquiry.reply.expect(TrackRequest("cam", "video").encode())
            await tell(inquiry, TrackInfo(timescale=10))
            async with within():
                assert (await second.info()).timescale == 10

    async def test_the_session_ends_first(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, _, consumer = await subscribed(run)
            asking = asyncio.ensure_future(consumer.info())
            await idle()
            run.peer.close(7, "bye")
            async with within():
                with pytest.raises(SessionClosed):
                    await asking

    @OLD
    async def test_older_versions_cannot(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            _, broadcast = await announced(run, "cam", *((5,) if version.hop_ids else ()))
            consumer = broadcast.subscribe_track("video")
            for call in (consumer.info(), consumer.recv_datagram(), broadcast.fetch_group("video", 0)):
                with pytest.raises(MoqError, match=f"speaks {version.name}") as caught:
                    await call
                assert caught.value.code == ErrorCode.UNSUPPORTED
            # To those it passes them on to, a relay says what it takes them for.
            assert await broadcast._state.track_info("video") == TrackInfo()


class TestDatagrams:
    async def test_each_goes_to_its_subscription(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track, consumer = await subscribed(run)
            await tell(track, TrackInfo(timescale=10))
            limit = (1 << 62) - 1
            for data in (
                b"",
                b"\x40",
                b"\x00\x00",
                Datagram(1, 0, 0, b"of nobody").encode(),
                Datagram(0, limit, 0, b"out of bounds").encode(),
                Datagram(0, 0, limit, b"out of bounds").encode(),
                Datagram(0, 7, 25, b"mine").encode(),
            ):
                run.peer.send_datagram(data)
            async with within():
                assert await consumer.recv_datagram() == (7, b"mine", 2.5)
            await run.still_answers()

    async def test_a_flood_of_them_leaves_others_their_turn(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, _, consumer = await subscribed(run)
            for number in range(1000):
                run.peer.send_datagram(Datagram(0, number, 0, b"x").encode())
            await idle()
            assert consumer._state.datagrams_came == 1000
            assert len(consumer._state.datagrams) == 256


class TestFetch:
    async def fetching(self, run: Lite) -> tuple[Exchange, Exchange, asyncio.Future[Any], BroadcastConsumer]:
        """A fetch of ours: its stream, the one that asks what the track is, and the call."""
        _, broadcast = await announced(run)
        call = asyncio.ensure_future(broadcast.fetch_group("video", 7, 9))
        fetch, track = await run.asked(), await run.asked()
        await fetch.reply.expect(Fetch("cam", "video", 9, 7).encode())
        await track.reply.expect(TrackRequest("cam", "video").encode())
        return fetch, track, call, broadcast

    async def test_a_past_group(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, track, call, _ = await self.fetching(run)
            await idle()
            assert not call.done()
            await exchange.write(b"\x00\x01a")
            async with within():
                group = await call
            assert group.sequence == 7
            await exchange.write(b"\x14\x01b")
            await exchange.finish()
            await tell(track, TrackInfo(timescale=10))
            async with within():
                assert [frame async for frame in group.timed_frames()] == [(b"a", 0.0), (b"b", 1.0)]
            assert await exchange.reply.rest() == b""

    async def test_one_without_frames(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, _, call, _ = await self.fetching(run)
            await exchange.finish()
            async with within():
                assert await (await call).read_all() == b""

    @pytest.mark.parametrize(("sent", "code"), [(51, ErrorCode.NOT_FOUND), (13, ErrorCode.NOT_FOUND), (70, 70)])
    async def test_one_that_is_not_kept(self, memory_pair: MakePair, sent: int, code: int) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, track, call, _ = await self.fetching(run)
            exchange.reset(sent)
            assert await code_of(call) == code
            track.reset(sent)
            await idle()
            assert_no_streams(run.peer, but=2)

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(b"\x00\x05ab", ErrorCode.WRONG_SIZE, id="cut short"),
            pytest.param(b"\x01\x01a", ErrorCode.DECODE, id="a time before 0"),
            pytest.param(b"\x00" + varint(1 << 40), ErrorCode.FRAME_TOO_LARGE, id="far too long"),
        ],
    )
    async def test_one_that_means_nothing(self, memory_pair: MakePair, data: bytes, code: int) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, _, call, _ = await self.fetching(run)
            await exchange.write(data)
            await exchange.finish()
            assert await code_of(call) == code
            await run.still_answers()

    async def test_a_failure_half_way_comes_after_what_has_come(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, _, call, _ = await self.fetching(run)
            await exchange.write(b"\x00\x01a")
            async with within():
                group = await call
                assert await group.read_frame() == b"a"
            exchange.reset(31)
            assert await code_of(group.read_frame()) == ErrorCode.EVICTED

    async def test_the_session_ends(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, _, call, broadcast = await self.fetching(run)
            run.peer.close(7, "bye")
            async with within():
                with pytest.raises(SessionClosed):
                    await call
                await run.session.closed()
                with pytest.raises(SessionClosed):
                    await broadcast.fetch_group("video", 1)
                assert broadcast._state.source is not None
                with pytest.raises(SessionClosed):
                    await broadcast._state.source.fetch_group("video", 1, 0)

    async def test_who_waits_no_more_leaves_nothing_behind(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, track, call, _ = await self.fetching(run)
            call.cancel()
            await idle()
            assert await exchange.refused() == ErrorCode.CANCEL
            await tell(track, TrackInfo())
            await idle()
            assert_no_streams(run.peer, but=2)

    @pytest.mark.parametrize("closing", [True, False])
    async def test_who_throws_the_group_away_neither(self, memory_pair: MakePair, closing: bool) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            exchange, _, call, _ = await self.fetching(run)
            await exchange.write(b"\x00\x01a")
            async with within():
                group = await call
            if closing:
                group.close()
            del group, call
            gc.collect()
            await idle()
            assert await exchange.refused() == ErrorCode.CANCEL

    async def test_it_comes_no_faster_than_it_is_read(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05, window=100_000) as run:
            exchange, _, call, _ = await self.fetching(run)
            frame = b"\x00" + varint(50_000) + bytes(50_000)
            writing = asyncio.ensure_future(exchange.stream.write(frame * 100))
            async with within():
                group = await call
            await idle()
            assert not writing.done()
            assert group._state.cost < 1_300_000
            async with within(20):
                for _ in range(100):
                    assert await group.read_frame() == bytes(50_000)
                    assert group._state.cost < 2_000_000
                await writing


class TestOthers:
    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_reports_of_the_rate_have_the_round_trip(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            await run.announcing()
            reports = run.session.probe()
            report = asyncio.ensure_future(anext(reports))
            exchange = await run.asked()
            await exchange.reply.expect(b"\x04")
            await exchange.write(Probe(300, 7).encode(version))
            async with within():
                assert await report == 300
            await reports.aclose()

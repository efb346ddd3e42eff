"""The subscriber's side against a publisher driven by hand, which sends right things and wrong ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from iroh_moq import (
    BroadcastConsumer,
    ErrorCode,
    Limits,
    MoqError,
    NotAnnounced,
    SessionClosed,
    Subscription,
    TrackConsumer,
)
from iroh_moq.aio import reap
from iroh_moq.lite import receiving
from iroh_moq.lite.messages import (
    Announce,
    Group,
    Probe,
    Subscribe,
    SubscribeDrop,
    SubscribeOk,
    SubscribeUpdate,
)
from iroh_moq.lite.priority import CONTROL_PRIORITY
from iroh_moq.lite.version import LITE_03
from iroh_moq.lite.wire import MAX_MESSAGE_SIZE, MAX_VARINT, varint
from iroh_moq.model import MAX_FRAME_SIZE
from iroh_moq.model.subscription import MAX_GROUP
from tests.conftest import MakePair, idle, within
from tests.lite.peer import Exchange, Lite, assert_no_streams, code_of, lite

ACTIVE = Announce(True, "cam", 1).encode(LITE_03)
ENDED = Announce(False, "cam").encode(LITE_03)
OK = SubscribeOk(Subscription()).encode(LITE_03)


async def announced(run: Lite, name: str = "cam") -> tuple[Exchange, BroadcastConsumer]:
    """A broadcast of the peer, and the stream it was announced on."""
    news = await run.announcing()
    await news.write(Announce(True, name, 1).encode(LITE_03))
    async with within():
        return news, await run.received.consume().wait_broadcast(name)


async def subscribed(run: Lite, track: str = "video", **wishes: Any) -> tuple[Exchange, TrackConsumer]:
    """A subscription of ours to a track of `cam`, the first of the session, which the peer has accepted."""
    _, broadcast = await announced(run)
    consumer = broadcast.subscribe_track(track, **wishes)
    exchange = await run.asked()
    await exchange.reply.expect(Subscribe(0, "cam", track, Subscription(**wishes)).encode())
    await exchange.write(OK)
    return exchange, consumer


async def read_group(consumer: TrackConsumer) -> tuple[int, bytes] | None:
    """The next group, whole."""
    async with within():
        group = await consumer.next_group()
        return None if group is None else (group.sequence, await group.read_all())


async def asked_too(run: Lite) -> TrackConsumer:
    """Another subscription, which has asked and got no answer."""
    broadcast = run.received.consume_broadcast("cam")
    assert broadcast is not None
    consumer = broadcast.subscribe_track("audio")
    await run.asked()
    return consumer


class TestAnnouncements:
    async def test_become_broadcasts_and_go_again(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news = await run.announcing()
            assert news.reply.priority == CONTROL_PRIORITY
            origin = run.received.consume()
            await news.write(b"\x0d\x01\x0aroom/hello\x01")
            async with within():
                path, broadcast = await origin.announced() or ("", None)
                assert path == "room/hello"
                assert broadcast is not None
                assert broadcast.hops == 1
                await news.write(b"\x0d\x00\x0aroom/hello\x00")
                assert await origin.announced() == ("room/hello", None)
                assert await broadcast.closed() is None

    async def test_a_path_is_normalised(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news = await run.announcing()
            await news.write(Announce(True, "/a//b/", 1).encode(LITE_03), Announce(False, "a/b").encode(LITE_03))
            await news.write(Announce(True, "c", 1).encode(LITE_03))
            async with within():
                await run.received.consume().wait_broadcast("c")
            assert run.received.consume_broadcast("a/b") is None

    async def test_a_name_can_come_again(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news, first = await announced(run)
            await news.write(ENDED, ACTIVE)
            await idle()
            second = run.received.consume_broadcast("cam")
            assert second is not None
            assert second != first
            assert first.is_closed

    async def test_an_end_of_what_is_not_there_is_ignored(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news, _ = await announced(run)
            await news.write(
                Announce(False, "never").encode(LITE_03), ENDED, ENDED, Announce(True, "next", 1).encode(LITE_03)
            )
            async with within():
                await run.received.consume().wait_broadcast("next")
            assert run.received.consume_broadcast("cam") is None

    @pytest.mark.parametrize(
        ("news", "code"),
        [
            pytest.param(ACTIVE, ErrorCode.DUPLICATE, id="active twice"),
            pytest.param(b"\x03\x01\x00\x01", ErrorCode.DECODE, id="without a name"),
            pytest.param(b"\x04\x02\x01a\x00", ErrorCode.DECODE, id="of an unknown status"),
            pytest.param(b"\x05\x01\x01a\x01\x00", ErrorCode.DECODE, id="with more than its fields"),
            pytest.param(b"\x02\x01\x01", ErrorCode.DECODE, id="with less than its fields"),
            pytest.param(b"\x00", ErrorCode.DECODE, id="of no bytes"),
            pytest.param(Announce(True, "a/" * 33, 1).encode(LITE_03), ErrorCode.DECODE, id="of 33 parts"),
            pytest.param(Announce(True, "x" * 1025, 1).encode(LITE_03), ErrorCode.DECODE, id="of 1025 bytes"),
            pytest.param(varint(MAX_MESSAGE_SIZE + 1), ErrorCode.FRAME_TOO_LARGE, id="too long"),
        ],
    )
    async def test_that_mean_nothing_end_the_announcing_and_leave_the_session(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture, news: bytes, code: ErrorCode
    ) -> None:
        async with lite(memory_pair) as run:
            stream, broadcast = await announced(run)
            await stream.write(news)
            assert await stream.refused() == code
            assert len([record for record in caplog.records if "announcements of b refused" in record.message]) == 1
            async with within():
                await broadcast.closed()
                with pytest.raises(NotAnnounced):
                    await run.received.consume().wait_broadcast("cam")
            await run.still_answers()

    async def test_what_came_before_the_fault_counted(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            origin = run.received.consume()
            news = await run.announcing()
            await news.write(ACTIVE)
            async with within():
                path, broadcast = await origin.announced() or ("", None)
                assert (path, broadcast is not None) == ("cam", True)
                await news.write(b"\x00")
                assert await origin.announced() == ("cam", None)
                assert await origin.announced() is None

    async def test_more_than_anybody_needs(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, limits=Limits(announcements=3)) as run:
            news = await run.announcing()
            for _ in range(3):
                # Those that have gone do not count.
                await news.write(Announce(True, "a", 1).encode(LITE_03), Announce(False, "a").encode(LITE_03))
            await news.write(*(Announce(True, name, 1).encode(LITE_03) for name in "abc"))
            await news.reply.quiet()
            await news.write(Announce(True, "d", 1).encode(LITE_03))
            assert await news.refused() == ErrorCode.BOUNDS_EXCEEDED
            await run.still_answers()

    @pytest.mark.parametrize("rest", [b"\x04", b"\x04\x01\x01", b"\x40"])
    async def test_that_end_inside_a_message(self, memory_pair: MakePair, rest: bytes) -> None:
        async with lite(memory_pair) as run:
            news, broadcast = await announced(run)
            await news.write(rest)
            await news.finish()
            assert await news.reply.reset() == ErrorCode.DECODE
            assert broadcast.is_closed
            await run.still_answers()

    async def test_everything_goes_with_the_stream(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news, broadcast = await announced(run)
            await news.finish()
            assert await news.reply.rest() == b""
            async with within():
                assert await broadcast.closed() is None
                with pytest.raises(NotAnnounced):
                    await run.received.consume().wait_broadcast("other")
            await run.still_answers()

    async def test_a_reset_ends_them_and_not_the_session(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            news, broadcast = await announced(run)
            news.reset(ErrorCode.UNAUTHORIZED)
            assert await news.reply.reset() == ErrorCode.CANCEL
            async with within():
                assert await broadcast.closed() is None
            await run.still_answers()

    async def test_a_peer_that_will_not_announce(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=1) as run:
            news = await run.asked()
            news.reply.stop(ErrorCode.UNSUPPORTED)
            assert await news.stopped() == ErrorCode.CANCEL
            async with within():
                with pytest.raises(NotAnnounced):
                    await run.received.consume().wait_broadcast("cam")

    async def test_a_track_outlives_the_announcement(self, memory_pair: MakePair) -> None:
        """The publisher says when each track has had its last group."""
        async with lite(memory_pair) as run:
            news, broadcast = await announced(run)
            consumer = broadcast.subscribe_track("video")
            exchange = await run.asked()
            await exchange.write(OK)
            await news.write(ENDED)
            async with within():
                await broadcast.closed()
            await run.whole_group(b"\x00\x02\x00\x00\x08hi there")
            await exchange.finish()
            assert await read_group(consumer) == (0, b"hi there")
            assert await read_group(consumer) is None
            assert await code_of(broadcast.subscribe_track("audio").next_group()) == ErrorCode.NOT_FOUND


class TestSubscriptions:
    async def test_groups_and_the_end(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run, priority=9, max_latency=2.5, start_group=3, end_group=8)
            assert exchange.reply.priority == CONTROL_PRIORITY
            await run.whole_group(b"\x00\x02\x00\x03\x08hi there")
            await run.whole_group(b"\x00\x02\x00\x04\x01a\x02bb")
            await exchange.finish()
            assert await read_group(consumer) == (3, b"hi there")
            assert await read_group(consumer) == (4, b"abb")
            assert await read_group(consumer) is None
            assert await exchange.reply.rest() == b""
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_the_end_comes_after_groups_that_are_still_arriving(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            nameless = await run.group()
            begun = await run.group(Group(0, 1).encode(), b"\x01a")
            await exchange.finish()
            await exchange.reply.quiet()
            await nameless.write(Group(0, 0).encode())
            await nameless.finish()
            await exchange.reply.quiet()
            await begun.finish()
            assert await exchange.reply.rest() == b""
            assert [await read_group(consumer) for _ in range(3)] == [(0, b""), (1, b"a"), None]

    async def test_an_older_group_that_may_still_come_is_waited_for(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await subscribed(run)
            nameless = await run.group()
            await run.whole_group(Group(0, 1).encode(), b"\x01b")
            await idle()
            await nameless.write(Group(0, 0).encode(), b"\x01a")
            await nameless.finish()
            assert [await read_group(consumer) for _ in range(2)] == [(0, b"a"), (1, b"b")]

    async def test_one_that_never_comes_keeps_none_that_have_left_the_cache(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, limits=Limits(track_bytes=10_000)) as run:
            _, consumer = await subscribed(run)
            first, second = await run.group(), await run.group()
            for number in range(1, 2000):
                await run.whole_group(Group(0, number).encode(), b"\x01a")
            await idle()
            (behind,) = run.session._subscriber._receiver.arrivals._behind.values()
            assert len(behind._groups) < 2 * receiving._SWEEP
            # What has overtaken both is settled once both have said what they are, in whatever order.
            assert all(group.early for group in consumer._state.groups.values())
            await second.write(Group(7, 0).encode())
            await idle()
            assert all(group.early for group in consumer._state.groups.values())
            await first.write(Group(7, 0).encode())
            await idle()
            assert consumer._state.groups
            assert not any(group.early for group in consumer._state.groups.values())

    async def test_one_subscription_serves_all_and_follows_their_wishes(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, broadcast = await announced(run)
            first = broadcast.subscribe_track("video", priority=1, max_latency=1.0)
            exchange = await run.asked()
            await exchange.reply.expect(Subscribe(0, "cam", "video", Subscription(1, max_latency=1.0)).encode())
            second = broadcast.subscribe_track("video", priority=7, max_latency=2.0)
            await exchange.reply.expect(SubscribeUpdate(Subscription(7, max_latency=2.0)).encode())
            second.update(end_group=5)
            await exchange.reply.quiet()
            second.close()
            await exchange.reply.expect(SubscribeUpdate(Subscription(1, max_latency=1.0)).encode())
            first.close()
            assert await exchange.reply.rest() == b""
            assert await exchange.stopped() == ErrorCode.CANCEL
            third = broadcast.subscribe_track("video")
            await (await run.asked()).reply.expect(Subscribe(1, "cam", "video", Subscription()).encode())
            third.close()

    async def test_leaving_stops_the_groups_under_way(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            stream = await run.group(Group(0, 0).encode(), b"\x01a")
            async with within():
                group = await consumer.next_group()
                assert group is not None
                assert await group.read_frame() == b"a"
            consumer.close()
            assert await exchange.reply.rest() == b""
            assert await stream.stopped() == ErrorCode.CANCEL
            assert await code_of(group.read_frame()) == ErrorCode.CANCEL
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_one_that_is_closed_before_it_starts_is_never_asked_for(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, broadcast = await announced(run)
            broadcast.subscribe_track("video").close()
            exchange = await run.asked()
            assert await exchange.reply.reset() == ErrorCode.CANCEL
            assert await exchange.stopped() == ErrorCode.CANCEL

    async def test_drops_change_nothing_for_a_reader(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "iroh_moq.lite.subscriber")
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run, start_group=0)
            await exchange.write(SubscribeDrop(0, 3, ErrorCode.OLD).encode(LITE_03))
            await run.whole_group(Group(0, 4).encode(), b"\x01a")
            assert await read_group(consumer) == (4, b"a")
            assert "groups 0 to 3 were dropped, code 2" in caplog.text

    async def test_an_end_without_an_answer_is_an_empty_track(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, broadcast = await announced(run)
            consumer = broadcast.subscribe_track("video")
            await (await run.asked()).finish()
            assert await read_group(consumer) is None

    @pytest.mark.parametrize(
        ("code", "wanted"), [(13, 13), (51, 13), (52, 2), (53, 31), (0, 0), (70, 70), (1 << 40, 1 << 40)]
    )
    async def test_a_reset_is_the_readers_error(self, memory_pair: MakePair, code: int, wanted: int) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            exchange.reset(code)
            assert await code_of(consumer.next_group()) == wanted
            assert await exchange.reply.reset() == ErrorCode.CANCEL
            await run.still_answers()

    async def test_a_peer_that_stops_the_request_is_the_readers_error(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=10) as run:
            _, broadcast = await announced(run)
            consumer = broadcast.subscribe_track("video")
            exchange = await run.asked()
            exchange.reply.stop(ErrorCode.UNAUTHORIZED)
            assert await code_of(consumer.next_group()) == ErrorCode.UNAUTHORIZED
            assert await exchange.stopped() == ErrorCode.CANCEL

    async def test_a_peer_that_takes_no_updates_can_still_end_the_track(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            exchange.reply.stop(0)
            consumer.update(priority=4)
            await idle()
            await run.whole_group(Group(0, 0).encode(), b"\x01a")
            assert await read_group(consumer) == (0, b"a")
            await exchange.finish()
            assert await read_group(consumer) is None

    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            pytest.param(b"\x02\x00", ErrorCode.DECODE, id="unknown type"),
            pytest.param(b"\x00\x04\x00\x00\x00\x00", ErrorCode.DECODE, id="OK with less than its fields"),
            pytest.param(b"\x00\x06\x00\x00\x00\x00\x00\x00", ErrorCode.DECODE, id="OK with more than its fields"),
            pytest.param(b"\x01\x02\x00\x00", ErrorCode.DECODE, id="DROP with less than its fields"),
            pytest.param(b"\x00" + varint(MAX_MESSAGE_SIZE + 1), ErrorCode.FRAME_TOO_LARGE, id="too long"),
        ],
    )
    async def test_an_answer_that_means_nothing_ends_the_subscription_alone(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture, reply: bytes, code: ErrorCode
    ) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            stream = await run.group(Group(0, 0).encode())
            await exchange.write(reply)
            assert await exchange.refused() == code
            assert await stream.stopped() == ErrorCode.CANCEL
            async with within():
                group = await consumer.next_group()
                assert group is not None
            assert await code_of(group.read_frame()) == code
            assert await code_of(consumer.next_group()) == code
            assert len([record for record in caplog.records if "refused" in record.message]) == 1
            await run.still_answers()

    @pytest.mark.parametrize("rest", [b"\x00", b"\x00\x05\x80", b"\x40"])
    async def test_replies_that_end_inside_a_message(self, memory_pair: MakePair, rest: bytes) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            await exchange.write(rest)
            await exchange.finish()
            assert await exchange.reply.reset() == ErrorCode.DECODE
            assert await code_of(consumer.next_group()) == ErrorCode.DECODE

    async def test_a_peer_that_never_answers_keeps_nobody_else_waiting(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, broadcast = await announced(run)
            silent = broadcast.subscribe_track("silent")
            await run.asked()
            consumer = broadcast.subscribe_track("video")
            await run.asked()
            await run.whole_group(Group(1, 0).encode(), b"\x01a")
            assert await read_group(consumer) == (0, b"a")
            silent.close()

    async def test_the_sessions_end_is_the_readers(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await subscribed(run)
            waiting = await asked_too(run)
            await run.group(Group(0, 0).encode(), b"\x01a\x05")
            async with within():
                group = await consumer.next_group()
                assert group is not None
                assert await group.read_frame() == b"a"
                run.peer.close(7, "bye")
                for reading in (group.read_frame(), consumer.next_group(), waiting.next_group()):
                    with pytest.raises(SessionClosed, match="code 7, bye"):
                        await reading
                await run.session.closed()

    async def test_one_that_is_asked_for_after_the_session_ended(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, broadcast = await announced(run)
            run.peer.close(7, "bye")
            consumer = broadcast.subscribe_track("video")
            async with within():
                with pytest.raises(SessionClosed, match="code 7, bye"):
                    await consumer.next_group()

    async def test_one_that_waits_for_a_stream_when_the_session_ends(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, max_streams=1) as run:
            _, broadcast = await announced(run)
            consumer = broadcast.subscribe_track("video")
            await idle()
            run.peer.lose()
            async with within():
                with pytest.raises(SessionClosed, match="timed out"):
                    await consumer.next_group()


class TestGroups:
    @pytest.mark.parametrize(
        ("stream", "code"),
        [
            pytest.param(varint(1), ErrorCode.UNEXPECTED_STREAM, id="type 1"),
            pytest.param(varint(1 << 60), ErrorCode.UNEXPECTED_STREAM, id="type 2**60"),
            pytest.param(b"\x00\x01\x00", ErrorCode.DECODE, id="less than its fields"),
            pytest.param(b"\x00\x03\x00\x00\x00", ErrorCode.DECODE, id="more than its fields"),
            pytest.param(b"\x00" + varint(MAX_MESSAGE_SIZE + 1), ErrorCode.FRAME_TOO_LARGE, id="a header too long"),
            pytest.param(Group(9, 0).encode() + b"\x01a", ErrorCode.CANCEL, id="an unknown subscription"),
            pytest.param(Group(MAX_VARINT, MAX_VARINT).encode(), ErrorCode.CANCEL, id="the last subscription"),
            pytest.param(Group(0, MAX_VARINT).encode(), ErrorCode.BOUNDS_EXCEEDED, id="a number no group can have"),
            pytest.param(Group(0, 5).encode(), ErrorCode.DUPLICATE, id="a number that another group has"),
        ],
    )
    async def test_a_stream_that_means_nothing_is_stopped_alone(
        self, memory_pair: MakePair, stream: bytes, code: ErrorCode
    ) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            good = await run.group(Group(0, 5).encode())
            await idle()
            assert await (await run.group(stream)).stopped() == code
            await good.write(b"\x01a")
            await good.finish()
            await exchange.finish()
            assert [await read_group(consumer) for _ in range(2)] == [(5, b"a"), None]
            await run.still_answers()

    @pytest.mark.parametrize("begun", [b"", b"\x00", b"\x00\x02\x00", b"\x40"])
    async def test_a_stream_that_ends_before_its_header_is_nothing(self, memory_pair: MakePair, begun: bytes) -> None:
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            await run.whole_group(begun)
            (await run.group(begun)).reset(99)
            await exchange.finish()
            assert await read_group(consumer) is None
            await run.still_answers()

    @pytest.mark.parametrize(
        ("frames", "finished", "code"),
        [
            pytest.param(b"\x05abcd", True, ErrorCode.WRONG_SIZE, id="an end inside a frame"),
            pytest.param(b"\x05", True, ErrorCode.WRONG_SIZE, id="an end before a frame"),
            pytest.param(b"\x40", True, ErrorCode.WRONG_SIZE, id="an end inside a size"),
            pytest.param(varint(MAX_FRAME_SIZE + 1), False, ErrorCode.FRAME_TOO_LARGE, id="a frame too large"),
            pytest.param(varint(MAX_VARINT), False, ErrorCode.FRAME_TOO_LARGE, id="a frame far too large"),
        ],
    )
    async def test_frames_that_mean_nothing_end_their_group_alone(
        self, memory_pair: MakePair, frames: bytes, finished: bool, code: ErrorCode
    ) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await subscribed(run)
            stream = await run.group(Group(0, 0).encode(), b"\x01a")
            async with within():
                group = await consumer.next_group()
                assert group is not None
                assert await group.read_frame() == b"a"
            await stream.write(frames)
            if finished:
                await stream.finish()
            else:
                assert await stream.stopped() == code
            assert await code_of(group.read_frame()) == code
            await run.whole_group(Group(0, 1).encode(), b"\x01b")
            assert await read_group(consumer) == (1, b"b")

    @pytest.mark.parametrize(("code", "wanted"), [(0, 0), (24, 24), (55, 14), (66, 66), (52, 2), (31, 31)])
    async def test_a_reset_group_fails_with_its_code(self, memory_pair: MakePair, code: int, wanted: int) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await subscribed(run)
            stream = await run.group(Group(0, 0).encode(), b"\x01a\x05")
            async with within():
                group = await consumer.next_group()
                assert group is not None
                assert await group.read_frame() == b"a"
                stream.reset(code)
            assert await code_of(group.read_frame()) == wanted
            await run.whole_group(Group(0, 1).encode(), b"\x01b")
            assert await read_group(consumer) == (1, b"b")

    @pytest.mark.parametrize("code", [2, 31, 52, 53])
    async def test_a_group_that_was_given_up_is_not_seen_by_those_who_come_after(
        self, memory_pair: MakePair, code: int
    ) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await subscribed(run)
            stream = await run.group(Group(0, 0).encode(), b"\x01a\x05")
            await idle()
            stream.reset(code)
            await idle()
            await run.whole_group(Group(0, 1).encode(), b"\x01b")
            assert await read_group(consumer) == (1, b"b")

    async def test_bytes_that_come_one_by_one_are_understood(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await subscribed(run)
            stream = await run.group()
            for byte in Group(0, 3).encode() + b"\x01a\x00" + varint(100) + bytes(100):
                await stream.write(bytes((byte,)))
                await idle()
            await stream.finish()
            async with within():
                group = await consumer.next_group()
                assert group is not None
                assert [frame async for frame in group] == [b"a", b"", bytes(100)]

    async def test_groups_of_a_track_that_was_left_are_stopped_quietly(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with lite(memory_pair) as run:
            exchange, consumer = await subscribed(run)
            consumer.close()
            assert await exchange.reply.rest() == b""
            assert await (await run.group(Group(0, 0).encode())).stopped() == ErrorCode.CANCEL
            assert caplog.text == ""

    async def test_frames_that_never_end_are_bounded_by_the_cache(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, limits=Limits(track_bytes=20_000)) as run:
            _, _consumer = await subscribed(run)
            streams = []
            for index in range(10):
                streams.append(await run.group(Group(0, index).encode(), varint(1 << 20), bytes(5000)))
                await idle()
            for stream in streams[:-3]:
                await stream.write(b"\0")
                assert await stream.stopped() == ErrorCode.CANCEL
            for stream in streams[-3:]:
                await stream.write(b"\0")
                await idle()
                await stream.write(b"\0")
            broadcast = run.received.consume_broadcast("cam")
            assert broadcast is not None
            assert broadcast._state.tracks["video"].cost <= 20_000
            await run.still_answers()

    async def test_many_frames_of_one_group_are_bounded_too(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, limits=Limits(track_bytes=20_000)) as run:
            _, consumer = await subscribed(run)
            stream = await run.group(Group(0, 0).encode())
            async with within():
                group = await consumer.next_group()
                assert group is not None
                for _ in range(100):
                    await stream.write(varint(1000) + bytes(1000))
                    await idle()
            assert await code_of(group.read_frame()) == ErrorCode.LAGGED
            broadcast = run.received.consume_broadcast("cam")
            assert broadcast is not None
            assert broadcast._state.tracks["video"].cost <= 20_000


class TestReliable:
    async def reliable(self, run: Lite, **wishes: Any) -> tuple[Exchange, TrackConsumer]:
        _, broadcast = await announced(run)
        consumer = broadcast.subscribe_track("video", ordered=True, **wishes)
        exchange = await run.asked()
        await exchange.write(OK)
        return exchange, consumer

    async def test_it_asks_for_all_there_is_while_it_is_read(self, memory_pair: MakePair) -> None:
        """However large the gaps between the numbers, nothing is held back."""
        async with lite(memory_pair) as run:
            exchange, consumer = await self.reliable(run, start_group=0)
            await exchange.reply.expect(
                Subscribe(0, "cam", "video", Subscription(ordered=True, start_group=0)).encode()
            )
            for sequence in (0, 1_000_000, MAX_GROUP):
                await run.whole_group(Group(0, sequence).encode(), b"\x01a")
                assert await read_group(consumer) == (sequence, b"a")
            await exchange.reply.quiet()

    @pytest.mark.parametrize("looking", [False, True])
    async def test_groups_that_were_overtaken_come_first_by_arrival_too(
        self, memory_pair: MakePair, looking: bool
    ) -> None:
        """So a relay passes them on in an order in which whoever reads in order misses none."""
        async with lite(memory_pair) as run:
            _, consumer = await self.reliable(run, start_group=0)
            nameless = await run.group()
            await run.whole_group(Group(0, 1).encode(), b"\x01b")
            await run.whole_group(Group(0, 2).encode(), b"\x01c")
            first = asyncio.ensure_future(consumer.recv_group())
            if looking:
                await idle()
                assert not first.done()
            await nameless.write(Group(0, 0).encode(), b"\x01a")
            await nameless.finish()
            async with within():
                groups = [await first, await consumer.recv_group(), await consumer.recv_group()]
            assert [group and group.sequence for group in groups] == [0, 1, 2]

    @pytest.mark.parametrize("count", [10, 2 * receiving._SWEEP])
    async def test_one_that_was_given_up_while_it_was_early_holds_up_none(
        self, memory_pair: MakePair, count: int
    ) -> None:
        async with lite(memory_pair) as run:
            _, consumer = await self.reliable(run, start_group=0)
            nameless = await run.group()
            given_up = await run.group(Group(0, 1).encode())
            numbers: list[int] = []

            async def read() -> None:
                while (group := await consumer.recv_group()) is not None:
                    numbers.append(group.sequence)

            reading = asyncio.ensure_future(read())
            await idle()
            given_up.reset(ErrorCode.EVICTED)
            for number in range(2, count):
                await run.whole_group(Group(0, number).encode(), b"\x01a")
                await idle()
            await nameless.write(Group(0, 0).encode())
            await nameless.finish()
            await idle()
            assert numbers == [0, *range(2, count)]
            await reap(reading)

    @pytest.mark.parametrize("by_arrival", [False, True])
    async def test_what_follows_a_group_that_was_lost_is_not_given(
        self, memory_pair: MakePair, by_arrival: bool
    ) -> None:
        """Its reader would take the gap for the publisher's, and go on after it."""
        async with lite(memory_pair) as run:
            _, consumer = await self.reliable(run, start_group=0)
            await run.whole_group(Group(0, 0).encode(), b"\x01a")
            await run.group()
            await run.whole_group(Group(0, 2).encode(), b"\x01c")
            await idle()
            run.peer.lose()
            await idle()
            take = consumer.recv_group if by_arrival else consumer.next_group
            async with within():
                group = await take()
                assert group is not None
                assert group.sequence == 0
                with pytest.raises(SessionClosed):
                    await take()

    async def test_much_that_is_unread_holds_the_peer_back(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "_HOLD_ABOVE", 10_000)
        monkeypatch.setattr(receiving, "_RESUME_BELOW", 5_000)
        async with lite(memory_pair) as run:
            exchange, consumer = await self.reliable(run)
            wishes = Subscription(ordered=True)
            await exchange.reply.expect(Subscribe(0, "cam", "video", wishes).encode())
            for sequence in range(70, 73):
                await exchange.reply.quiet()
                await run.whole_group(Group(0, sequence).encode(), varint(4000), bytes(4000))
            await exchange.reply.expect(SubscribeUpdate(replace(wishes, end_group=72)).encode())
            # What is on its way until the peer has heard of it is taken all the same.
            await run.whole_group(Group(0, 73).encode(), b"\x01a")
            assert await read_group(consumer) == (70, bytes(4000))
            assert await read_group(consumer) == (71, bytes(4000))
            await exchange.reply.quiet()
            assert await read_group(consumer) == (72, bytes(4000))
            assert await read_group(consumer) == (73, b"a")
            await exchange.reply.expect(SubscribeUpdate(wishes).encode())

    async def test_a_large_group_that_was_read_holds_nothing_back(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "_HOLD_ABOVE", 1000)
        monkeypatch.setattr(receiving, "_RESUME_BELOW", 1000)
        async with lite(memory_pair) as run:
            exchange, consumer = await self.reliable(run)
            wishes = Subscription(ordered=True)
            await exchange.reply.expect(Subscribe(0, "cam", "video", wishes).encode())
            # Whether it is complete or not.
            for sequence, write in enumerate((run.whole_group, run.group)):
                await write(Group(0, sequence).encode(), varint(2000), bytes(2000))
                await exchange.reply.expect(SubscribeUpdate(replace(wishes, end_group=sequence)).encode())
                async with within():
                    group = await consumer.next_group()
                    assert group is not None
                    assert await group.read_frame() == bytes(2000)
                await exchange.reply.expect(SubscribeUpdate(wishes).encode())

    async def test_the_readers_own_end_is_kept(self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receiving, "_HOLD_ABOVE", 1000)
        monkeypatch.setattr(receiving, "_RESUME_BELOW", 1000)
        async with lite(memory_pair) as run:
            exchange, consumer = await self.reliable(run, start_group=0, end_group=2)
            wishes = Subscription(ordered=True, start_group=0, end_group=2)
            await exchange.reply.expect(Subscribe(0, "cam", "video", wishes).encode())
            await run.whole_group(Group(0, 1).encode(), varint(2000), bytes(2000))
            await exchange.reply.expect(SubscribeUpdate(replace(wishes, end_group=1)).encode())
            consumer.update(end_group=0)
            await exchange.reply.expect(SubscribeUpdate(replace(wishes, end_group=0)).encode())
            consumer.update(end_group=None)
            await exchange.reply.expect(SubscribeUpdate(replace(wishes, end_group=1)).encode())

    async def test_a_slow_reader_holds_its_own_groups_back_and_loses_nothing(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "_GROUP_ROOM", 2000)
        monkeypatch.setattr(receiving, "_TRACK_ROOM", 2000)
        monkeypatch.setattr(receiving, "_HOLD_ABOVE", 2000)
        monkeypatch.setattr(receiving, "_RESUME_BELOW", 1000)
        async with lite(memory_pair, window=1000) as run:
            exchange, consumer = await self.reliable(run, start_group=0)
            wishes = Subscription(ordered=True, start_group=0)
            await exchange.reply.expect(Subscribe(0, "cam", "video", wishes).encode())
            # Twenty times what there is room for.
            groups = [Group(0, index).encode() + (varint(500) + bytes((index,)) * 500) * 20 for index in range(4)]
            writing = [asyncio.ensure_future(run.whole_group(group)) for group in groups]
            await idle()
            assert not any(task.done() for task in writing)
            # Another track of the same session comes all the same.
            other = await asked_too(run)
            await run.whole_group(Group(1, 0).encode(), b"\x01a")
            assert await read_group(other) == (0, b"a")
            for index in range(4):
                assert await read_group(consumer) == (index, bytes((index,)) * 10_000)
            async with within():
                await asyncio.gather(*writing)

    async def test_a_group_that_waits_for_room_can_still_be_reset(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "_GROUP_ROOM", 2000)
        monkeypatch.setattr(receiving, "_TRACK_ROOM", 2000)
        async with lite(memory_pair) as run:
            _, consumer = await self.reliable(run, start_group=0)
            stream = await run.group(Group(0, 0).encode(), (varint(500) + bytes(500)) * 20)
            await idle()
            stream.reset(66)
            async with within():
                group = await consumer.next_group()
                assert group is not None
                for _ in range(20):
                    frame = await group.read_frame()
                    assert frame == bytes(500)
            assert await code_of(group.read_frame()) == 66

    async def test_streams_that_wait_for_room_do_not_count_against_the_others(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, max_streams=10) as run:
            _, consumer = await self.reliable(run, start_group=0)
            streams = [await run.group(Group(0, index).encode()) for index in range(100)]
            consumer.close()
            for stream in streams:
                assert await stream.stopped() == ErrorCode.CANCEL
            assert run.peer._max_streams == 10


class TestProbe:
    async def begun(self, run: Lite) -> tuple[Exchange, AsyncGenerator[int | None, None], asyncio.Future[int | None]]:
        """A probe that has been asked for, its reports, and a call that waits for the first of them."""
        reports = run.session.probe()
        first = asyncio.ensure_future(_next(reports))
        await run.announcing()
        exchange = await run.asked()
        await exchange.reply.expect(b"\x04")
        return exchange, reports, first

    async def test_reports_of_the_peer(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run, within():
            exchange, reports, first = await self.begun(run)
            await exchange.write(Probe(300).encode(LITE_03), Probe(None).encode(LITE_03))
            assert await first == 300
            assert await anext(reports) is None
            await reports.aclose()
            assert await exchange.refused() == ErrorCode.CANCEL
            await run.still_answers()

    async def test_the_peer_ends_it(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run, within():
            exchange, _, first = await self.begun(run)
            await exchange.finish()
            with pytest.raises(StopAsyncIteration):
                await first

    @pytest.mark.parametrize(
        ("data", "finished", "code"),
        [
            (b"\x02\x01\x00", False, ErrorCode.DECODE),
            (b"\x00", False, ErrorCode.DECODE),
            (varint(MAX_MESSAGE_SIZE + 1), False, ErrorCode.FRAME_TOO_LARGE),
            (b"\x02", True, ErrorCode.DECODE),
        ],
    )
    async def test_a_report_that_means_nothing(
        self, memory_pair: MakePair, data: bytes, finished: bool, code: ErrorCode
    ) -> None:
        async with lite(memory_pair) as run:
            exchange, _, first = await self.begun(run)
            await exchange.write(data)
            if finished:
                await exchange.finish()
            assert await code_of(first) == code
            await run.still_answers()

    async def test_a_peer_that_does_not_answer(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange, _, first = await self.begun(run)
            exchange.reset(51)
            with pytest.raises(MoqError, match="does not answer a probe"):
                await first
            await run.still_answers()

    async def test_the_sessions_end(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, _, first = await self.begun(run)
            run.peer.close(7, "bye")
            async with within():
                with pytest.raises(SessionClosed, match="code 7, bye"):
                    await first


async def _next(reports: AsyncIterator[int | None]) -> int | None:
    return await anext(reports)

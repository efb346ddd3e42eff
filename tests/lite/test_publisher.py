"""The publisher's side against a subscriber driven by hand, which sends right things and wrong ones."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from iroh_moq import (
    BroadcastProducer,
    Cache,
    ErrorCode,
    SessionClosed,
    SessionError,
    Subscription,
    TrackProducer,
)
from iroh_moq.lite import publisher
from iroh_moq.lite.messages import AnnounceRequest, Group, Subscribe, SubscribeDrop, SubscribeOk, SubscribeUpdate
from iroh_moq.lite.priority import CONTROL_PRIORITY, group_priority
from iroh_moq.lite.version import LITE_03
from iroh_moq.lite.wire import MAX_MESSAGE_SIZE, string, varint
from iroh_moq.transport import StreamReset
from tests.conftest import MakePair, idle, within
from tests.lite.peer import Bytes, Exchange, Lite, assert_no_streams, lite

ANNOUNCE = AnnounceRequest("").encode(LITE_03)
SUBSCRIBE = Subscribe(0, "cam", "video", Subscription()).encode()
OK = SubscribeOk(Subscription()).encode(LITE_03)


def write_group(track: TrackProducer, *frames: bytes) -> None:
    with track.append_group() as group:
        for frame in frames:
            group.write_frame(frame)


async def subscribed(run: Lite, **wishes: Any) -> Exchange:
    """A subscription to `cam`, `video` that has been answered."""
    exchange = await run.subscribe(**wishes)
    await exchange.reply.expect(SubscribeOk(Subscription(**wishes)).encode(LITE_03))
    return exchange


class TestRequestsThatMeanNothing:
    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            pytest.param(varint(0), ErrorCode.UNEXPECTED_STREAM, id="type 0"),
            pytest.param(b"\x03\x01\x00", ErrorCode.UNEXPECTED_STREAM, id="FETCH"),
            pytest.param(varint(5), ErrorCode.UNEXPECTED_STREAM, id="type 5"),
            pytest.param(varint(1 << 60), ErrorCode.UNEXPECTED_STREAM, id="type 2**60"),
            pytest.param(b"\x01\x02\x00\x00", ErrorCode.DECODE, id="ANNOUNCE with more than its fields"),
            pytest.param(b"\x01\x03\x05ab", ErrorCode.DECODE, id="ANNOUNCE with less than its fields"),
            pytest.param(b"\x01\x03\x02\xff\xfe", ErrorCode.DECODE, id="a prefix that is not UTF-8"),
            pytest.param(AnnounceRequest("a/" * 33).encode(LITE_03), ErrorCode.DECODE, id="a prefix of 33 parts"),
            pytest.param(AnnounceRequest("x" * 1025).encode(LITE_03), ErrorCode.DECODE, id="a prefix of 1025 bytes"),
            pytest.param(b"\x01" + varint(MAX_MESSAGE_SIZE + 1), ErrorCode.FRAME_TOO_LARGE, id="an ANNOUNCE too long"),
            pytest.param(b"\x02" + varint((1 << 62) - 1), ErrorCode.FRAME_TOO_LARGE, id="a SUBSCRIBE far too long"),
            pytest.param(b"\x02\x01\x00", ErrorCode.DECODE, id="SUBSCRIBE with less than its fields"),
            pytest.param(ANNOUNCE + b"\x01\x00", ErrorCode.UNEXPECTED_MESSAGE, id="ANNOUNCE twice"),
            pytest.param(b"\x04\x01\x00", ErrorCode.UNEXPECTED_MESSAGE, id="PROBE with a message"),
        ],
    )
    async def test_reset_their_own_stream_and_leave_the_session(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture, request_: bytes, code: ErrorCode
    ) -> None:
        caplog.set_level(logging.INFO, "iroh_moq.lite.publisher")
        async with lite(memory_pair) as run:
            assert await (await run.request(request_)).refused() == code
            assert len([record for record in caplog.records if "refused" in record.message]) == 1
            await run.still_answers()
            assert_no_streams(run.peer, but=2)

    @pytest.mark.parametrize("request_", [b"", b"\x01", b"\x40", b"\x02\x40", SUBSCRIBE[:-1], b"\x01\x02\x05"])
    async def test_that_end_too_early_are_malformed(self, memory_pair: MakePair, request_: bytes) -> None:
        async with lite(memory_pair) as run:
            exchange = await run.request(request_)
            await exchange.finish()
            assert await exchange.reply.reset() == ErrorCode.DECODE
            await run.still_answers()

    @pytest.mark.parametrize("begun", [b"", b"\x02", SUBSCRIBE[:-1], b"\x01" + varint(MAX_MESSAGE_SIZE)])
    async def test_a_peer_that_falls_silent_half_way_keeps_nobody_waiting(
        self, memory_pair: MakePair, begun: bytes
    ) -> None:
        async with lite(memory_pair) as run:
            exchange = await run.request(begun)
            await exchange.reply.quiet()
            await run.still_answers()
            await exchange.reply.quiet()

    @pytest.mark.parametrize("begun", [b"", b"\x02\x40", ANNOUNCE, SUBSCRIBE, b"\x04"])
    async def test_a_reset_is_answered_by_one(self, memory_pair: MakePair, begun: bytes) -> None:
        async with lite(memory_pair) as run:
            run.ours.rtt = 0.0  # no rate to report
            run.publish()
            exchange = await run.request(begun)
            await idle()
            exchange.reset(99)
            assert await exchange.reply.reset() == ErrorCode.CANCEL
            await run.still_answers()

    async def test_bytes_that_come_one_by_one_are_understood(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            run.publish()
            exchange = await run.request()
            for byte in SUBSCRIBE:
                await exchange.reply.quiet()
                await exchange.write(bytes((byte,)))
            await exchange.reply.expect(OK)


class TestAnnounce:
    async def test_what_is_there_and_then_what_comes_and_goes(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            first, _ = run.publish("room/hello")
            exchange = await run.announce()
            await exchange.reply.expect(b"\x0d\x01\x0aroom/hello\x01")
            second, _ = run.publish("b")
            await exchange.reply.expect(b"\x04\x01\x01b\x01")
            first.finish()
            second.abort(70)
            await exchange.reply.expect(b"\x0d\x00\x0aroom/hello\x00", b"\x04\x00\x01b\x00")

    async def test_a_replacement_is_an_end_and_a_beginning(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            old, _ = run.publish("a")
            exchange = await run.announce()
            await exchange.reply.expect(b"\x04\x01\x01a\x01")
            run.publish("a")
            await exchange.reply.expect(b"\x04\x00\x01a\x00", b"\x04\x01\x01a\x01")
            old.finish()
            await exchange.reply.quiet()

    async def test_a_prefix_matches_whole_parts_and_is_left_out(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            for name in ("room/a", "roomy/b", "other"):
                run.publish(name)
            exchange = await run.announce("/room/")
            await exchange.reply.expect(b"\x04\x01\x01a\x01")
            await exchange.reply.quiet()

    async def test_a_broadcast_that_is_the_prefix_itself_has_no_suffix(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            run.publish("room")
            await (await run.announce("room")).reply.expect(b"\x03\x01\x00\x01")

    async def test_one_hop_more_than_it_has_passed(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            far = BroadcastProducer()
            far._state.hops = 300
            run.offered.publish_broadcast("far", far.consume())
            await (await run.announce()).reply.expect(b"\x07\x01\x03far" + varint(301))

    async def test_more_than_fits_into_one_write(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=100) as run:
            for index in range(2000):
                run.publish(f"{index:04}")
            exchange = await run.announce()
            await exchange.reply.expect(*(b"\x07\x01" + string(f"{index:04}") + b"\x01" for index in range(2000)))

    async def test_nothing_to_announce_is_an_open_silent_stream(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange = await run.announce()
            await exchange.reply.quiet()
            assert exchange.reply.priority == CONTROL_PRIORITY

    async def test_each_side_ends_with_the_other(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange = await run.announce()
            await exchange.finish()
            assert await exchange.reply.rest() == b""
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_a_peer_that_stops_listening_is_let_go(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange = await run.announce()
            await idle()
            exchange.reply.stop(0)
            run.publish("a")
            assert await exchange.stopped() == ErrorCode.CANCEL
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_an_origin_with_nothing_to_come_ends_the_stream(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            run.publish("a")
            exchange = await run.announce()
            await exchange.reply.expect(b"\x04\x01\x01a\x01")
            run.offered._state.close(None)
            assert await exchange.reply.rest() == b"\x04\x00\x01a\x00"
            assert await exchange.stopped() == ErrorCode.CANCEL


class TestSubscribe:
    async def test_groups_then_the_end_which_follows_the_last_of_them(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run, priority=128, max_latency=0.0)
            assert exchange.reply.priority == CONTROL_PRIORITY
            write_group(track, b"hi there")
            first = await run.next_group()
            write_group(track, b"a", b"bb")
            second = await run.next_group()
            track.finish()
            assert await first.rest() == b"\x00\x02\x00\x00\x08hi there"
            await exchange.reply.quiet()
            assert await second.rest() == b"\x00\x02\x00\x01\x01a\x02bb"
            assert await exchange.reply.rest() == b""
            assert track.is_used
            await exchange.finish()
            await idle()
            assert not track.is_used
            assert_no_streams(run.peer, but=2)

    async def test_groups_carry_the_id_of_their_subscription(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            await run.subscribe(id=7)
            await run.subscribe(id=1 << 40)
            await idle()
            write_group(track, b"x")
            streams = [await (await run.next_group()).rest() for _ in range(2)]
            assert sorted(streams) == sorted(Group(number, 0).encode() + b"\x01x" for number in (7, 1 << 40))

    async def test_a_late_joiner_gets_the_latest_group_from_its_first_frame(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            write_group(track, b"old")
            group = track.append_group()
            group.write_frame(b"key")
            await subscribed(run)
            stream = await run.next_group()
            await stream.expect(Group(0, 1).encode(), b"\x03key")
            group.write_frame(b"more")
            await stream.expect(b"\x04more")
            await stream.quiet()
            group.finish()
            assert await stream.rest() == b""
            await run.no_group()

    async def test_a_group_is_told_of_before_its_first_frame(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            await subscribed(run)
            group = track.append_group()
            stream = await run.next_group()
            await stream.expect(Group(0, 0).encode())
            group.finish()
            assert await stream.rest() == b""

    async def test_an_empty_group_and_empty_frames(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            write_group(track)
            write_group(track, b"", b"")
            await subscribed(run, start_group=0)
            assert await (await run.next_group()).rest() == Group(0, 0).encode()
            assert await (await run.next_group()).rest() == Group(0, 1).encode() + b"\x00\x00"

    @pytest.mark.parametrize("window", [1 << 20, 1000])
    async def test_frames_of_any_size_arrive_as_they_are(self, memory_pair: MakePair, window: int) -> None:
        async with lite(memory_pair, window=window) as run:
            _, track = run.publish()
            frames = [bytes((index,)) * size for index, size in enumerate((0, 1, 63, 64, 65536, 5, 70000, 300000, 9))]
            write_group(track, *frames)
            await subscribed(run)
            wanted = b"".join(varint(len(frame)) + frame for frame in frames)
            assert await (await run.next_group()).rest() == Group(0, 0).encode() + wanted

    @pytest.mark.parametrize(
        ("broadcast", "track"), [("cam", "audio"), ("other", "video"), ("", "video"), ("cam", ""), ("cam/video", "x")]
    )
    async def test_what_is_not_there_is_not_found(self, memory_pair: MakePair, broadcast: str, track: str) -> None:
        async with lite(memory_pair) as run:
            run.publish()
            exchange = await run.subscribe(broadcast=broadcast, track=track)
            assert await exchange.refused() == ErrorCode.NOT_FOUND
            await run.still_answers()

    async def test_a_broadcast_that_has_ended_is_not_found(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            broadcast, _ = run.publish()
            broadcast.finish()
            assert await (await run.subscribe()).refused() == ErrorCode.NOT_FOUND

    async def test_an_id_that_is_in_use_is_a_duplicate(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            first = await subscribed(run)
            assert await (await run.subscribe()).refused() == ErrorCode.DUPLICATE
            write_group(track, b"x")
            assert await (await run.next_group()).rest() == Group(0, 0).encode() + b"\x01x"
            await run.no_group()
            await first.finish()
            await first.reply.rest()
            # Only those that are in use are remembered, as they could be any number.
            await idle()
            await (await run.subscribe()).reply.expect(OK)

    @pytest.mark.parametrize(
        ("update", "code"),
        [
            (b"\x01\x00", ErrorCode.DECODE),
            (SubscribeUpdate(Subscription()).encode()[:-1] + b"\x00\x00", ErrorCode.DECODE),
            (varint(MAX_MESSAGE_SIZE + 1), ErrorCode.FRAME_TOO_LARGE),
        ],
    )
    @pytest.mark.parametrize("ended", [False, True])
    async def test_an_update_that_means_nothing_ends_the_subscription(
        self, memory_pair: MakePair, update: bytes, code: ErrorCode, ended: bool
    ) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            group = track.append_group()
            stream = await run.next_group()
            if ended:
                # It waits for the peer's own end then, and what it reads counts as ever.
                group.finish()
                track.finish()
                await stream.rest()
                assert await exchange.reply.rest() == b""
            await exchange.write(update)
            if ended:
                assert await exchange.stopped() == code
            else:
                assert await exchange.refused() == code
                assert await stream.reset() == ErrorCode.CANCEL
            assert not track.is_used
            await run.still_answers()

    async def test_updates_after_the_end_change_nothing(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            track.finish()
            assert await exchange.reply.rest() == b""
            await exchange.write(SubscribeUpdate(Subscription(9)).encode() * 2)
            await idle()
            assert track.is_used
            await exchange.finish()
            await idle()
            assert not track.is_used

    @pytest.mark.parametrize("well", [True, False])
    async def test_leaving_ends_the_groups_under_way(self, memory_pair: MakePair, well: bool) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            group = track.append_group()
            group.write_frame(b"x")
            stream = await run.next_group()
            await stream.expect(Group(0, 0).encode(), b"\x01x")
            if well:
                await exchange.finish()
                assert await exchange.reply.rest() == b""
            else:
                exchange.reset(0)
                assert await exchange.reply.reset() == ErrorCode.CANCEL
            assert await stream.reset() == ErrorCode.CANCEL
            async with within():
                await track.unused()
                # Nobody waits for a reader that has gone.
                await group.drained()
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_a_peer_that_stops_the_replies_has_left(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            exchange.reply.stop(0)
            track.finish()
            assert await exchange.stopped() == ErrorCode.CANCEL
            assert not track.is_used

    async def test_a_stopped_group_ends_alone(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            group = track.append_group()
            group.write_frame(b"x")
            (await run.next_group()).stop(0)
            group.write_frame(b"y")
            await idle()
            async with within():
                await group.drained()
            write_group(track, b"z")
            assert await (await run.next_group()).rest() == Group(0, 1).encode() + b"\x01z"
            await exchange.reply.quiet()

    async def test_a_group_stopped_after_all_of_it_was_sent(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            write_group(track, b"x")
            track.finish()
            stream = await run.next_group()
            await exchange.reply.quiet()
            stream.stop(0)
            assert await exchange.reply.rest() == b""


class TestEnds:
    @pytest.mark.parametrize("code", [0, 13, 24, 64, 70, (1 << 32) - 1])
    async def test_an_aborted_track_resets_everything_with_its_code(self, memory_pair: MakePair, code: int) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            run.begin(track, b"x")
            stream = await run.next_group()
            track.abort(code)
            assert await stream.reset() == code
            assert await exchange.refused() == code

    async def test_an_aborted_group_is_reset_alone(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            group = track.append_group()
            stream = await run.next_group()
            group.abort(66)
            assert await stream.reset() == 66
            write_group(track, b"z")
            assert await (await run.next_group()).rest() == Group(0, 1).encode() + b"\x01z"
            await exchange.reply.quiet()

    async def test_a_track_that_was_aborted_before_is_refused(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            track.abort(70)
            assert await (await run.subscribe()).refused() == 70

    async def test_nothing_is_left_of_those_that_ask_for_an_aborted_track(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            track.abort(70)
            for number in range(3):
                assert await (await run.subscribe(number)).refused() == 70
            # Each time that an error is raised, its traceback grows, and keeps what is in it alive.
            error = track._state.error
            assert error is not None
            assert error.__traceback__ is None

    async def test_a_defect_of_ours_does_not_look_like_the_end_of_the_track(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch, task_failures: list[logging.LogRecord]
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run)
            monkeypatch.setattr(publisher, "GroupSender", broken)
            track.write_frame(b"x")
            assert await exchange.refused() == ErrorCode.DROPPED
        assert len(task_failures) == 1

    async def test_a_track_that_has_finished_is_there_with_its_last_group(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            write_group(track, b"last")
            track.finish()
            exchange = await subscribed(run)
            assert await (await run.next_group()).rest() == Group(0, 0).encode() + b"\x04last"
            assert await exchange.reply.rest() == b""

    async def test_a_relayed_track_whose_session_was_lost_is_dropped(self, memory_pair: MakePair) -> None:
        """What we serve can come from another session, and end with that."""
        async with lite(memory_pair) as run:
            broadcast, track = run.publish()
            exchange = await subscribed(run)
            run.begin(track, b"x")
            stream = await run.next_group()
            track._state.fail(SessionClosed(SessionError(None, "lost")), discard=False)
            assert await stream.reset() == ErrorCode.DROPPED
            assert await exchange.refused() == ErrorCode.DROPPED
            broadcast.finish()
            await run.still_answers()

    @pytest.mark.parametrize("window", [1 << 20, 4])
    async def test_a_lost_connection_leaves_no_demand(self, memory_pair: MakePair, window: int) -> None:
        async with lite(memory_pair, window=window) as run:
            _, track = run.publish()
            await run.announce()
            await run.request(b"\x04")
            await subscribed(run)
            run.begin(track, b"abcdefgh")
            await run.next_group()
            await idle()
            run.peer.lose()
            async with within():
                assert (await run.session.closed()).reason == "timed out"
            assert not track.is_used

    async def test_a_lost_connection_while_no_stream_can_be_opened(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, max_streams=3) as run:
            _, track = run.publish()
            await subscribed(run)
            for _ in range(3):
                run.begin(track)
            await run.next_group()
            await run.no_group()
            assert track.is_used
            run.peer.lose()
            async with within():
                await track.unused()


class TestWishes:
    async def test_start_and_end_and_an_update_that_lets_the_rest_come(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            for index in range(6):
                write_group(track, b"%d" % index)
            exchange = await subscribed(run, start_group=1, end_group=2)
            assert [await (await run.next_group()).rest() for _ in range(2)] == [
                Group(0, 1).encode() + b"\x011",
                Group(0, 2).encode() + b"\x012",
            ]
            await run.no_group()
            await exchange.write(SubscribeUpdate(Subscription(start_group=1, end_group=4)).encode())
            assert [await (await run.next_group()).read(4) for _ in range(2)] == [
                Group(0, 3).encode(),
                Group(0, 4).encode(),
            ]
            await run.no_group()
            await exchange.write(SubscribeUpdate(Subscription()).encode())
            await (await run.next_group()).expect(Group(0, 5).encode())

    async def test_priorities_travel_to_the_streams(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish(priority=77)
            exchange = await subscribed(run, priority=5)
            run.begin(track)
            run.begin(track)
            streams = [await run.next_group() for _ in range(2)]

            def wanted(**wishes: Any) -> list[int]:
                return [group_priority(Subscription(**wishes), 77, sequence) for sequence in range(2)]

            assert [stream.priority for stream in streams] == wanted(priority=5)
            await exchange.write(SubscribeUpdate(Subscription(200, ordered=True)).encode())
            await idle()
            assert [stream.priority for stream in streams] == wanted(priority=200, ordered=True)
            run.begin(track)
            later = await run.next_group()
            assert later.priority == group_priority(Subscription(200, ordered=True), 77, 2)

    async def test_groups_that_the_cache_has_let_go_are_said_to_be_dropped(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish(cache=Cache(max_bytes=2000))
            for _ in range(6):
                write_group(track, bytes(400))
            exchange = await subscribed(run, start_group=1)
            stream = await run.next_group()
            await stream.expect(Group(0, 4).encode())
            await exchange.reply.expect(SubscribeDrop(1, 3, ErrorCode.OLD).encode(LITE_03))
            await (await run.next_group()).expect(Group(0, 5).encode())
            await exchange.reply.quiet()

    async def test_a_gap_that_may_still_be_filled_is_not(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await subscribed(run, start_group=0)
            run.begin(track, sequence=5)
            await (await run.next_group()).expect(Group(0, 5).encode())
            await exchange.reply.quiet()
            run.begin(track, sequence=2)
            await (await run.next_group()).expect(Group(0, 2).encode())

    async def test_a_group_under_way_that_leaves_the_cache_is_reset(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=100) as run:
            _, track = run.publish(cache=Cache(max_bytes=3000))
            await subscribed(run)
            run.begin(track, bytes(2000))
            stream = await run.next_group()
            await stream.expect(Group(0, 0).encode())
            run.begin(track, bytes(2000))
            await (await run.next_group()).expect(Group(0, 1).encode())
            # Even while a write on it waits for the peer to read.
            await idle()
            with pytest.raises(StreamReset) as caught:
                await stream.read(1)
            assert caught.value.code == ErrorCode.EVICTED


class TestMaxLatency:
    async def blocked(self, run: Lite, **wishes: Any) -> tuple[Exchange, TrackProducer, Bytes, Bytes]:
        """A subscription whose first group cannot be sent, as the peer does not read, and a newer one."""
        _, track = run.publish()
        exchange = await subscribed(run, **wishes)
        run.begin(track, bytes(300), bytes(300))
        old = await run.next_group()
        await old.expect(Group(0, 0).encode())
        run.begin(track, bytes(300))
        latest = await run.next_group()
        await latest.expect(Group(0, 1).encode())
        return exchange, track, old, latest

    async def test_an_old_group_is_reset_and_the_latest_never(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=50) as run:
            exchange, _, old, latest = await self.blocked(run, max_latency=0.05)
            assert await old.reset() == ErrorCode.OLD
            await latest.expect(varint(300), bytes(300))
            await exchange.reply.quiet()

    async def test_no_latency_at_all_is_the_latest_alone(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=50) as run:
            _, _, old, latest = await self.blocked(run, max_latency=0.0)
            assert await old.reset() == ErrorCode.OLD
            await latest.expect(varint(300), bytes(300))

    async def test_without_a_limit_it_waits(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=50) as run:
            exchange, _, old, _ = await self.blocked(run)
            await old.expect(varint(300), bytes(300))
            # Until an update sets one, which is past already.
            await exchange.write(SubscribeUpdate(Subscription(max_latency=0.0)).encode())
            assert await old.reset() == ErrorCode.OLD

    async def test_a_new_limit_takes_the_place_of_the_old(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=50) as run:
            exchange, track, old, _ = await self.blocked(run, max_latency=3600.0)
            await exchange.write(SubscribeUpdate(Subscription(max_latency=0.0)).encode())
            assert await old.reset() == ErrorCode.OLD
            await exchange.finish()
            assert await exchange.reply.rest() == b""
            assert not track.is_used

    async def test_what_was_wholly_handed_over_has_a_little_longer(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publisher, "_DELIVERY_TIME", 3600.0)
        async with lite(memory_pair, window=50) as run:
            _, track = run.publish()
            exchange = await subscribed(run, max_latency=0.0)
            write_group(track, bytes(300))
            old = await run.next_group()
            await old.expect(Group(0, 0).encode())
            write_group(track, b"new")
            await (await run.next_group()).rest()
            await idle()
            monkeypatch.setattr(publisher, "_DELIVERY_TIME", 0.0)
            await exchange.write(SubscribeUpdate(Subscription(max_latency=0.0)).encode())
            assert await old.reset() == ErrorCode.OLD


class TestDelivered:
    @pytest.mark.parametrize(("start", "delivered"), [(0, 1), (1, 1), (None, 0)])
    async def test_a_track_that_a_peer_has_been_sent_whole(
        self, memory_pair: MakePair, start: int | None, delivered: int
    ) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            for text in (b"a", b"b"):
                track.write_frame(text)
            exchange = await run.subscribe(ordered=True, start_group=start)
            await idle()
            assert track.delivered == 0
            track.finish()
            for _ in range(len(track._state.sequences) - (start or 0) if start is not None else 1):
                await (await run.next_group()).rest()
            await idle()
            assert track.delivered == delivered
            await exchange.finish()

    async def test_not_one_of_which_it_did_not_want_a_part(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            _, track = run.publish()
            exchange = await run.subscribe(ordered=True, start_group=0)
            await idle()
            run.begin(track, b"x")
            (await run.next_group()).stop(0)
            track.finish()
            await idle()
            assert track.delivered == 0
            await exchange.finish()


class TestDemand:
    async def test_a_track_is_made_when_a_peer_asks_for_it(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            broadcast = BroadcastProducer()
            run.offered.publish_broadcast("cam", broadcast.consume())
            with broadcast.dynamic() as dynamic:
                exchange = await run.subscribe(track="new")
                async with within():
                    request = await dynamic.requested_track()
                assert request is not None
                assert request.name == "new"
                request.write_frame(b"x")
                await exchange.reply.expect(OK)
                assert await (await run.next_group()).rest() == Group(0, 0).encode() + b"\x01x"
                refused = await run.subscribe(id=1, track="no")
                async with within():
                    request = await dynamic.requested_track()
                assert request is not None
                request.reject(71)
                assert await refused.reply.reset() == 71

    async def test_a_producer_can_wait_for_its_slowest_subscriber(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, window=50) as run:
            _, track = run.publish()
            await subscribed(run)
            group = track.append_group()
            group.write_frame(bytes(300))
            stream = await run.next_group()
            async with within():
                await group.drained(300)
            with pytest.raises(TimeoutError):
                async with within(0.01):
                    await group.drained(299)
            await stream.expect(Group(0, 0).encode(), varint(300), bytes(300))
            async with within():
                await group.drained()


class TestProbe:
    async def test_reports_when_the_rate_moves(self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(publisher, "_PROBE_INTERVAL", 0.001)
        async with lite(memory_pair) as run:
            run.ours.rtt, run.ours.congestion_window = 1.0, 1000
            exchange = await run.request(b"\x04")
            await exchange.reply.expect(b"\x02" + varint(8000))
            # A tenth more is not worth a report.
            run.ours.congestion_window = 1100
            run_until = run.ours.stats
            seen = 0

            def counted() -> object:
                nonlocal seen
                seen += 1
                return run_until()

            monkeypatch.setattr(run.ours, "stats", counted)
            async with within():
                while seen < 3:
                    await exchange.reply.quiet()
            run.ours.congestion_window = 500
            await exchange.reply.expect(b"\x02" + varint(4000))

    async def test_each_side_ends_with_the_other(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair) as run:
            exchange = await run.request(b"\x04")
            await exchange.finish()
            await exchange.reply.rest()
            await idle()
            assert_no_streams(run.peer, but=2)

    async def test_a_peer_that_stops_listening_is_let_go(
        self, memory_pair: MakePair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publisher, "_PROBE_INTERVAL", 0.001)
        async with lite(memory_pair) as run:
            exchange = await run.request(b"\x04")
            await exchange.reply.read(2)
            exchange.reply.stop(0)
            run.ours.congestion_window *= 2
            async with within():
                while run.peer.open_streams > 2:
                    await run.peer._changed.wait()
            assert await exchange.stopped() == ErrorCode.CANCEL

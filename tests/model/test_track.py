from __future__ import annotations

import asyncio
import gc
import threading
from functools import partial
from typing import Any

import pytest

from iroh_moq.errors import ErrorCode, InvalidArgument, InvalidType, MoqError, SessionClosed, SessionError
from iroh_moq.model import Cache, Subscription, TrackConsumer
from iroh_moq.model.group import GROUP_OVERHEAD, MAX_FRAME_SIZE
from iroh_moq.model.subscription import MAX_GROUP
from iroh_moq.model.track import TrackProducer, TrackState
from tests.conftest import idle, within
from tests.model.conftest import Clock
from tests.model.tools import (
    BAD_CODES,
    cancel,
    fails,
    new_track,
    next_arrival,
    next_number,
    read_frames,
    soon,
    waiting,
    write_group,
)


async def numbers(consumer: TrackConsumer) -> list[int]:
    """The numbers of all groups to the end of the track."""
    found: list[int] = []
    while (number := await next_number(consumer)) is not None:
        found.append(number)
    return found


async def arrivals(consumer: TrackConsumer) -> list[int]:
    """The numbers of all groups, as they come, to the end of the track."""
    found: list[int] = []
    while (number := await next_arrival(consumer)) is not None:
        found.append(number)
    return found


class TestWriting:
    async def test_groups_are_numbered_from_zero(self) -> None:
        track, _ = new_track()
        assert track.name == "video"
        assert track.latest is None
        assert [write_group(track) for _ in range(3)] == [0, 1, 2]
        assert track.latest == 2

    async def test_numbers_may_be_chosen_in_any_order(self) -> None:
        track, _ = new_track()
        write_group(track, sequence=10)
        write_group(track, sequence=3)
        assert track.latest == 10
        assert write_group(track) == 11

    async def test_a_number_is_used_once(self) -> None:
        track, broadcast = new_track()
        write_group(track, b"first", sequence=4)
        with pytest.raises(MoqError, match="track 'video' has a group 4 already") as caught:
            track.create_group(4)
        assert caught.value.code == ErrorCode.DUPLICATE
        assert await soon(broadcast.subscribe_track("video").read_frame()) == b"first"

    @pytest.mark.parametrize(
        ("sequence", "error"),
        [(-1, InvalidArgument), (MAX_GROUP + 1, InvalidArgument), (True, InvalidType), ("1", InvalidType)],
    )
    async def test_bad_numbers_are_named(self, sequence: Any, error: type[Exception]) -> None:
        track, _ = new_track()
        with pytest.raises(error, match="sequence must be"):
            track.create_group(sequence)
        assert track.latest is None

    async def test_the_last_number_there_is(self) -> None:
        track, _ = new_track()
        write_group(track, sequence=MAX_GROUP)
        with pytest.raises(InvalidArgument, match="sequence"):
            track.append_group()

    async def test_a_frame_alone_is_a_group(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        track.write_frame(b"one")
        track.write_frame(bytearray(b"two"))
        track.finish()
        assert [await group.read_all() async for group in consumer] == [b"one", b"two"]

    @pytest.mark.parametrize("data", ["text", bytes(MAX_FRAME_SIZE + 1)], ids=["text", "large"])
    async def test_a_bad_frame_begins_no_group(self, data: Any) -> None:
        track, _ = new_track()
        with pytest.raises((InvalidType, MoqError), match="frame"):
            track.write_frame(data)
        assert track.latest is None

    async def test_nothing_can_be_added_after_the_end(self) -> None:
        track, _ = new_track()
        assert not track.is_closed
        track.finish()
        track.finish()
        assert track.is_closed
        for write in (track.append_group, partial(track.create_group, 9), partial(track.write_frame, b"more")):
            with pytest.raises(MoqError, match="track 'video' has ended, so nothing more can be written") as caught:
                write()
            assert caught.value.code == ErrorCode.CLOSED

    async def test_groups_can_be_written_on_after_the_end(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        track.finish()
        assert group.sequence == await next_number(consumer)
        late = broadcast.subscribe_track("video")
        call = await waiting(late.read_frame())
        group.write_frame(b"late")
        assert await soon(call) == b"late"
        group.finish()
        assert await soon(late.read_frame()) is None
        assert await soon(consumer.next_group()) is None


class TestAbort:
    async def test_every_reader_sees_it_at_once(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        group.write_frame(b"unread")
        consumers = [broadcast.subscribe_track("video") for _ in range(3)]
        reader = await soon(consumers[0].next_group())
        assert reader is not None
        calls = [await waiting(consumers[0].next_group()), await waiting(consumers[0].recv_group())]
        track.abort(77)
        for call in (*calls, consumers[1].next_group(), consumers[2].recv_group(), reader.read_frame()):
            await fails(call, 77, r"track 'video' was aborted \(application code 13, code 77\)")
        assert track._state.cost == 0
        for write in (track.append_group, track.finish, partial(group.write_frame, b"more")):
            with pytest.raises(MoqError) as caught:
                write()
            assert caught.value.code == 77

    async def test_a_group_keeps_the_error_it_has(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        reader = await soon(broadcast.subscribe_track("video").next_group())
        assert reader is not None
        group.abort(70)
        track.abort(71)
        await fails(reader.read_frame(), 70)

    async def test_a_track_that_is_closed_stays_as_it_is(self) -> None:
        track, broadcast = new_track()
        write_group(track, b"all")
        track.finish()
        track.abort(5)
        assert await read_frames(broadcast.subscribe_track("video")) == [b"all"]

    @pytest.mark.parametrize("code", BAD_CODES)
    async def test_bad_codes_are_named(self, code: Any) -> None:
        track, _ = new_track()
        with pytest.raises((InvalidType, InvalidArgument), match="code must be"):
            track.abort(code)
        assert not track.is_closed

    async def test_who_waits_for_the_next_group_holds_nothing_of_the_last(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0)
        write_group(track, b"whole")
        assert await soon(consumer.read_frame()) == b"whole"
        call = await waiting(consumer.read_frame())
        assert not track._state.groups[0].cursors
        track.finish()
        assert await soon(call) is None

    async def test_a_session_that_ends_leaves_what_is_there(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0)
        write_group(track, b"whole")
        track.append_group().write_frame(b"part")
        error = SessionClosed(SessionError(7, "bye"))
        track._state.fail(error, discard=False)
        track._state.fail(MoqError(5), discard=False)
        with pytest.raises(MoqError, match="nothing more can be written"):
            track.append_group()
        assert await soon(consumer.read_frame()) == b"whole"
        assert await next_number(broadcast.subscribe_track("video")) == 1
        group = await soon(consumer.next_group())
        assert group is not None
        for _ in range(2):
            with pytest.raises(SessionClosed, match="bye"):
                await soon(consumer.next_group())

    async def test_the_frames_of_a_group_come_before_its_error(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        group.write_frame(b"part")
        track._state.fail(SessionClosed(SessionError(None, "lost")), discard=False)
        assert await soon(consumer.read_frame()) == b"part"
        for _ in range(2):
            with pytest.raises(SessionClosed):
                await soon(consumer.read_frame())


class TestDemand:
    async def test_used_and_unused(self) -> None:
        track, broadcast = new_track()
        assert not track.is_used
        await soon(track.unused())
        used = await waiting(track.used())
        consumers = [broadcast.subscribe_track("video"), track.consume(priority=3)]
        assert consumers[1].subscription == Subscription(priority=3)
        await soon(used)
        assert track.is_used
        await soon(track.used())
        unused = await waiting(track.unused())
        consumers[0].close()
        consumers[0].close()
        await idle()
        assert not unused.done()
        consumers[1].close()
        await soon(unused)

    @pytest.mark.parametrize(("end", "code"), [("finish", ErrorCode.CLOSED), ("abort", 5)])
    async def test_nobody_will_use_a_track_that_has_ended(self, end: str, code: int) -> None:
        track, _ = new_track()
        call = await waiting(track.used())
        track.finish() if end == "finish" else track.abort(code)
        await fails(call, code)
        await fails(track.used(), code)

    async def test_a_consumer_that_is_thrown_away_is_no_demand(self) -> None:
        track, broadcast = new_track()
        holder = [broadcast.subscribe_track("video")]
        call = await waiting(track.unused())
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        await soon(call)

    async def test_one_subscription_serves_all(self) -> None:
        track, broadcast = new_track()
        assert track._state.subscription is None
        first = broadcast.subscribe_track("video", priority=3, ordered=True)
        assert track._state.subscription == Subscription(priority=3, ordered=True)
        second = broadcast.subscribe_track("video", priority=5)
        assert track._state.subscription == Subscription(priority=5)
        second.close()
        assert track._state.subscription == first.subscription


class TestStart:
    async def test_at_the_latest_group_from_its_first_frame(self) -> None:
        track, broadcast = new_track()
        write_group(track, b"old")
        group = track.append_group()
        group.write_frame(b"first")
        group.write_frame(b"second")
        consumer, arriving = (broadcast.subscribe_track("video") for _ in range(2))
        assert consumer.name == "video"
        assert consumer.latest == 1
        track.finish()
        group.finish()
        assert await read_frames(consumer) == [b"first", b"second"]
        assert await arrivals(arriving) == [1]

    async def test_before_there_is_a_group(self) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video") for _ in range(2))
        assert ordered.latest is None
        for sequence in (5, 3, 4):
            write_group(track, sequence=sequence)
        track.finish()
        assert await numbers(ordered) == [3, 4, 5]
        assert await arrivals(arriving) == [5, 3, 4]

    async def test_the_latest_is_not_the_last_to_come(self) -> None:
        track, broadcast = new_track()
        for sequence in (1, 5, 3):
            write_group(track, sequence=sequence)
        ordered, arriving = (broadcast.subscribe_track("video") for _ in range(2))
        for sequence in (4, 6):
            write_group(track, sequence=sequence)
        track.finish()
        assert await numbers(ordered) == [5, 6]
        assert await arrivals(arriving) == [5, 6]

    async def test_at_a_group_of_the_past(self) -> None:
        track, broadcast = new_track()
        for sequence in (1, 5, 3, 7):
            write_group(track, sequence=sequence)
        track.finish()
        assert await numbers(broadcast.subscribe_track("video", start_group=2)) == [3, 5, 7]
        assert await arrivals(broadcast.subscribe_track("video", start_group=2)) == [5, 3, 7]

    async def test_at_a_group_to_come(self) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video", start_group=3) for _ in range(2))
        call = await waiting(ordered.next_group())
        for _ in range(5):
            write_group(track)
        track.finish()
        group = await soon(call)
        assert group is not None
        assert group.sequence == 3
        assert await numbers(ordered) == [4]
        assert await arrivals(arriving) == [3, 4]


class TestOrder:
    async def test_an_iterator_of_groups(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        for number in range(3):
            write_group(track, b"%d" % number)
        track.finish()
        async with consumer as same:
            assert same is consumer
            assert [(group.sequence, await group.read_all()) async for group in consumer] == [
                (0, b"0"),
                (1, b"1"),
                (2, b"2"),
            ]

    async def test_what_comes_late_is_skipped(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0)
        write_group(track, sequence=5)
        assert await next_number(consumer) == 5
        write_group(track, sequence=3)
        write_group(track, sequence=6)
        assert await next_number(consumer) == 6

    async def test_a_cancelled_read_loses_nothing(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        for read in (consumer.next_group, consumer.recv_group):
            call = asyncio.ensure_future(read())
            await idle()
            sequence = write_group(track)
            # Cancelled after the group came, before the call could return it.
            await cancel(call)
            group = await soon(read())
            assert group is not None
            assert group.sequence == sequence

    async def test_by_arrival_a_group_that_left_the_cache_is_skipped(self) -> None:
        track, broadcast = new_track(Cache(max_bytes=10_000))
        consumer = broadcast.subscribe_track("video", start_group=0)
        for _ in range(4):
            write_group(track, bytes(3000))
        track.finish()
        assert await arrivals(consumer) == [2, 3]

    async def test_both_orders_give_every_group_once(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0)
        for sequence in (1, 4, 3):
            write_group(track, sequence=sequence)
        assert await next_number(consumer) == 1
        assert await next_arrival(consumer) == 4
        write_group(track, sequence=6)
        assert await next_number(consumer) == 6
        # Group 3 is behind what was given in order.
        write_group(track, sequence=7)
        assert await next_arrival(consumer) == 7
        track.finish()
        assert await next_arrival(consumer) is None
        assert await next_number(consumer) is None

    async def test_arrivals_do_not_give_what_came_in_order(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        write_group(track)
        write_group(track)
        assert await next_number(consumer) == 0
        track.finish()
        assert await arrivals(consumer) == [1]


class TestFrames:
    async def test_all_frames_of_all_groups(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        write_group(track, b"0", b"1")
        write_group(track)
        write_group(track, b"2")
        call = asyncio.ensure_future(read_frames(consumer))
        await idle()
        write_group(track, b"3")
        track.finish()
        assert await soon(call) == [b"0", b"1", b"2", b"3"]

    @pytest.mark.parametrize("code", [ErrorCode.OLD, ErrorCode.EVICTED])
    async def test_a_group_that_was_dropped_is_left_for_the_next(self, code: int) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        group.write_frame(b"begun")
        assert await soon(consumer.read_frame()) == b"begun"
        call = await waiting(consumer.read_frame())
        group.abort(code)
        await idle()
        write_group(track, b"next")
        assert await soon(call) == b"next"

    async def test_other_errors_are_told_once(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        group.write_frame(b"unread")
        group.abort(5)
        write_group(track, b"next")
        await fails(consumer.read_frame(), 5)
        assert await soon(consumer.read_frame()) == b"next"


class TestEnd:
    async def test_groups_after_the_end_are_held_until_an_update(self) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video", start_group=0, end_group=1) for _ in range(2))
        for _ in range(4):
            write_group(track)
        track.finish()
        assert [await next_number(ordered), await next_number(ordered)] == [0, 1]
        assert [await next_arrival(arriving), await next_arrival(arriving)] == [0, 1]
        calls = [await waiting(ordered.next_group()), await waiting(arriving.recv_group())]
        for consumer in (ordered, arriving):
            consumer.update(end_group=2)
        for call in calls:
            group = await soon(call)
            assert group is not None
            assert group.sequence == 2
        for consumer in (ordered, arriving):
            consumer.update(end_group=None)
        assert await numbers(ordered) == [3]
        assert await arrivals(arriving) == [3]

    async def test_the_track_ends_where_nothing_is_held(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", end_group=1)
        write_group(track)
        write_group(track)
        track.finish()
        assert await numbers(consumer) == [0, 1]

    async def test_an_error_comes_before_what_is_held(self) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video", start_group=0, end_group=2) for _ in range(2))
        for sequence in (0, 1, 3):
            write_group(track, sequence=sequence)
        assert [await next_number(ordered), await next_number(ordered)] == [0, 1]
        assert [await next_arrival(arriving), await next_arrival(arriving)] == [0, 1]
        calls = [await waiting(ordered.next_group()), await waiting(arriving.recv_group())]
        # Group 2 will not come, so no other answer would.
        track._state.fail(SessionClosed(SessionError(0, "")), discard=False)
        for call in calls:
            with pytest.raises(SessionClosed):
                await soon(call)
        for consumer in (ordered, arriving):
            consumer.update(end_group=None)
        assert await next_number(ordered) == 3
        assert await next_arrival(arriving) == 3

    async def test_by_arrival_what_is_held_does_not_hold_up_the_rest(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=1, end_group=3)
        for sequence in (8, 0, 3, 5, 2, 4, 6):
            write_group(track, sequence=sequence)
        assert [await next_arrival(consumer), await next_arrival(consumer)] == [3, 2]
        call = await waiting(consumer.recv_group())
        consumer.update(end_group=6)
        group = await soon(call)
        assert group is not None
        assert group.sequence == 5
        consumer.update(end_group=4)
        assert await next_arrival(consumer) == 4
        await cancel(await waiting(consumer.recv_group()))
        track.finish()
        consumer.update(end_group=None)
        assert await arrivals(consumer) == [8, 6]

    async def test_what_is_held_is_waited_for_by_a_reliable_reader(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", ordered=True, start_group=0, end_group=1)
        write_group(track, b"held", sequence=5)
        group = track.create_group(6)
        await cancel(await waiting(consumer.recv_group()))
        drained = await waiting(group.drained(3))
        consumer.update(end_group=5)
        await idle()
        assert not drained.done()
        held = await soon(consumer.recv_group())
        assert held is not None
        assert await soon(held.read_all()) == b"held"
        await soon(drained)
        group.finish()

    async def test_what_is_remembered_of_held_groups_is_bounded(self) -> None:
        track, broadcast = new_track(Cache(max_bytes=10_000))
        consumer = broadcast.subscribe_track("video", start_group=0, end_group=5)
        for sequence in range(10, 1010):
            write_group(track, bytes(1000), sequence=sequence)
            await cancel(await waiting(consumer.recv_group()))
        assert len(consumer._reader.aside) <= 2 * len(track._state.groups) + 64
        consumer.update(end_group=track.latest)
        track.finish()
        assert await arrivals(consumer) == sorted(track._state.groups)

    async def test_released_groups_that_left_the_cache_are_skipped(self) -> None:
        track, broadcast = new_track(Cache(max_bytes=10_000))
        consumer = broadcast.subscribe_track("video", start_group=0, end_group=5)
        write_group(track, sequence=10)
        await cancel(await waiting(consumer.recv_group()))
        consumer.update(end_group=20)
        for _ in range(2):
            write_group(track, bytes(6000))
        track.finish()
        assert await arrivals(consumer) == [12]


class TestUpdate:
    async def test_what_is_not_named_stays(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", priority=1, max_latency=2)
        consumer.update(ordered=True, priority=3)
        assert consumer.subscription == Subscription(3, True, 2)
        assert track._state.subscription == consumer.subscription

    async def test_bad_wishes_change_nothing(self) -> None:
        _, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", priority=1)
        with pytest.raises(InvalidArgument, match="priority"):
            consumer.update(priority=256)
        with pytest.raises(InvalidType, match="ordered"):
            consumer.update(ordered=1)
        with pytest.raises(TypeError, match="wish"):
            consumer.update(wish=1)
        assert consumer.subscription == Subscription(priority=1)

    async def test_a_start_ahead_skips_to_it(self) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video", start_group=0) for _ in range(2))
        for _ in range(5):
            write_group(track)
        track.finish()
        assert await next_number(ordered) == await next_arrival(arriving) == 0
        for consumer in (ordered, arriving):
            consumer.update(start_group=3)
            # A start behind changes nothing: what was passed does not come back.
            consumer.update(start_group=1)
        assert await numbers(ordered) == [3, 4]
        assert await arrivals(arriving) == [3, 4]

    async def test_it_tells_the_producer(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        call = await waiting(track._state.demand.wait())
        consumer.update(priority=5)
        await soon(call)


class TestLatency:
    async def test_groups_past_it_are_skipped_unless_begun(self, clock: Clock) -> None:
        track, broadcast = new_track()
        ordered, arriving, patient = (
            broadcast.subscribe_track("video", max_latency=latency) for latency in (1, 1, None)
        )
        write_group(track, b"0")
        clock.advance(100)
        begun = await soon(broadcast.subscribe_track("video", max_latency=1).next_group())
        # The latency counts from when a newer group came.
        write_group(track, b"1")
        clock.advance(1)
        write_group(track, b"2")
        assert await next_number(broadcast.subscribe_track("video", start_group=0, max_latency=1)) == 0
        clock.advance(0.5)
        track.finish()
        assert await numbers(ordered) == [1, 2]
        assert await arrivals(arriving) == [1, 2]
        assert await numbers(patient) == [0, 1, 2]
        assert begun is not None
        assert await soon(begun.read_all()) == b"0"

    async def test_the_latest_is_never_skipped(self, clock: Clock) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", max_latency=0)
        write_group(track)
        clock.advance(1000)
        assert await next_number(consumer) == 0

    async def test_without_a_start_what_comes_late_is_old_from_the_beginning(self, clock: Clock) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", max_latency=1)
        write_group(track, sequence=5)
        write_group(track, sequence=3)
        clock.advance(2)
        assert await next_number(consumer) == 5

    async def test_skipping_is_progress(self, clock: Clock) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video", max_latency=1) for _ in range(2))
        group = track.append_group()
        group.write_frame(b"old")
        newer = track.append_group()
        clock.advance(2)
        drained = await waiting(group.drained())
        assert await next_number(ordered) == 1
        await idle()
        assert not drained.done()
        assert await next_arrival(arriving) == 1
        await soon(drained)
        group.finish()
        newer.finish()

    async def test_groups_that_were_dropped_are_skipped(self) -> None:
        track, broadcast = new_track()
        ordered, arriving = (broadcast.subscribe_track("video") for _ in range(2))
        track.append_group().abort(ErrorCode.OLD)
        track.append_group().abort(5)
        write_group(track)
        track.finish()
        assert await numbers(ordered) == [1, 2]
        assert await arrivals(arriving) == [1, 2]


class TestEarly:
    """Groups of which it is not sure that no older one is on its way."""

    async def test_a_reader_in_order_waits_until_it_is_settled(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0)
        write_group(track, sequence=1)
        early = track._state.groups[1]
        early.early = True
        assert await next_arrival(broadcast.subscribe_track("video", start_group=0)) == 1
        call = await waiting(consumer.next_group())
        write_group(track, sequence=0)
        group = await soon(call)
        assert group is not None
        assert group.sequence == 0
        # There is none between them, so nothing to wait for.
        assert await next_number(consumer) == 1

        write_group(track, sequence=4)
        early = track._state.groups[4]
        early.early = True
        call = await waiting(consumer.next_group())
        track._state.settle(early)
        group = await soon(call)
        assert group is not None
        assert group.sequence == 4

    async def test_at_most_for_its_latency(self, clock: Clock) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0, max_latency=0.02)
        write_group(track, sequence=1)
        track._state.groups[1].early = True
        call = await waiting(consumer.next_group())
        clock.advance(1)
        group = await soon(call)
        assert group is not None
        assert group.sequence == 1

    async def test_cancelling_leaves_no_timer(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0, max_latency=1000)
        write_group(track, sequence=1)
        track._state.groups[1].early = True
        await cancel(await waiting(consumer.next_group()))
        timers: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled")  # noqa: B009
        assert not [timer for timer in timers if not timer.cancelled() and "notify" in repr(timer)]


class TestClose:
    async def test_reads_end_with_an_error(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        write_group(track)
        assert await next_number(consumer) == 0
        calls: list[asyncio.Future[Any]] = [
            await waiting(read()) for read in (consumer.next_group, consumer.recv_group, consumer.read_frame)
        ]
        consumer.close()
        for call in (*calls, consumer.next_group(), consumer.recv_group(), consumer.read_frame()):
            await fails(call, ErrorCode.CLOSED, "this consumer of track 'video' was closed")

    async def test_a_group_that_is_read_frame_by_frame_ends_too(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        group.write_frame(b"first")
        consumer = broadcast.subscribe_track("video")
        assert await soon(consumer.read_frame()) == b"first"
        group.write_frame(b"second")
        drained = await waiting(group.drained())
        assert await soon(consumer.read_frame()) == b"second"
        await soon(drained)
        call = await waiting(consumer.read_frame())
        consumer.close()
        await fails(call, ErrorCode.CLOSED)
        group.finish()

    async def test_groups_it_has_given_can_be_read(self) -> None:
        track, broadcast = new_track()
        async with broadcast.subscribe_track("video") as consumer:
            write_group(track, b"given")
            group = await soon(consumer.next_group())
        assert not track.is_used
        assert group is not None
        assert await soon(group.read_all()) == b"given"

    async def test_a_consumer_that_could_not_be_made_can_be_thrown_away(self) -> None:
        consumer = TrackConsumer.__new__(TrackConsumer)
        del consumer
        gc.collect()


class TestReceiving:
    """What the network side does with a track that it fills for one reliable reader."""

    @staticmethod
    def reliable() -> tuple[TrackState, TrackConsumer]:
        track, broadcast = new_track()
        return track._state, broadcast.subscribe_track("video", ordered=True, start_group=0)

    async def test_a_group_that_never_came_whole_is_forgotten(self) -> None:
        state, consumer = self.reliable()
        group = state.create_group(0)
        begun = await soon(consumer.next_group())
        assert begun is not None
        state.forget(group, MoqError(ErrorCode.OLD))
        state.forget(group, MoqError(5))
        await fails(begun.read_frame(), ErrorCode.OLD)
        assert state.latest is None
        assert state.dropped_through == 0
        assert state.cost == 0

    async def test_who_waits_for_a_group_that_is_forgotten_hears_of_the_end(self) -> None:
        state, consumer = self.reliable()
        group = state.create_group(1)
        group.early = True
        reading = await waiting(consumer.next_group())
        state.fail(MoqError(78), discard=False)
        await idle()
        assert not reading.done()
        state.forget(group, MoqError(ErrorCode.DROPPED))
        await fails(reading, 78)

    async def test_room_for_the_group_that_comes_next(self) -> None:
        state, consumer = self.reliable()
        ahead = state.create_group(1)
        ahead.write(bytes(1000))
        needed = state.create_group(0)
        needed.write(bytes(100))
        await soon(state.room(needed, 100, 500))
        needed.write(bytes(1))
        calls = [await waiting(state.room(needed, 100, 500)), await waiting(state.room(ahead, 1000, 500))]
        begun = await soon(consumer.next_group())
        assert begun is not None
        await idle()
        # Group 1 comes next, so it has its own room; what is unread of group 0 is still too much.
        assert [call.done() for call in calls] == [False, True]
        assert await soon(begun.read_frame()) == bytes(100)
        await soon(calls[0])
        needed.finish()
        assert await soon(begun.read_all()) == bytes(1)
        ahead.write(bytes(1))
        call = await waiting(state.room(ahead, 1000, 500))
        assert list(state.groups) == [1], "what was read is let go of"
        begun = await soon(consumer.next_group())
        assert begun is not None
        assert await soon(begun.read_frame()) == bytes(1000)
        await soon(call)

    async def test_there_is_room_without_a_crowd(self) -> None:
        state, _consumer = self.reliable()
        group = state.create_group(0)
        group.write(bytes(1000))
        await soon(state.room(group, 10, GROUP_OVERHEAD + 2000))

    async def test_what_has_been_read_is_let_go(self) -> None:
        state, consumer = self.reliable()
        group = state.create_group(0)
        for _ in range(5):
            group.write(bytes(100))
        begun = await soon(consumer.next_group())
        assert begun is not None
        for _ in range(3):
            await soon(begun.read_frame())
        await soon(state.room(group, 1000, 1 << 20))
        assert len(group.frames) == 5, "less than what a trim is worth"
        group.write(bytes(800))
        await soon(state.room(group, 400, 1 << 20))
        assert len(group.frames) == 3
        await soon(state.room(group, 400, 1 << 20))
        group.finish()
        assert len(await soon(begun.read_all())) == 1000

    async def test_nothing_is_let_go_that_somebody_wants(self) -> None:
        state, consumer = self.reliable()
        for sequence in range(3):
            group = state.create_group(sequence)
            group.write(bytes(100))
            if sequence != 1:
                group.finish()
        given = [await soon(consumer.next_group()) for _ in range(2)]
        assert not state.crowded(10_000)
        # Group 0 has left, and its reader keeps its frames; group 1 is not whole.
        assert list(state.groups) == [1, 2]
        for reader in given:
            assert reader is not None
            assert await soon(reader.read_frame()) == bytes(100)
        consumer.close()

    async def test_what_nobody_reads_any_more_is_emptied(self) -> None:
        state, consumer = self.reliable()
        for sequence in range(2):
            group = state.create_group(sequence)
            group.write(bytes(100))
            group.finish()
            assert await soon(consumer.read_frame()) == bytes(100)
        passed = state.groups[0]
        assert not state.crowded(10_000)
        assert list(state.groups) == [1]
        assert passed.frames == []
        await soon(passed.drained(0))

    async def test_a_failed_group_needs_no_room(self) -> None:
        state, _consumer = self.reliable()
        group = state.create_group(0)
        group.write(bytes(1000))
        call = await waiting(state.room(group, 10, 10))
        group.fail(MoqError(5), discard=True)
        await soon(call)


async def test_several_tasks_can_read_the_frames_of_one_consumer() -> None:
    track = TrackProducer(TrackState("video"))
    consumer = track.consume()
    frames: list[bytes] = []

    async def read() -> None:
        while (frame := await consumer.read_frame()) is not None:
            frames.append(frame)

    reading = [asyncio.ensure_future(read()) for _ in range(3)]
    for number in range(20):
        with track.append_group() as group:
            for part in range(4):
                await asyncio.sleep(0)
                group.write_frame(b"%d/%d" % (number, part))
    track.finish()
    async with within():
        await asyncio.gather(*reading)
    assert sorted(frames) == sorted(b"%d/%d" % (number, part) for number in range(20) for part in range(4))

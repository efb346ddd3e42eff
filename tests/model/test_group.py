from __future__ import annotations

import asyncio
import gc
import threading
from functools import partial
from typing import Any

import pytest

from iroh_moq.aio import Signal
from iroh_moq.errors import ErrorCode, InvalidArgument, InvalidType, MoqError, SessionClosed, SessionError
from iroh_moq.model import MAX_FRAME_SIZE, Cache, GroupConsumer, GroupProducer, TrackConsumer
from tests.conftest import idle
from tests.model.tools import BAD_CODES, cancel, fails, new_track, soon, waiting, write_group

BAD_LIMITS: list[object] = [-1, True, 1.5, "1", None]


async def new_group(cache: Cache | None = None) -> tuple[GroupProducer, GroupConsumer]:
    """A group and a reader of it. Nothing but the reader is interested in the track."""
    track, broadcast = new_track(cache)
    group = track.append_group()
    async with broadcast.subscribe_track("video") as consumer:
        reader = await soon(consumer.next_group())
    assert reader is not None
    return group, reader


async def begun(consumer: TrackConsumer) -> GroupConsumer:
    """The next group of a track that has one."""
    group = await soon(consumer.next_group())
    assert group is not None
    return group


class TestWriting:
    async def test_bytes_are_kept_as_they_are(self) -> None:
        group, reader = await new_group()
        frame = bytes(1000)
        group.write_frame(frame)
        assert await soon(reader.read_frame()) is frame
        group.finish()

    @pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
    async def test_what_could_change_is_copied(self, kind: Any) -> None:
        group, reader = await new_group()
        data = kind(b"before")
        group.write_frame(data)
        data[:] = b"after!"
        frame = await soon(reader.read_frame())
        assert frame == b"before"
        assert type(frame) is bytes
        group.finish()

    @pytest.mark.parametrize("data", ["text", None, 7, [1, 2]])
    async def test_what_is_no_frame_is_named_and_the_group_goes_on(self, data: Any) -> None:
        group, reader = await new_group()
        with pytest.raises(InvalidType, match=f"must be bytes, bytearray or memoryview, not {type(data).__name__}"):
            group.write_frame(data)
        with group:
            group.write_frame(b"good")
        assert await soon(reader.read_all()) == b"good"

    async def test_the_largest_frame(self) -> None:
        group, reader = await new_group()
        with pytest.raises(MoqError, match=f"a frame of {MAX_FRAME_SIZE + 1} bytes") as caught:
            group.write_frame(bytes(MAX_FRAME_SIZE + 1))
        assert caught.value.code == ErrorCode.FRAME_TOO_LARGE
        group.write_frame(bytes(MAX_FRAME_SIZE))
        group.finish()
        assert len(await soon(reader.read_all())) == MAX_FRAME_SIZE

    async def test_nothing_can_be_written_after_the_end(self) -> None:
        group, reader = await new_group()
        assert not group.is_closed
        group.finish()
        assert group.is_closed
        with pytest.raises(MoqError, match="group 0 is finished, so nothing more can be written") as caught:
            group.write_frame(b"more")
        assert caught.value.code == ErrorCode.CLOSED
        assert await soon(reader.read_frame()) is None

    async def test_finishing_twice_is_allowed(self) -> None:
        track, _ = new_track(Cache(max_bytes=10_000))
        group = track.append_group()
        group.finish()
        group.finish()
        write_group(track, bytes(9500))
        assert group._state.error is not None, "it has left the cache"
        group.finish()

    async def test_a_finished_group_cannot_be_aborted(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"whole")
        group.finish()
        group.abort(5)
        assert await soon(reader.read_all()) == b"whole"

    async def test_nothing_can_be_written_after_the_session_has_ended(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"before")
        group._state.fail(SessionClosed(SessionError(7, "bye")), discard=False)
        for write in (partial(group.write_frame, b"more"), group.finish):
            with pytest.raises(MoqError, match="session closed by the peer: code 7, bye") as caught:
                write()
            assert caught.value.code == ErrorCode.CLOSED
        assert await soon(reader.read_frame()) == b"before"
        with pytest.raises(SessionClosed):
            await soon(reader.read_frame())


class TestAbort:
    async def test_every_reader_sees_it_at_once_and_unread_frames_are_lost(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        group.write_frame(b"one")
        consumers = [broadcast.subscribe_track("video") for _ in range(2)]
        readers = [await begun(consumer) for consumer in consumers]
        assert await soon(readers[0].read_frame()) == b"one"
        call = await waiting(readers[0].read_frame())
        group.abort(77)
        assert group.is_closed
        for read in (call, readers[0].read_frame(), readers[1].read_frame()):
            await fails(read, 77, r"group 0 was aborted \(application code 13, code 77\)")
        assert group._state.cost < 1000
        assert group._state.frames == []

    async def test_the_first_error_stays(self) -> None:
        group, reader = await new_group()
        group.abort(70)
        group.abort(71)
        await fails(reader.read_frame(), 70)
        for write in (partial(group.write_frame, b"more"), group.finish):
            with pytest.raises(MoqError) as caught:
                write()
            assert caught.value.code == 70

    @pytest.mark.parametrize("code", BAD_CODES)
    async def test_bad_codes_are_named(self, code: Any) -> None:
        group, _ = await new_group()
        with pytest.raises((InvalidType, InvalidArgument), match="code must be"):
            group.abort(code)
        assert not group.is_closed
        group.finish()

    async def test_errors_are_copies(self) -> None:
        # A shared exception would gather the tracebacks of all who raise it.
        group, reader = await new_group()
        group.abort(5)
        caught: list[BaseException] = []
        for _ in range(2):
            with pytest.raises(MoqError) as error:
                await soon(reader.read_frame())
            caught.append(error.value)
        assert caught[0] is not caught[1]
        assert caught[0] is not group._state.error


class TestBlocks:
    async def test_a_block_finishes_its_group(self) -> None:
        group, reader = await new_group()
        with group as same:
            assert same is group
            group.write_frame(b"all")
        assert await soon(reader.read_all()) == b"all"

    async def test_a_block_that_raises_aborts_its_group(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"some")
        with pytest.raises(ZeroDivisionError), group:
            raise ZeroDivisionError
        await fails(reader.read_frame(), ErrorCode.DROPPED)

    async def test_a_block_may_end_its_group_itself(self) -> None:
        group, reader = await new_group()
        with group:
            group.abort(5)
        await fails(reader.read_frame(), 5)


class TestThrownAway:
    async def test_readers_get_what_was_written_and_then_the_error(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"some")
        del group
        gc.collect()
        assert await soon(reader.read_frame()) == b"some"
        await fails(reader.read_frame(), ErrorCode.DROPPED, r"group 0 was thrown away; call finish\(\) on it")

    async def test_readers_that_wait_are_woken_from_any_thread(self) -> None:
        group, reader = await new_group()
        call = await waiting(reader.read_frame())
        holder = [group]
        del group
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        with pytest.raises(MoqError, match="thrown away"):
            await soon(call)

    async def test_producers_that_wait_are_woken(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        state = group._state
        group.write_frame(b"unread")
        call = await waiting(state.drained(0))
        del group
        gc.collect()
        await soon(call)
        consumer.close()

    def test_a_loop_that_was_closed_is_left_alone(self) -> None:
        signal = Signal()

        async def wait() -> asyncio.Future[None]:
            return signal.future()

        loop = asyncio.new_event_loop()
        waiter = loop.run_until_complete(wait())
        loop.close()
        signal.notify_threadsafe()
        assert not waiter.done()


class TestReading:
    async def test_frames_come_in_order_and_end(self) -> None:
        group, reader = await new_group()
        assert group.sequence == reader.sequence == 0
        with group:
            for number in range(5):
                group.write_frame(b"%d" % number)
        assert [frame async for frame in reader] == [b"0", b"1", b"2", b"3", b"4"]
        assert await soon(reader.read_frame()) is None

    async def test_a_frame_may_be_empty(self) -> None:
        group, reader = await new_group()
        with group:
            group.write_frame(b"")
            group.write_frame(b"")
        assert [frame async for frame in reader] == [b"", b""]

    async def test_every_reader_has_its_own_place(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        for number in range(3):
            group.write_frame(b"%d" % number)
        first = await begun(broadcast.subscribe_track("video"))
        assert await soon(first.read_frame()) == b"0"
        assert await soon(first.read_frame()) == b"1"
        late = await begun(broadcast.subscribe_track("video"))
        assert await soon(late.read_frame()) == b"0"
        assert await soon(first.read_frame()) == b"2"
        group.finish()
        assert await soon(late.read_all()) == b"12"

    async def test_reading_waits_for_the_next_frame_and_for_the_end(self) -> None:
        group, reader = await new_group()
        call = await waiting(reader.read_frame())
        group.write_frame(b"next")
        assert await soon(call) == b"next"
        end = await waiting(reader.read_frame())
        group.finish()
        assert await soon(end) is None

    async def test_a_cancelled_read_loses_nothing(self) -> None:
        group, reader = await new_group()
        await cancel(await waiting(reader.read_frame()))
        call = asyncio.ensure_future(reader.read_frame())
        await idle()
        group.write_frame(b"kept")
        # Cancelled after the frame came, before the call could return it.
        await cancel(call)
        assert await soon(reader.read_frame()) == b"kept"
        group.finish()

    async def test_several_frames_at_once(self) -> None:
        group, reader = await new_group()
        call = await waiting(reader.read_frames())
        for _ in range(5):
            group.write_frame(bytes(10))
        assert await soon(call) == [bytes(10)] * 5
        for _ in range(5):
            group.write_frame(bytes(10))
        assert len(await soon(reader.read_frames(0))) == 1
        assert len(await soon(reader.read_frames(10))) == 1
        assert len(await soon(reader.read_frames(11))) == 2
        assert len(await soon(reader.read_frames(1000))) == 1
        end = await waiting(reader.read_frames())
        group.finish()
        assert await soon(end) == []

    @pytest.mark.parametrize("limit", BAD_LIMITS)
    async def test_bad_limits_are_named(self, limit: Any) -> None:
        group, reader = await new_group()
        for call in (reader.read_frames, group.drained):
            with pytest.raises((InvalidType, InvalidArgument), match="limit must be"):
                await call(limit)
        group.finish()

    async def test_all_of_it(self) -> None:
        group, reader = await new_group()
        call = await waiting(reader.read_all())
        group.write_frame(b"one ")
        await idle()
        group.write_frame(b"two")
        await idle()
        assert not call.done()
        group.finish()
        assert await soon(call) == b"one two"
        assert await soon(reader.read_all()) == b""

    async def test_a_cancelled_read_of_all_gives_back_what_it_took(self) -> None:
        group, reader = await new_group()
        for number in range(3):
            group.write_frame(b"%d" % number)
        for _ in range(2):
            await cancel(await waiting(reader.read_all()))
        assert await soon(reader.read_frame()) == b"0"
        assert await soon(reader.read_frames()) == [b"1", b"2"]
        group.write_frame(b"3")
        group.finish()
        assert await soon(reader.read_all()) == b"3"

    async def test_reading_all_of_what_fails(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"some")
        call = await waiting(reader.read_all())
        group.abort(5)
        await fails(call, 5)

    async def test_a_reader_that_is_closed_reads_no_more(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"taken")
        await cancel(await waiting(reader.read_all()))
        reader.close()
        reader.close()
        for read in (reader.read_frame, reader.read_frames, reader.read_all):
            await fails(read(), ErrorCode.CLOSED, "this consumer of group 0 was closed")
        group.finish()

    async def test_closing_ends_a_read_that_waits(self) -> None:
        group, reader = await new_group()
        call = await waiting(reader.read_frame())
        reader.close()
        await fails(call, ErrorCode.CLOSED)
        group.finish()


class TestDrained:
    async def test_at_once_without_readers(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        group.write_frame(b"unread")
        await soon(group.drained())
        broadcast.subscribe_track("video").close()
        await soon(group.drained())
        group.finish()

    async def test_waits_for_the_slowest_reader(self) -> None:
        track, broadcast = new_track()
        consumers = [broadcast.subscribe_track("video") for _ in range(2)]
        group = track.append_group()
        for _ in range(2):
            group.write_frame(bytes(10))
        readers = [await begun(consumer) for consumer in consumers]
        call = await waiting(group.drained())
        for reader, frames in ((readers[0], 2), (readers[1], 1)):
            for _ in range(frames):
                await soon(reader.read_frame())
        await idle()
        assert not call.done()
        await soon(readers[1].read_frame())
        await soon(call)
        group.finish()

    async def test_waits_for_readers_that_have_not_come_to_the_group(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        group.write_frame(bytes(10))
        call = await waiting(group.drained())
        reader = await begun(consumer)
        await idle()
        assert not call.done()
        assert await soon(reader.read_frames()) == [bytes(10)]
        await soon(call)
        group.finish()

    async def test_some_bytes_may_be_left(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        group = track.append_group()
        for _ in range(3):
            group.write_frame(bytes(10))
        await soon(group.drained(30))
        call = await waiting(group.drained(20))
        reader = await begun(consumer)
        await soon(reader.read_frame())
        await soon(call)
        call = await waiting(group.drained(19))
        await soon(reader.read_frame())
        await soon(call)
        group.finish()

    async def test_counts_the_groups_before(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        write_group(track, bytes(10))
        write_group(track, bytes(10))
        last = track.append_group()
        later = track.append_group()
        later.write_frame(bytes(1000))
        await soon(last.drained(20))
        call = await waiting(last.drained(19))
        assert await soon((await begun(consumer)).read_all()) == bytes(10)
        await soon(call)
        call = await waiting(last.drained(9))
        assert await soon((await begun(consumer)).read_all()) == bytes(10)
        await soon(call)
        # The group itself has nothing to read, but its reader has yet to come.
        call = await waiting(last.drained())
        _reader = await begun(consumer)
        await soon(call)
        last.finish()
        later.finish()

    async def test_groups_that_were_drained_count_again_for_those_who_come_late(self) -> None:
        track, broadcast = new_track()
        write_group(track, bytes(10))
        last = track.append_group()
        await soon(last.drained())
        late = broadcast.subscribe_track("video", start_group=0)
        call = await waiting(last.drained(9))
        assert await soon((await begun(late)).read_all()) == bytes(10)
        await soon(call)
        last.finish()

    async def test_a_group_before_that_is_written_on_counts_again(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        open_one, last = track.append_group(), track.append_group()
        last.finish()
        await soon(last.drained(9))
        open_one.write_frame(bytes(10))
        call = await waiting(last.drained(9))
        assert await soon((await begun(consumer)).read_frame()) == bytes(10)
        await soon(call)
        open_one.finish()

    async def test_frames_without_bytes_are_waited_for(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"")
        call = await waiting(group.drained())
        await soon(reader.read_frame())
        await soon(call)
        group.finish()

    async def test_frames_on_their_way_count_until_they_are_released(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"on its way")
        assert await soon(reader.hold_frames(1000)) == [b"on its way"]
        calls = [await waiting(group.drained()), await waiting(group.drained(9))]
        reader.release()
        for call in calls:
            await soon(call)
        reader.release()
        group.finish()

    async def test_empty_frames_on_their_way_count_too(self) -> None:
        group, reader = await new_group()
        group.write_frame(b"")
        assert await soon(reader.hold_frames(1000)) == [b""]
        call = await waiting(group.drained())
        reader.release()
        await soon(call)
        group.finish()

    async def test_an_aborted_group_has_nothing_to_wait_for(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video")
        aborted, last = track.append_group(), track.append_group()
        aborted.write_frame(b"unread")
        calls = [await waiting(aborted.drained()), await waiting(last.drained(5))]
        aborted.abort(5)
        for call in calls:
            await soon(call)
        await soon(aborted.drained())
        last.finish()
        consumer.close()

    @pytest.mark.parametrize("thrown_away", [False, True])
    async def test_readers_that_leave_are_not_waited_for(self, thrown_away: bool) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        group.write_frame(b"unread")
        consumers = [broadcast.subscribe_track("video")]
        readers = [await begun(broadcast.subscribe_track("video"))]
        call = await waiting(group.drained())
        consumers.clear() if thrown_away else consumers[0].close()
        await idle()
        assert not call.done()
        readers.clear() if thrown_away else readers[0].close()
        await soon(call)
        group.finish()

    async def test_a_reader_that_lags_is_not_waited_for(self) -> None:
        group, reader = await new_group(Cache(max_bytes=5000))
        for _ in range(10):
            group.write_frame(bytes(1000))
        call = await waiting(group.drained())
        await fails(reader.read_frame(), ErrorCode.LAGGED)
        await soon(call)
        group.finish()

    @pytest.mark.parametrize(
        ("wishes", "waits"),
        [
            ({"start_group": 2}, False),
            ({"end_group": 0}, False),
            ({"end_group": 0, "ordered": True, "max_latency": 1}, False),
            ({"end_group": 0, "ordered": True}, True),
            ({"end_group": 1}, True),
        ],
    )
    async def test_only_those_who_want_the_group_are_waited_for(self, wishes: dict[str, Any], waits: bool) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", **wishes)
        group = track.create_group(1)
        group.write_frame(b"unread")
        call = asyncio.ensure_future(group.drained())
        await idle()
        assert call.done() is not waits
        consumer.close()
        await soon(call)
        group.finish()

    async def test_groups_held_back_are_waited_for_once_they_are_wanted(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", end_group=0)
        group = track.create_group(1)
        group.write_frame(b"unread")
        group.finish()
        await soon(group.drained(5))
        consumer.update(end_group=1)
        call = await waiting(group.drained(5))
        assert await soon((await begun(consumer)).read_all()) == b"unread"
        await soon(call)

    async def test_a_reader_by_arrival_is_waited_for(self) -> None:
        track, broadcast = new_track()
        consumer = broadcast.subscribe_track("video", start_group=0)
        first = track.create_group(5)
        first.write_frame(b"first")
        first.finish()
        reader = await soon(consumer.recv_group())
        assert reader is not None
        assert await soon(reader.read_all()) == b"first"
        await soon(first.drained())
        late = track.create_group(3)
        late.write_frame(b"late")
        calls = [await waiting(late.drained()), await waiting(late.drained(3)), await waiting(first.drained(3))]
        reader = await soon(consumer.recv_group())
        assert reader is not None
        assert reader.sequence == 3
        assert await soon(reader.read_frame()) == b"late"
        for call in calls:
            await soon(call)
        late.finish()

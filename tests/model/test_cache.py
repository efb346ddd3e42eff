from __future__ import annotations

from typing import Any

import pytest

from iroh_moq.errors import ErrorCode, InvalidArgument, InvalidType, MoqError
from iroh_moq.model import BroadcastProducer, Cache
from iroh_moq.model.group import FRAME_OVERHEAD, GROUP_OVERHEAD
from tests.model.conftest import Clock
from tests.model.tools import new_track, next_arrival, next_number, read_frames, soon, waiting, write_group

SMALL = Cache(max_bytes=10_000, max_age=30)


@pytest.mark.parametrize(
    ("bounds", "error", "text"),
    [
        ({"max_bytes": 0}, InvalidArgument, "max_bytes must be at least 1, not 0"),
        ({"max_bytes": 1.5}, InvalidType, "max_bytes must be an int, not float"),
        ({"max_bytes": True}, InvalidType, "max_bytes"),
        ({"max_age": 0}, InvalidArgument, "max_age must be positive, not 0"),
        ({"max_age": -1}, InvalidArgument, "max_age"),
        ({"max_age": float("nan")}, InvalidArgument, "max_age"),
        ({"max_age": "30"}, InvalidType, "max_age must be a number, not str"),
    ],
)
def test_bad_bounds_are_named(bounds: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Cache(**bounds)


def test_there_may_be_no_bound_of_age() -> None:
    assert Cache(max_age=float("inf")).max_age == float("inf")


async def test_the_oldest_groups_go_when_the_bytes_are_too_many() -> None:
    track, broadcast = new_track(SMALL)
    for _ in range(5):
        write_group(track, bytes(3000))
    reader = broadcast.subscribe_track("video", start_group=0)
    # With its charges each takes 3576 bytes, so there is room for two.
    assert await next_number(reader) == 3
    assert await next_number(reader) == 4
    assert track._state.cost <= SMALL.max_bytes


async def test_a_write_makes_room_as_well_as_a_new_group() -> None:
    track, broadcast = new_track(SMALL)
    write_group(track, bytes(3000))
    group = track.append_group()
    group.write_frame(bytes(3000))
    group.write_frame(bytes(3000))
    assert await next_number(broadcast.subscribe_track("video", start_group=0)) == 1
    group.finish()


async def test_the_latest_group_is_kept_and_loses_its_oldest_frames() -> None:
    track, broadcast = new_track(SMALL)
    reader = broadcast.subscribe_track("video")
    group = track.append_group()
    for number in range(100):
        group.write_frame(b"%04d" % number + bytes(996))
    assert track._state.cost <= SMALL.max_bytes
    group.finish()
    late = await soon(reader.next_group())
    assert late is not None
    with pytest.raises(MoqError, match="outgrew the cache") as caught:
        await soon(late.read_frame())
    assert caught.value.code == ErrorCode.LAGGED


async def test_a_reader_that_keeps_up_reads_a_group_of_any_size() -> None:
    track, broadcast = new_track(SMALL)
    reader = broadcast.subscribe_track("video")
    group = track.append_group()
    for number in range(100):
        group.write_frame(b"%04d" % number + bytes(996))
        frame = await soon(reader.read_frame())
        assert frame is not None
        assert frame.startswith(b"%04d" % number)
    group.finish()
    assert track._state.cost <= SMALL.max_bytes


async def test_the_newest_frame_is_kept_whatever_its_size() -> None:
    track, broadcast = new_track(Cache(max_bytes=100))
    reader = broadcast.subscribe_track("video")
    track.write_frame(bytes(5000))
    track.finish()
    assert await read_frames(reader) == [bytes(5000)]


async def test_groups_go_once_they_are_too_old(clock: Clock) -> None:
    track, broadcast = new_track(SMALL)
    write_group(track, b"0")
    clock.advance(100)
    write_group(track, b"1")
    # The age counts from when a newer one came, so both are here.
    assert await next_number(broadcast.subscribe_track("video", start_group=0)) == 0
    clock.advance(29)
    write_group(track, b"2")
    assert await next_number(broadcast.subscribe_track("video", start_group=0)) == 0
    clock.advance(2)
    write_group(track, b"3")
    assert await next_number(broadcast.subscribe_track("video", start_group=0)) == 1


async def test_the_latest_group_has_no_age(clock: Clock) -> None:
    track, broadcast = new_track(SMALL)
    write_group(track, b"0")
    clock.advance(1_000_000)
    assert await soon(broadcast.subscribe_track("video").read_frame()) == b"0"


@pytest.mark.parametrize(("pause", "code"), [(0, ErrorCode.EVICTED), (31, ErrorCode.OLD)])
async def test_whoever_reads_a_group_that_goes_is_told_why(clock: Clock, pause: float, code: ErrorCode) -> None:
    track, broadcast = new_track(SMALL)
    group = track.append_group()
    group.write_frame(b"read")
    reader = await soon(broadcast.subscribe_track("video").next_group())
    assert reader is not None
    assert await soon(reader.read_frame()) == b"read"
    call = await waiting(reader.read_frame())
    write_group(track, bytes(6000))
    clock.advance(pause)
    write_group(track, bytes(6000))
    with pytest.raises(MoqError, match="group 0 of track 'video' left the cache") as caught:
        await soon(call)
    assert caught.value.code == code
    with pytest.raises(MoqError, match="left the cache"):
        group.write_frame(b"more")
    with pytest.raises(MoqError, match="left the cache"):
        group.finish()


async def test_a_group_that_was_read_whole_ends_well_after_it_went() -> None:
    track, broadcast = new_track(SMALL)
    write_group(track, b"all")
    reader = await soon(broadcast.subscribe_track("video").next_group())
    assert reader is not None
    assert await soon(reader.read_frame()) == b"all"
    write_group(track, bytes(9000))
    write_group(track, bytes(9000))
    assert await soon(reader.read_frame()) is None


async def test_frames_and_groups_without_bytes_are_bounded_as_well() -> None:
    track, _ = new_track(SMALL)
    for _ in range(1000):
        write_group(track)
    assert len(track._state.groups) <= SMALL.max_bytes // GROUP_OVERHEAD
    group = track.append_group()
    for _ in range(1000):
        group.write_frame(b"")
    assert len(group._state.frames) <= SMALL.max_bytes // FRAME_OVERHEAD
    group.finish()


async def test_aborted_groups_are_bounded_as_well() -> None:
    track, _ = new_track(SMALL)
    for _ in range(1000):
        track.append_group().abort(5)
    assert len(track._state.groups) <= SMALL.max_bytes // GROUP_OVERHEAD


async def test_what_is_remembered_of_groups_that_went_is_bounded() -> None:
    track, broadcast = new_track(SMALL)
    write_group(track, b"", sequence=1_000_000)
    reader = broadcast.subscribe_track("video", start_group=0)
    # The latest group was the first to come, so those that come and go are all behind it.
    for number in range(1000):
        write_group(track, bytes(1000), sequence=number)
    assert len(track._state.log) <= 2 * len(track._state.groups) + 64
    arrivals = [await next_arrival(reader) for _ in range(len(track._state.groups))]
    assert arrivals == [1_000_000, *sorted(track._state.groups)[:-1]]


async def test_a_number_may_be_used_again_once_its_group_went() -> None:
    track, broadcast = new_track(SMALL)
    write_group(track, b"old")
    write_group(track, bytes(9000), sequence=5)
    write_group(track, bytes(6000), sequence=6)
    write_group(track, b"new", sequence=0)
    reader = broadcast.subscribe_track("video", start_group=0)
    assert await soon(reader.read_frame()) == b"new"
    track.abort(5)
    assert track._state.cost == 0


async def test_a_track_may_have_its_own_bounds() -> None:
    broadcast = BroadcastProducer(cache=SMALL)
    default, own = broadcast.create_track("default"), broadcast.create_track("own", cache=Cache(max_bytes=100_000))
    for track in (default, own):
        for _ in range(5):
            write_group(track, bytes(3000))
    consumer = broadcast.consume()
    assert await next_number(consumer.subscribe_track("default", start_group=0)) == 3
    assert await next_number(consumer.subscribe_track("own", start_group=0)) == 0


async def test_what_all_have_read_goes_before_what_somebody_is_reading() -> None:
    """So a producer that waits for its slowest reader loses nothing, however large its groups are."""
    track, broadcast = new_track(SMALL)
    reader = broadcast.subscribe_track("video", ordered=True, start_group=0)
    for _ in range(2):
        group = track.append_group()
        for number in range(4):
            group.write_frame(b"%04d" % number + bytes(996))
        group.finish()
    first = await soon(reader.next_group())
    assert first is not None
    assert [(await soon(first.read_frame()) or b"")[:4] for _ in range(3)] == [b"0000", b"0001", b"0002"]
    write_group(track, bytes(1500))
    assert track._state.cost <= SMALL.max_bytes
    # Who comes now begins with the first group that has its beginning.
    assert await next_number(broadcast.subscribe_track("video", start_group=0)) == 1
    assert [(await soon(first.read_frame()) or b"")[:4], await soon(first.read_frame())] == [b"0003", None]
    assert await next_number(reader) == 1
    assert await next_number(reader) == 2

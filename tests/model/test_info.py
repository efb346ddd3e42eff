"""Timestamps, datagrams, past groups and the properties of tracks, without any network."""

from __future__ import annotations

from typing import Any

import pytest

from iroh_moq.errors import ErrorCode, InvalidArgument, InvalidType, MoqError, SessionClosed, SessionError
from iroh_moq.model import MAX_DATAGRAM_SIZE, BroadcastConsumer, BroadcastProducer, Cache, TrackInfo
from iroh_moq.model.broadcast import BroadcastState
from iroh_moq.model.info import MAX_TIME
from iroh_moq.model.track import TrackConsumer, TrackState
from tests.model.tools import Elsewhere, at_once, cancel, fails, new_track, soon, waiting, write_group

BAD_TIMES: list[object] = ["1", True, -0.1, float("nan"), float("inf"), 1e13]


class TestTimestamps:
    async def test_frames_with_and_without(self) -> None:
        track, broadcast = new_track()
        with track.append_group() as group:
            group.write_frame(b"a")
            group.write_frame(b"b", 1.5)
            group.write_frame(b"c")
            group.write_frame(b"d", 0)
        track.write_frame(b"e", timestamp=2.25)
        track.write_frame(b"f")
        track.finish()
        reader = broadcast.subscribe_track("video", start_group=0)
        frames = [await soon(reader.read_timed_frame()) for _ in range(7)]
        assert frames == [(b"a", None), (b"b", 1.5), (b"c", None), (b"d", 0.0), (b"e", 2.25), (b"f", None), None]

    async def test_plain_reads_are_of_bytes(self) -> None:
        track, broadcast = new_track()
        with track.append_group() as group:
            group.write_frame(b"a", 1)
            group.write_frame(b"b", 2)
        reader = await soon(broadcast.subscribe_track("video").next_group())
        assert reader is not None
        assert [type(frame) async for frame in reader] == [bytes, bytes]

    async def test_as_an_iterator_that_waits(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        reader = await soon(broadcast.subscribe_track("video").next_group())
        assert reader is not None
        frames = reader.timed_frames()
        call = await waiting(anext(frames))
        group.write_frame(b"a", 3)
        assert await soon(call) == (b"a", 3.0)
        group.finish()
        assert [frame async for frame in frames] == []

    async def test_they_are_counted_in_the_tracks_timescale(self) -> None:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("video", timescale=10)
        track.write_frame(b"a", 0.123)
        assert await soon(broadcast.consume().subscribe_track("video").read_timed_frame()) == (b"a", 0.1)

    @pytest.mark.parametrize("time", BAD_TIMES)
    async def test_bad_ones_are_named_and_nothing_is_written(self, time: Any) -> None:
        track, _ = new_track()
        group = track.append_group()
        for write in (group.write_frame, track.write_frame, track.write_datagram):
            with pytest.raises((InvalidType, InvalidArgument), match="timestamp"):
                write(b"x", time)
        assert (track.latest, group._state.frames, track._state.datagrams_came) == (0, [], 0)

    @pytest.mark.parametrize("timescale", [0, -1, 1 << 62, True, 2.0])
    def test_bad_timescales_are_named(self, timescale: Any) -> None:
        with pytest.raises((InvalidType, InvalidArgument), match="timescale"):
            BroadcastProducer().create_track("video", timescale=timescale)

    async def test_the_longest(self) -> None:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("video", timescale=1)
        track.write_frame(b"x", MAX_TIME)
        frame = await soon(broadcast.consume().subscribe_track("video").read_timed_frame())
        assert frame == (b"x", float(MAX_TIME))

    async def test_they_leave_with_their_frames(self) -> None:
        track, broadcast = new_track(Cache(max_bytes=4000))
        group = track.append_group()
        for number in range(100):
            group.write_frame(bytes(100), number)
        state = group._state
        assert state.times is not None
        assert len(state.times) == len(state.frames) < 100
        reader = await soon(broadcast.subscribe_track("video").next_group())
        assert reader is not None
        await fails(reader.read_timed_frame(), ErrorCode.LAGGED)

    async def test_a_cancelled_read_of_all_gives_them_back(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        group.write_frame(b"a", 1)
        group.write_frame(b"b", 2)
        reader = await soon(broadcast.subscribe_track("video").next_group())
        assert reader is not None
        await cancel(await waiting(reader.read_all()))
        group.write_frame(b"c", 3)
        group.finish()
        assert [frame async for frame in reader.timed_frames()] == [(b"a", 1), (b"b", 2), (b"c", 3)]

    async def test_a_peers_wait_until_it_is_known_what_they_count(self) -> None:
        track = TrackState("video")
        track.info = None
        reader = TrackConsumer(track, _wishes())
        group = track.create_group(0)
        group.time = 0
        group.extend([b"a"])
        group.extend([b"b"], [90])
        call = await waiting(reader.read_timed_frame())
        asking = await waiting(reader.info())
        # What they are is of no interest to whoever reads no times.
        track.inform(TrackInfo(timescale=90))
        assert await soon(call) == (b"a", 0.0)
        assert await soon(asking) == TrackInfo(timescale=90)
        assert await soon(reader.read_timed_frame()) == (b"b", 1.0)

    async def test_a_peer_that_does_not_tell(self) -> None:
        track = TrackState("video")
        track.info = None
        reader = TrackConsumer(track, _wishes())
        group = track.create_group(0)
        group.time = 0
        group.extend([b"a"])
        call = await waiting(reader.read_timed_frame())
        track.not_informed(MoqError(ErrorCode.NOT_FOUND))
        assert await soon(call) == (b"a", None)
        await fails(reader.info(), ErrorCode.NOT_FOUND)

    async def test_a_track_that_fails_first(self) -> None:
        track = TrackState("video")
        track.info = None
        call = await waiting(TrackConsumer(track, _wishes()).info())
        track.fail(SessionClosed(SessionError(3)), discard=False)
        with pytest.raises(SessionClosed):
            await soon(call)


def _wishes() -> Any:
    _, broadcast = new_track()
    return broadcast.subscribe_track("video").subscription


class TestProperties:
    async def test_of_a_track_here(self) -> None:
        broadcast = BroadcastProducer(cache=Cache(max_age=3))
        track = broadcast.create_track("video", 7, timescale=90_000)
        expected = TrackInfo(7, False, 3.0, 90_000)
        assert track.info == expected
        consumer = broadcast.consume()
        assert await soon(consumer.subscribe_track("video").info()) == expected
        assert await soon(consumer._state.track_info("video")) == expected

    async def test_of_one_without_a_limit_of_age(self) -> None:
        track = BroadcastProducer().create_track("video", cache=Cache(max_age=float("inf")))
        assert track.info.max_age is None

    async def test_of_one_that_is_yet_to_be_made(self) -> None:
        broadcast = BroadcastProducer(cache=Cache(max_age=3))
        state = broadcast.consume()._state
        await fails(state.track_info("video"), ErrorCode.NOT_FOUND)
        with broadcast.dynamic() as dynamic:
            assert await soon(state.track_info("video")) == TrackInfo(max_age=3.0)
            readers = [broadcast.consume().subscribe_track(name) for name in ("video", "audio")]
            assert await soon(dynamic.requested_track())
            assert await soon(state.track_info("video")) == TrackInfo(max_age=3.0)
            assert broadcast.create_track("audio", timescale=48_000).info.timescale == 48_000
            assert await soon(readers[1].info()) == TrackInfo(max_age=3.0, timescale=48_000)
        broadcast.finish()
        await fails(state.track_info("other"), ErrorCode.NOT_FOUND)

    async def test_of_one_from_elsewhere(self) -> None:
        state = BroadcastState(Cache(), 1)
        state.source = Elsewhere()
        assert await soon(state.track_info("video")) == TrackInfo(5)
        state.end(SessionClosed(SessionError(3)))
        with pytest.raises(SessionClosed):
            await soon(state.track_info("video"))


class TestFetch:
    async def test_what_is_kept(self) -> None:
        track, broadcast = new_track()
        for number in range(3):
            write_group(track, b"%d" % number)
        group = await soon(broadcast.fetch_group("video", 1))
        assert (group.sequence, await soon(group.read_all())) == (1, b"1")

    async def test_what_is_still_written(self) -> None:
        track, broadcast = new_track()
        group = track.append_group()
        fetched = await soon(broadcast.fetch_group("video", 0))
        call = await waiting(fetched.read_frame())
        group.write_frame(b"a")
        assert await soon(call) == b"a"

    async def test_what_is_not(self) -> None:
        track, broadcast = new_track(Cache(max_bytes=1000))
        for _ in range(10):
            write_group(track, bytes(400))
        for name, sequence in (("video", 0), ("video", 10), ("audio", 0)):
            await fails(broadcast.fetch_group(name, sequence), ErrorCode.NOT_FOUND)
        track.finish()
        assert await soon(broadcast.fetch_group("video", 9))

    async def test_after_the_end(self) -> None:
        producer = BroadcastProducer()
        write_group(producer.create_track("video"), b"a")
        producer.finish()
        assert await soon((await soon(producer.consume().fetch_group("video", 0))).read_all()) == b"a"
        await fails(producer.consume().fetch_group("video", 1), ErrorCode.NOT_FOUND)

    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            (("", 0), "track name"),
            (("video", -1), "sequence"),
            (("video", True), "sequence"),
            (("video", 0, 256), "priority"),
        ],
    )
    async def test_mistakes_are_named(self, arguments: Any, what: str) -> None:
        _, broadcast = new_track()
        with pytest.raises((InvalidType, InvalidArgument), match=what):
            await broadcast.fetch_group(*arguments)

    async def test_from_elsewhere_unless_it_is_here_and_whole(self) -> None:
        state = BroadcastState(Cache(), 1)
        source = state.source = Elsewhere()
        consumer = BroadcastConsumer(state)
        reader = consumer.subscribe_track("video")
        track = reader._state
        whole, begun = track.create_group(0), track.create_group(1)
        whole.extend([b"a"])
        whole.finish()
        begun.extend([b"b"])
        assert await soon((await soon(consumer.fetch_group("video", 0))).read_all()) == b"a"
        assert source.fetched == []
        for sequence in (1, 2):
            assert (await soon(consumer.fetch_group("video", sequence, 9))).sequence == sequence
        assert source.fetched == [("video", 1, 9), ("video", 2, 9)]


class TestDatagrams:
    async def test_each_reader_gets_them_from_its_beginning_on(self) -> None:
        track, broadcast = new_track()
        assert track.write_datagram(b"before") == 0
        readers = [broadcast.subscribe_track("video") for _ in range(2)]
        assert await at_once(readers[0].recv_datagram()) is None
        assert track.write_datagram(bytearray(b"a"), 1.5) == 1
        assert track.write_datagram(b"b") == 2
        for reader in readers:
            assert await soon(reader.recv_datagram()) == (1, b"a", 1.5)
            assert await soon(reader.recv_datagram()) == (2, b"b", None)

    async def test_they_share_their_numbers_with_groups(self) -> None:
        track, _ = new_track()
        assert track.append_group().sequence == 0
        assert track.write_datagram(b"a") == 1
        assert track.append_group().sequence == 2
        assert track.latest == 2

    async def test_the_oldest_are_lost_to_a_slow_reader(self) -> None:
        track, broadcast = new_track()
        reader = broadcast.subscribe_track("video")
        for _ in range(1000):
            track.write_datagram(b"x")
        assert len(track._state.datagrams) == 256
        track.finish()
        numbers = [datagram.sequence async for datagram in reader.datagrams()]
        assert numbers == list(range(744, 1000))

    async def test_a_reader_that_waits_sees_the_end(self) -> None:
        track, broadcast = new_track()
        readers = [broadcast.subscribe_track("video") for _ in range(3)]
        calls = [await waiting(reader.recv_datagram()) for reader in readers]
        readers[0].close()
        await fails(calls[0], ErrorCode.CLOSED)
        track.finish()
        assert await soon(calls[1]) is None
        with pytest.raises(MoqError) as caught:
            track.write_datagram(b"late")
        assert caught.value.code == ErrorCode.CLOSED

    async def test_an_abort_is_an_error(self) -> None:
        track, broadcast = new_track()
        call = await waiting(broadcast.subscribe_track("video").recv_datagram())
        track.abort(70)
        await fails(call, 70)

    async def test_too_large_for_one_of_those_who_pass_them_on(self) -> None:
        track, _ = new_track()
        passed: list[tuple[int, int | None, bytes]] = []

        def sink(sequence: int, time: int | None, data: bytes) -> None:
            passed.append((sequence, time, data))

        with pytest.raises(MoqError, match=f"at most {MAX_DATAGRAM_SIZE}"):
            track.write_datagram(bytes(MAX_DATAGRAM_SIZE + 1))
        track._state.datagram_sinks[sink] = lambda: 100
        with pytest.raises(MoqError, match="at most 100") as caught:
            track.write_datagram(bytes(101))
        assert caught.value.code == ErrorCode.FRAME_TOO_LARGE
        track.write_datagram(bytes(100), 1)
        assert passed == [(0, 1_000_000, bytes(100))]

    async def test_none_can_come(self) -> None:
        track = TrackState("video")
        track.without_datagrams = MoqError(ErrorCode.UNSUPPORTED)
        await fails(TrackConsumer(track, _wishes()).recv_datagram(), ErrorCode.UNSUPPORTED)


class TestRoutes:
    def test_those_who_pass_it_on_hear_of_another_way(self) -> None:
        state = BroadcastState(Cache(), 2, (1, 2))
        heard: list[tuple[int, ...]] = []

        class Watching:
            def rerouted(self) -> None:
                heard.append(state.route)

            def ended(self) -> None:
                heard.clear()

        state.watchers[Watching()] = None
        state.reroute((1, 2))
        state.reroute((1, 3, 4))
        assert heard == [(1, 3, 4)]
        assert BroadcastConsumer(state).hops == 3
        state.end(None)
        assert heard == []

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from iroh_moq.errors import ErrorCode, InvalidArgument, InvalidType, MoqError, SessionClosed, SessionError
from iroh_moq.model import BroadcastConsumer, BroadcastDynamic, BroadcastProducer, Cache, Subscription, TrackRequest
from iroh_moq.model.broadcast import BroadcastState
from iroh_moq.model.track import TrackState
from tests.conftest import idle, within
from tests.model.tools import BAD_CODES, BAD_NAMES, Elsewhere, cancel, fails, read_frames, soon, waiting, write_group


async def requested(dynamic: BroadcastDynamic) -> TrackRequest:
    """The next track that is asked for."""
    request = await soon(dynamic.requested_track())
    assert request is not None
    return request


class TestTracks:
    async def test_tracks_are_found_by_name(self) -> None:
        broadcast = BroadcastProducer()
        for name in ("video", "audio"):
            broadcast.create_track(name).write_frame(name.encode())
        consumer = broadcast.consume()
        assert consumer.hops == 0
        for name in ("audio", "video"):
            assert await soon(consumer.subscribe_track(name).read_frame()) == name.encode()

    async def test_wishes_in_their_order(self) -> None:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("video", 7)
        consumer = broadcast.consume().subscribe_track("video", 3, True, 1.5, 4, 9)
        assert consumer.subscription == Subscription(3, True, 1.5, 4, 9)
        assert track._state.priority == 7

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_bad_names_are_named(self, name: Any) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic():
            for call in (broadcast.create_track, broadcast.consume().subscribe_track):
                with pytest.raises((InvalidType, InvalidArgument), match="track name"):
                    call(name)
            assert broadcast._state.tracks == {}

    @pytest.mark.parametrize("priority", [-1, 256, True, "1"])
    async def test_bad_priorities_are_named(self, priority: Any) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic():
            for call in (broadcast.create_track, broadcast.consume().subscribe_track):
                with pytest.raises((InvalidType, InvalidArgument), match="priority"):
                    call("video", priority)
            assert broadcast._state.tracks == {}

    async def test_bad_caches_are_named(self) -> None:
        bad: Any = 1000
        with pytest.raises(InvalidType, match="cache must be a Cache, not int"):
            BroadcastProducer(cache=bad)
        with pytest.raises(InvalidType, match="cache must be a Cache, not int"):
            BroadcastProducer().create_track("video", cache=bad)

    async def test_a_name_is_used_once_at_a_time(self) -> None:
        broadcast = BroadcastProducer()
        first = broadcast.create_track("video")
        with pytest.raises(MoqError, match="the broadcast has a track 'video' already") as caught:
            broadcast.create_track("video")
        assert caught.value.code == ErrorCode.DUPLICATE
        first.write_frame(b"old")
        first.finish()
        old = broadcast.consume().subscribe_track("video")
        broadcast.create_track("video").write_frame(b"new")
        assert await read_frames(old) == [b"old"]
        assert await soon(broadcast.consume().subscribe_track("video").read_frame()) == b"new"

    async def test_a_track_that_is_not_there(self) -> None:
        broadcast = BroadcastProducer()
        consumer = broadcast.consume().subscribe_track("video")
        for read in (consumer.next_group, consumer.recv_group, consumer.read_frame):
            await fails(read(), ErrorCode.NOT_FOUND, "the broadcast has no track 'video'")
        # It is not there for this consumer; another may find it.
        broadcast.create_track("video").write_frame(b"made")
        await fails(consumer.read_frame(), ErrorCode.NOT_FOUND)
        assert await soon(broadcast.consume().subscribe_track("video").read_frame()) == b"made"

    async def test_a_track_that_has_failed_stays_failed(self) -> None:
        broadcast = BroadcastProducer()
        broadcast.create_track("video").abort(77)
        await fails(broadcast.consume().subscribe_track("video").read_frame(), 77)


class TestFinish:
    async def test_tracks_are_finished_and_can_be_read(self) -> None:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("video")
        track.write_frame(b"all")
        consumer = broadcast.consume()
        calls = [await waiting(broadcast.closed()), await waiting(consumer.closed())]
        assert not broadcast.is_closed
        assert not consumer.is_closed
        broadcast.finish()
        broadcast.finish()
        assert broadcast.is_closed
        assert consumer.is_closed
        for call in calls:
            assert await soon(call) is None
        await soon(broadcast.closed())
        assert await soon(consumer.closed()) is None
        assert track.is_closed
        assert await read_frames(consumer.subscribe_track("video")) == [b"all"]

    async def test_nothing_can_be_added(self) -> None:
        broadcast = BroadcastProducer()
        broadcast.finish()
        for call in (lambda: broadcast.create_track("video"), broadcast.dynamic):
            with pytest.raises(MoqError, match="the broadcast has ended, so no track can be added") as caught:
                call()
            assert caught.value.code == ErrorCode.CLOSED
        await fails(
            broadcast.consume().subscribe_track("video").read_frame(),
            ErrorCode.NOT_FOUND,
            "the broadcast with track 'video' has ended",
        )

    async def test_groups_can_be_written_on(self) -> None:
        broadcast = BroadcastProducer()
        group = broadcast.create_track("video").append_group()
        consumer = broadcast.consume().subscribe_track("video")
        broadcast.finish()
        with group:
            group.write_frame(b"late")
        assert await read_frames(consumer) == [b"late"]

    async def test_it_cannot_be_aborted_any_more(self) -> None:
        broadcast = BroadcastProducer()
        broadcast.create_track("video").write_frame(b"all")
        broadcast.finish()
        broadcast.abort(5)
        assert await soon(broadcast.consume().closed()) is None
        assert await read_frames(broadcast.consume().subscribe_track("video")) == [b"all"]


class TestAbort:
    async def test_every_reader_sees_it_at_once(self) -> None:
        broadcast = BroadcastProducer()
        finished, track = broadcast.create_track("finished"), broadcast.create_track("video")
        for each in (finished, track):
            write_group(each, b"unread")
        finished.finish()
        consumer = broadcast.consume()
        readers = [consumer.subscribe_track(name) for name in ("finished", "video")]
        closed = await waiting(consumer.closed())
        broadcast.abort(77)
        broadcast.abort(78)
        error = await soon(closed)
        assert isinstance(error, MoqError)
        assert error.code == 77
        for reader in readers:
            await fails(reader.read_frame(), 77, "the broadcast was aborted")
        for name in ("video", "unknown"):
            await fails(consumer.subscribe_track(name).read_frame(), 77)
        assert finished._state.cost == track._state.cost == 0
        for call in (broadcast.finish, broadcast.dynamic, lambda: broadcast.create_track("more")):
            with pytest.raises(MoqError) as caught:
                call()
            assert caught.value.code == 77

    @pytest.mark.parametrize("code", BAD_CODES)
    async def test_bad_codes_are_named(self, code: Any) -> None:
        broadcast = BroadcastProducer()
        with pytest.raises((InvalidType, InvalidArgument), match="code must be"):
            broadcast.abort(code)
        assert not broadcast.is_closed


class TestBlocks:
    async def test_a_block_finishes_its_broadcast(self) -> None:
        with BroadcastProducer() as broadcast:
            broadcast.create_track("video").write_frame(b"all")
        assert await soon(broadcast.consume().closed()) is None
        assert await read_frames(broadcast.consume().subscribe_track("video")) == [b"all"]

    async def test_a_block_that_raises_aborts_its_broadcast(self) -> None:
        broadcast = BroadcastProducer()
        with pytest.raises(ZeroDivisionError), broadcast:
            raise ZeroDivisionError
        error = await soon(broadcast.consume().closed())
        assert isinstance(error, MoqError)
        assert error.code == ErrorCode.DROPPED

    async def test_a_block_may_end_its_broadcast_itself(self) -> None:
        with BroadcastProducer() as broadcast:
            broadcast.abort(77)
        error = await soon(broadcast.consume().closed())
        assert isinstance(error, MoqError)
        assert error.code == 77


class TestDynamic:
    async def test_a_track_is_made_when_it_is_asked_for(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            call = await waiting(dynamic.requested_track())
            consumer = broadcast.consume().subscribe_track("video", priority=3)
            request = await soon(call)
            assert request is not None
            assert request.name == "video"
            assert request._state.subscription == Subscription(priority=3)
            track = request.accept(7)
            assert track._state.priority == 7
            track.write_frame(b"made")
            assert await soon(consumer.read_frame()) == b"made"
            # It is there now, so nobody is asked again.
            assert await soon(broadcast.consume().subscribe_track("video").read_frame()) == b"made"
            await cancel(await waiting(dynamic.requested_track()))

    async def test_those_who_ask_for_the_same_share_a_request(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            consumers = [broadcast.consume().subscribe_track("video") for _ in range(2)]
            (await requested(dynamic)).write_frame(b"made")
            for consumer in consumers:
                assert await soon(consumer.read_frame()) == b"made"
            await cancel(await waiting(dynamic.requested_track()))

    async def test_an_iterator_that_ends_with_the_broadcast(self) -> None:
        broadcast = BroadcastProducer()
        names: list[str] = []

        async def serve() -> None:
            async for request in broadcast.dynamic():
                names.append(request.name)
                request.finish()

        serving = asyncio.ensure_future(serve())
        await idle()
        consumers = [broadcast.consume().subscribe_track(name) for name in ("video", "audio")]
        for consumer in consumers:
            assert await soon(consumer.next_group()) is None
        broadcast.finish()
        await soon(serving)
        assert names == ["video", "audio"]

    @pytest.mark.parametrize("code", [None, 77])
    async def test_a_request_may_be_rejected(self, code: int | None) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            consumer = broadcast.consume().subscribe_track("video")
            call = await waiting(consumer.next_group())
            request = await requested(dynamic)
            for _ in range(2):
                request.reject() if code is None else request.reject(code)
            await fails(call, code or ErrorCode.NOT_FOUND, "track 'video' was rejected")
            # Whoever asks again is heard again.
            again = broadcast.consume().subscribe_track("video")
            (await requested(dynamic)).write_frame(b"made")
            assert await soon(again.read_frame()) == b"made"

    async def test_bad_answers_are_named(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            consumer = broadcast.consume().subscribe_track("video")
            request = await requested(dynamic)
            bad: Any
            for bad in BAD_CODES:
                with pytest.raises((InvalidType, InvalidArgument), match="code must be"):
                    request.reject(bad)
            for bad in (-1, 256, None):
                with pytest.raises((InvalidType, InvalidArgument), match="priority"):
                    request.accept(bad)
            await cancel(await waiting(consumer.next_group()))

    async def test_a_track_that_failed_is_asked_for_again(self) -> None:
        broadcast = BroadcastProducer()
        broadcast.create_track("video").abort(5)
        with broadcast.dynamic() as dynamic:
            consumer = broadcast.consume().subscribe_track("video")
            (await requested(dynamic)).write_frame(b"again")
            assert await soon(consumer.read_frame()) == b"again"

    async def test_rejecting_leaves_the_track_that_took_the_name(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            consumer = broadcast.consume().subscribe_track("video")
            request = await requested(dynamic)
            request.finish()
            broadcast.create_track("video").write_frame(b"other")
            request.reject()
            assert await soon(consumer.next_group()) is None
            assert await soon(broadcast.consume().subscribe_track("video").read_frame()) == b"other"

    async def test_requests_of_those_who_left_are_forgotten(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            for number in range(100):
                broadcast.consume().subscribe_track(f"track {number}").close()
            assert len(broadcast._state.tracks) == 1
            await cancel(await waiting(dynamic.requested_track()))
            assert broadcast._state.tracks == {}

    async def test_a_request_that_waits_is_answered_by_making_the_track(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            consumer = broadcast.consume().subscribe_track("video")
            own = Cache(max_bytes=1000)
            track = broadcast.create_track("video", 5, cache=own)
            assert (track._state.priority, track._state.cache) == (5, own)
            track.write_frame(b"made")
            assert await soon(consumer.read_frame()) == b"made"
            await cancel(await waiting(dynamic.requested_track()))
            broadcast.consume().subscribe_track("audio").close()
            broadcast.create_track("audio")
            _text = broadcast.consume().subscribe_track("text")
            assert (await requested(dynamic)).name == "text"

    async def test_a_request_that_was_taken_keeps_its_name(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            broadcast.consume().subscribe_track("video").close()
            consumer = broadcast.consume().subscribe_track("video")
            request = await requested(dynamic)
            with pytest.raises(MoqError, match="already"):
                broadcast.create_track("video")
            request.write_frame(b"taken")
            assert await soon(consumer.read_frame()) == b"taken"

    async def test_closing_rejects_what_nobody_took(self) -> None:
        broadcast = BroadcastProducer()
        first, second = broadcast.dynamic(), broadcast.dynamic()
        consumer = broadcast.consume().subscribe_track("video")
        call = await waiting(consumer.next_group())
        first.close()
        first.close()
        assert await soon(first.requested_track()) is None
        await idle()
        assert not call.done()
        second.close()
        await fails(call, ErrorCode.NOT_FOUND, "nobody serves track 'video' any more")
        await fails(broadcast.consume().subscribe_track("video").next_group(), ErrorCode.NOT_FOUND)

    async def test_closing_ends_a_wait(self) -> None:
        dynamic = BroadcastProducer().dynamic()
        call = await waiting(dynamic.requested_track())
        dynamic.close()
        assert await soon(call) is None

    async def test_what_was_taken_goes_on_after_closing(self) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            consumer = broadcast.consume().subscribe_track("video")
            request = await requested(dynamic)
        request.write_frame(b"taken")
        assert await soon(consumer.read_frame()) == b"taken"

    @pytest.mark.parametrize(("end", "code"), [("finish", ErrorCode.NOT_FOUND), ("abort", 77)])
    async def test_the_end_of_the_broadcast_rejects_what_nobody_took(self, end: str, code: int) -> None:
        broadcast = BroadcastProducer()
        with broadcast.dynamic() as dynamic:
            call = await waiting(broadcast.consume().subscribe_track("video").next_group())
            broadcast.finish() if end == "finish" else broadcast.abort(code)
            await fails(call, code)
            assert await soon(dynamic.requested_track()) is None


class TestServed:
    """The broadcast of a peer, whose tracks are made as they are asked for."""

    @staticmethod
    def served(hops: int = 1) -> tuple[BroadcastState, list[TrackState]]:
        broadcast = BroadcastState(Cache(), hops)
        source = broadcast.source = Elsewhere()
        return broadcast, source.subscribed

    async def test_live_consumers_share_a_track_and_reliable_ones_have_their_own(self) -> None:
        broadcast, asked = self.served(hops=2)
        consumer = BroadcastConsumer(broadcast)
        assert consumer.hops == 2
        readers = [consumer.subscribe_track("video", ordered=ordered) for ordered in (False, True, False, True)]
        assert len(asked) == 3
        for track in asked:
            track.create_group(0).write(b"%d" % asked.index(track))
        assert [await soon(reader.read_frame()) for reader in readers] == [b"0", b"1", b"0", b"2"]
        # Each is taken away when it has ended, and whoever comes then gets a new one.
        for track in asked[:]:
            broadcast.remove_track(track)
        consumer.subscribe_track("video")
        assert len(asked) == 4

    async def test_its_tracks_end_by_themselves(self) -> None:
        broadcast, asked = self.served()
        consumer = BroadcastConsumer(broadcast)
        reader = consumer.subscribe_track("video")
        error = SessionClosed(SessionError(7, "bye"))
        broadcast.end(error)
        broadcast.end(None)
        assert await soon(consumer.closed()) is error
        asked[0].create_group(0).write(b"last")
        asked[0].finish()
        assert await soon(reader.read_frame()) == b"last"
        late = consumer.subscribe_track("audio")
        with pytest.raises(SessionClosed):
            await soon(late.read_frame())
        with pytest.raises(MoqError, match="no track can be added"):
            broadcast.add_track("audio", 0, None)


def test_consumers_of_one_broadcast_are_equal() -> None:
    first, second = BroadcastProducer(), BroadcastProducer()
    assert first.consume() == first.consume()
    assert hash(first.consume()) == hash(first.consume())
    assert first.consume() != second.consume()
    assert first.consume() != first
    assert len({first.consume(), first.consume(), second.consume()}) == 2


class TestTheEnd:
    async def test_unused_is_when_the_last_reader_of_any_track_has_left(self) -> None:
        broadcast = BroadcastProducer()
        await broadcast.unused()
        readers = [broadcast.create_track(name).consume() for name in ("a", "b")]
        broadcast.finish()
        waiting = asyncio.ensure_future(broadcast.unused())
        for reader in readers:
            await idle()
            assert not waiting.done()
            reader.close()
        async with within():
            await waiting

    def test_what_it_is_reads_well(self) -> None:
        broadcast = BroadcastProducer()
        assert repr(broadcast) == "<BroadcastProducer of no tracks>"
        track = broadcast.create_track("video")
        assert repr(broadcast) == "<BroadcastProducer of 'video'>"
        assert repr(track) == "<TrackProducer 'video', latest group None>"
        assert repr(track.consume()) == "<TrackConsumer 'video', latest group None>"
        group = track.append_group()
        assert repr(group) == "<GroupProducer 0>"
        group.finish()

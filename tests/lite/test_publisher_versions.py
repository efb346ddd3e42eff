"""The publisher's side in the versions after moq-lite-03, against a subscriber driven by hand."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from iroh_moq import BroadcastConsumer, Cache, ErrorCode, MoqError, Subscription, TrackInfo
from iroh_moq.lite.messages import (
    Announce,
    AnnounceOk,
    AnnounceRequest,
    Datagram,
    Fetch,
    Goaway,
    Group,
    Probe,
    Setup,
    Subscribe,
    SubscribeDrop,
    SubscribeEnd,
    SubscribeOk,
    SubscribeStart,
    SubscribeUpdate,
    TrackReply,
    TrackRequest,
)
from iroh_moq.lite.version import LITE_03, LITE_04, LITE_05, MAX_HOPS, Version
from iroh_moq.lite.wire import varint, zigzag
from iroh_moq.model.broadcast import BroadcastState
from tests.conftest import MakePair, idle, within
from tests.lite.peer import Exchange, Lite, assert_no_streams, lite

OLD = pytest.mark.parametrize("version", [LITE_03, LITE_04], ids=repr)


@asynccontextmanager
async def speaking(make: MakePair, version: Version, **options: Any) -> AsyncIterator[Lite]:
    """A session of that version, whose first stream has been read."""
    async with lite(make, alpn=version.alpn, **options) as run:
        if version.setup:
            await run.set_up()
        yield run


async def announcing(run: Lite, exclude: int = 0, prefix: str = "", active: int = 0) -> Exchange:
    """A request for announcements, and the beginning of the answer."""
    exchange = await run.request(AnnounceRequest(prefix, exclude).encode(run.session.version))
    if run.session.version.announce_ok:
        await exchange.reply.expect(AnnounceOk(run.session.origin_id, active).encode())
    return exchange


def relayed(run: Lite, name: str, *route: int) -> BroadcastState:
    """A broadcast that has come this way, and is passed on."""
    state = BroadcastState(Cache(), len(route), route)
    run.offered.publish_broadcast(name, BroadcastConsumer(state))
    return state


class TestSetup:
    async def test_what_the_peer_can_do_is_known(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            stream = await run.whole_group(Setup(7, 2).encode())
            await idle()
            assert run.session._subscriber._receiver.setup == Setup(7, 2)
            # A second one changes nothing.
            again = await run.group(Setup(8, 0).encode())
            assert await again.stopped() == ErrorCode.DUPLICATE
            assert run.session._subscriber._receiver.setup == Setup(7, 2)
            assert stream
            await run.still_answers()

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(b"\x01\x01\x05", ErrorCode.DECODE, id="cut short"),
            pytest.param(b"\x01\x02\x00\x00", ErrorCode.DECODE, id="with more than its options"),
            pytest.param(b"\x01" + varint(1 << 30), ErrorCode.FRAME_TOO_LARGE, id="far too long"),
            pytest.param(b"\x02\x01\x00", ErrorCode.UNEXPECTED_STREAM, id="type 2"),
        ],
    )
    async def test_one_that_means_nothing_costs_its_own_stream(
        self, memory_pair: MakePair, data: bytes, code: int
    ) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            assert await (await run.group(data)).stopped() == code
            await run.still_answers()

    async def test_no_room_for_the_stream_is_no_failure(self, memory_pair: MakePair) -> None:
        async with lite(memory_pair, alpn=LITE_05.alpn, max_streams=0) as run:
            await idle()
            run.peer.close(0, "")


class TestAnnouncements:
    async def test_the_beginning_says_who_we_are_and_how_many_come_at_once(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            for name in ("a", "b"):
                run.publish(name)
            news = await announcing(run, active=2)
            for name in ("a", "b"):
                await news.reply.expect(Announce(True, name).encode(LITE_05))
            run.publish("c")
            await news.reply.expect(Announce(True, "c").encode(LITE_05))

    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_every_origin_on_the_way_is_named(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            relayed(run, "cam", 5, 6)
            news = await announcing(run, active=1)
            route = (5, 6) if version.announce_ok else (5, 6, run.session.origin_id)
            await news.reply.expect(Announce(True, "cam", len(route), route).encode(version))

    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_what_has_come_from_there_is_not_told_there(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            echo = relayed(run, "echo", 5, 6)
            news = await announcing(run, exclude=6)
            await news.reply.quiet()
            echo.end(None)
            await news.reply.quiet()

    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_a_way_too_long_is_a_loop(
        self, memory_pair: MakePair, version: Version, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with speaking(memory_pair, version) as run:
            news = await announcing(run)
            relayed(run, "far", *range(1, MAX_HOPS + 1))
            await news.reply.quiet()
            assert "32 origins" in caplog.text

    async def test_another_way_is_told_of_the_same_broadcast(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            cam = relayed(run, "cam", 5, 6)
            news = await announcing(run, exclude=9, active=1)
            await news.reply.expect(Announce(True, "cam", 2, (5, 6)).encode(LITE_05))
            cam.reroute((5, 7, 8))
            await news.reply.expect(Announce(True, "cam", 3, (5, 7, 8)).encode(LITE_05))
            # A way through the subscriber is none, for it.
            cam.reroute((5, 9))
            await news.reply.expect(Announce(False, "cam").encode(LITE_05))
            cam.reroute((5, 8))
            await news.reply.expect(Announce(True, "cam", 2, (5, 8)).encode(LITE_05))
            cam.reroute((5, 8, 8))
            cam.reroute((5, 8))
            await news.reply.quiet()

    async def test_older_versions_are_told_the_first_way_alone(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_04) as run:
            cam = relayed(run, "cam", 5, 6)
            news = await announcing(run)
            await news.reply.expect(Announce(True, "cam", 3, (5, 6, run.session.origin_id)).encode(LITE_04))
            cam.reroute((5, 7, 8))
            await news.reply.quiet()
            cam.end(None)
            await news.reply.expect(Announce(False, "cam").encode(LITE_04))


class TestSubscriptions:
    async def test_what_comes_is_said_by_its_numbers(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            broadcast, track = run.publish()
            exchange = await run.subscribe()
            await exchange.reply.quiet()
            with track.create_group(4) as group:
                group.write_frame(b"a")
                group.write_frame(b"b")
            await exchange.reply.expect(SubscribeStart(4).encode(LITE_05))
            assert await (await run.next_group()).rest() == Group(0, 4).encode() + b"\x00\x01a\x00\x01b"
            track.write_datagram(b"x")
            broadcast.finish()
            await exchange.reply.expect(SubscribeEnd(6).encode(LITE_05))
            assert await exchange.reply.rest() == b""
            await exchange.finish()

    async def test_the_end_is_told_after_all_groups_have_arrived(self, memory_pair: MakePair) -> None:
        """A relay that goes by it would lose those that the last one has overtaken."""
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            exchange = await run.subscribe()
            with track.append_group() as group:
                group.write_frame(b"a")
            track.finish()
            await exchange.reply.expect(SubscribeStart(0).encode(LITE_05))
            await exchange.reply.quiet()
            await (await run.next_group()).rest()
            await exchange.reply.expect(SubscribeEnd(1).encode(LITE_05))
            await exchange.finish()

    async def test_a_track_that_never_had_any(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            exchange = await run.subscribe()
            track.finish()
            await exchange.reply.expect(SubscribeEnd(0).encode(LITE_05))
            await exchange.finish()

    async def test_groups_that_are_gone(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish(cache=Cache(max_bytes=900))
            for _ in range(5):
                with track.append_group() as group:
                    group.write_frame(bytes(300))
            exchange = await run.subscribe(start_group=1)
            await exchange.reply.expect(
                SubscribeStart(4).encode(LITE_05), SubscribeDrop(1, 3, ErrorCode.OLD).encode(LITE_05)
            )
            await (await run.next_group()).expect(Group(0, 4).encode())
            await exchange.write(SubscribeUpdate(Subscription(9)).encode())
            await exchange.finish()

    async def test_04_answers_as_03_does(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_04) as run:
            _, track = run.publish()
            exchange = await run.subscribe(priority=3)
            await exchange.reply.expect(SubscribeOk(Subscription(3)).encode(LITE_04))
            track.write_frame(b"a", 5)
            assert await (await run.next_group()).rest() == Group(0, 0).encode() + b"\x01a"

    async def test_timestamps_are_differences(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            await run.subscribe()
            group = run.begin(track)
            stream = await run.next_group()
            await stream.expect(Group(0, 0).encode())
            group.write_frame(b"a")
            await stream.expect(b"\x00\x01a")
            group.write_frame(b"b", 2e-6)
            group.write_frame(b"c", 1e-6)
            await stream.expect(b"\x04\x01b\x01\x01c")
            group.write_frame(b"d")
            group.write_frame(b"e", 1)
            await stream.expect(b"\x00\x01d", varint(zigzag(999_999)), b"\x01e")

    async def test_several_subscribers_share_what_is_encoded(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            for number in range(3):
                await run.subscribe(number)
            group = run.begin(track)
            streams = [await run.next_group() for _ in range(3)]
            await idle()
            for number in (1, 2):
                group.write_frame(b"a", number)
                group.write_frame(b"b")
                await idle()
            group.finish()
            step = varint(zigzag(1_000_000)) + b"\x01a\x00\x01b"
            for number, stream in enumerate(streams):
                assert await stream.rest() == Group(number, 0).encode() + step * 2


class TestDatagrams:
    async def test_go_out_at_once(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            exchange = await run.subscribe(300)
            await idle()
            track.write_datagram(b"a", 2e-6)
            track.write_datagram(b"b")
            async with within():
                assert Datagram.decode(await run.peer.read_datagram()) == (300, 0, 2, b"a")
                assert Datagram.decode(await run.peer.read_datagram()) == (300, 1, 0, b"b")
            limit = run.peer.max_datagram_size - 2 - 8 - 8
            with pytest.raises(MoqError, match=f"at most {limit} fit"):
                track.write_datagram(bytes(limit + 1))
            track.write_datagram(bytes(limit))
            await exchange.finish()
            await idle()
            assert track._state.datagram_sinks == {}

    async def test_one_that_does_not_fit_is_dropped_on_the_way(
        self, memory_pair: MakePair, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "iroh_moq.lite.publisher")
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            await run.subscribe()
            await idle()
            # As a relay's upstream may have it.
            track._state.add_datagram(0, None, bytes(1200))
            assert "is lost" in caplog.text
            track.write_datagram(b"next")
            async with within():
                assert (await run.peer.read_datagram())[-4:] == b"next"

    @OLD
    async def test_older_versions_get_none(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            _, track = run.publish()
            await run.subscribe()
            await idle()
            track.write_datagram(bytes(1200))
            assert not run.peer._datagrams


class TestFetch:
    async def test_a_group_is_frames_and_no_more(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            with track.append_group() as group:
                group.write_frame(b"a", 3e-6)
                group.write_frame(b"b")
            track.write_frame(b"next")
            exchange = await run.request(Fetch("cam", "video", 9, 0).encode())
            assert await exchange.reply.rest() == b"\x06\x01a\x00\x01b"

    async def test_one_that_grows(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            group = run.begin(track, b"a")
            exchange = await run.request(Fetch("cam", "video", 9, 0).encode())
            await exchange.reply.expect(b"\x00\x01a")
            # That the subscriber has no more to say is no reason to stop.
            await exchange.finish()
            await idle()
            group.write_frame(b"b")
            await exchange.reply.expect(b"\x00\x01b")
            group.finish()
            assert await exchange.reply.rest() == b""

    async def test_a_reset_ends_it(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            group = run.begin(track, b"a")
            exchange = await run.request(Fetch("cam", "video", 9, 0).encode())
            await exchange.reply.expect(b"\x00\x01a")
            exchange.reset(7)
            assert await exchange.reply.reset() == ErrorCode.CANCEL
            assert not group._state.cursors
            assert_no_streams(run.peer, but=2)

    @pytest.mark.parametrize(
        "request_",
        [
            Fetch("cam", "video", 0, 5),
            Fetch("cam", "video", 0, (1 << 62) - 1),
            Fetch("cam", "audio", 0, 0),
            Fetch("cam", "", 0, 0),
            Fetch("nope", "video", 0, 0),
            TrackRequest("cam", "audio"),
            TrackRequest("nope", "video"),
        ],
        ids=repr,
    )
    async def test_what_is_not_there(self, memory_pair: MakePair, request_: Any) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            track.write_frame(b"a")
            assert await (await run.request(request_.encode())).refused() == ErrorCode.NOT_FOUND
            await run.still_answers()

    @OLD
    @pytest.mark.parametrize("request_", [Fetch("cam", "video", 0, 0), TrackRequest("cam", "video")], ids=repr)
    async def test_older_versions_know_no_such_stream(
        self, memory_pair: MakePair, version: Version, request_: Any
    ) -> None:
        async with speaking(memory_pair, version) as run:
            assert await (await run.request(request_.encode())).refused() == ErrorCode.UNEXPECTED_STREAM
            await run.still_answers()


class TestTracks:
    async def test_what_a_track_is(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            run.publish(priority=7, cache=Cache(max_age=1.5))
            exchange = await run.request(TrackRequest("cam", "video").encode())
            assert await exchange.reply.rest() == TrackReply(TrackInfo(7, False, 1.5)).encode()
            await exchange.finish()

    async def test_who_reads_one_is_told_when_the_broadcast_has_just_ended_too(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            broadcast, track = run.publish()
            subscription = await run.subscribe()
            await idle()
            track.write_frame(b"x")
            broadcast.finish()
            await idle()
            exchange = await run.request(TrackRequest("cam", "video").encode())
            assert await exchange.reply.rest() == TrackReply(TrackInfo(0, False, 30.0)).encode()
            await exchange.finish()
            await subscription.finish()
            await idle()
            assert await (await run.request(TrackRequest("cam", "video").encode())).refused() == ErrorCode.NOT_FOUND

    async def test_one_of_a_broadcast_that_has_taken_the_place_of_another(self, memory_pair: MakePair) -> None:
        """Of which a subscription is still under way."""
        async with speaking(memory_pair, LITE_05) as run:
            run.publish()
            subscription = await run.subscribe()
            await idle()
            run.publish(priority=7)
            exchange = await run.request(TrackRequest("cam", "video").encode())
            assert await exchange.reply.rest() == TrackReply(TrackInfo(7, False, 30.0)).encode()
            await exchange.finish()
            await subscription.finish()

    async def test_a_second_message_is_one_too_many(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            _, track = run.publish()
            run.begin(track)
            request = Fetch("cam", "video", 0, 0).encode()
            assert await (await run.request(request, b"\x00")).refused() == ErrorCode.UNEXPECTED_MESSAGE


class TestOthers:
    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_the_rate_comes_with_the_round_trip(self, memory_pair: MakePair, version: Version) -> None:
        async with speaking(memory_pair, version) as run:
            exchange = await run.request(b"\x04")
            await exchange.reply.expect(Probe(80_000_000, 10).encode(version))
            await exchange.finish()

    @pytest.mark.parametrize("version", [LITE_04, LITE_05], ids=repr)
    async def test_a_peer_that_asks_to_be_left_is_heard(
        self, memory_pair: MakePair, version: Version, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "iroh_moq.lite.publisher")
        async with speaking(memory_pair, version) as run:
            exchange = await run.request(Goaway("elsewhere").encode())
            assert await exchange.reply.rest() == b""
            assert "asks to be left soon, for 'elsewhere'" in caplog.text
            await run.still_answers()

    async def test_03_knows_no_such_request(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_03) as run:
            assert await (await run.request(Goaway("").encode())).refused() == ErrorCode.UNEXPECTED_STREAM
            assert Subscribe(0, "cam", "video", Subscription())

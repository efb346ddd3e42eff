"""What came after moq-lite-03, with the Rust stack at the other end, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import moq
import pytest

from iroh_moq import ALPNS, BroadcastProducer, ErrorCode, MoqError, MoqSession, TimedFrame, TrackConsumer
from iroh_moq.errors import canonical
from iroh_moq.lite.version import LITE_03, LITE_04, LITE_05
from tests.conftest import within
from tests.rust import test_publish as ours
from tests.rust import test_subscribe as theirs
from tests.rust.conftest import LONG, PATIENCE, Link, rust_dials, we_dial
from tests.rust.peers import publish, read_group, rust_client, rust_server
from tests.rust.quic import connect, serve

Dial = Callable[[bytes], AbstractAsyncContextManager[Link]]
both_dial = pytest.mark.parametrize("dial", [we_dial, rust_dials], ids=lambda dial: dial.__name__)
OLD = pytest.mark.parametrize("alpn", [LITE_03.alpn, LITE_04.alpn], ids=bytes.decode)
NEW = LITE_05.alpn


async def timed(track: TrackConsumer, count: int) -> list[TimedFrame | None]:
    return [await track.read_timed_frame() for _ in range(count)]


class TestNegotiation:
    @pytest.mark.parametrize("alpn", ALPNS, ids=bytes.decode)
    @both_dial
    async def test_the_session_says_what_it_speaks(self, dial: Dial, alpn: bytes) -> None:
        async with dial(alpn) as link:
            assert (link.session.alpn, link.session.version) == (alpn, alpn.decode())

    async def test_rust_takes_the_newest_that_we_accept(self) -> None:
        async with within(PATIENCE), serve(alpns=ALPNS) as server, rust_client(server.port):
            transport = await server.accept()
            async with await MoqSession.session_accept(transport) as session:
                assert session.alpn == ALPNS[0] == NEW


class TestTimestamps:
    @both_dial
    async def test_ours_reach_rust(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = ours.published(link)
            with track.append_group() as group:
                for data, timestamp in ((b"a", 1.5), (b"b", 1.25), (b"c", None), (b"d", 1e6)):
                    group.write_frame(data, timestamp)
            reader = await ours.subscribed(link)
            received = await reader.next_group()
            assert received is not None
            frames = [(bytes(frame.payload), frame.timestamp_us) async for frame in received]
            assert frames == [(b"a", 1_500_000), (b"b", 1_250_000), (b"c", 1_250_000), (b"d", 10**12)]

    @both_dial
    async def test_rusts_reach_us(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = theirs.published(link)
            group = track.append_group()
            for data, timestamp in ((b"a", 1_500_000), (b"b", 1_250_000), (b"c", 0), (b"d", 10**12)):
                group.write_frame(data, timestamp_us=timestamp)
            group.finish()
            reader = await theirs.subscribed(link)
            assert await timed(reader, 4) == [(b"a", 1.5), (b"b", 1.25), (b"c", 0.0), (b"d", 1e6)]

    @OLD
    @both_dial
    async def test_older_versions_carry_none(self, dial: Dial, alpn: bytes) -> None:
        async with dial(alpn) as link:
            _, track = theirs.published(link)
            track.write_frame(b"a", timestamp_us=5)
            assert await timed(await theirs.subscribed(link), 1) == [(b"a", None)]

    @both_dial
    async def test_a_timescale_of_the_publishers_choice(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            broadcast = link.origin.create_broadcast("room")
            track = broadcast.publish_track("video", moq.TrackInfo(timescale=90_000, priority=9))
            broadcast.announce()
            track.write_frame(b"a", timestamp_us=2_000_000)
            reader = await theirs.subscribed(link)
            assert await timed(reader, 1) == [(b"a", 2.0)]
            info = await reader.info()
            assert (info.timescale, info.priority) == (90_000, 9)
            mine = BroadcastProducer()
            producer = mine.create_track("video", 7, timescale=48_000)
            link.session.publish("mine", mine.consume())
            producer.write_frame(b"b", 0.5)
            consumer = await ours.subscribed(link, "mine")
            told = consumer.info()
            assert (told.timescale, told.priority) == (48_000, 7)
            frame = await consumer.read_frame()
            assert frame is not None
            assert (bytes(frame.payload), frame.timestamp_us) == (b"b", 500_000)

    @OLD
    async def test_older_versions_do_not_tell_of_tracks(self, alpn: bytes) -> None:
        async with we_dial(alpn) as link:
            _, track = theirs.published(link)
            track.write_frame(b"a")
            reader = await theirs.subscribed(link)
            with pytest.raises(MoqError, match=alpn.decode()) as caught:
                await reader.info()
            assert caught.value.code == ErrorCode.UNSUPPORTED


class TestFetch:
    @both_dial
    async def test_rust_fetches_from_us(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = ours.published(link)
            for number in range(5):
                track.write_frame(b"%d" % number, number)
            broadcast = await link.remote.announced_broadcast("room")
            for number in (0, 4, 2):
                group = await broadcast.fetch_group("video", number)
                assert group.sequence == number
                frames = [(bytes(frame.payload), frame.timestamp_us) async for frame in group]
                assert frames == [(b"%d" % number, number * 1_000_000)]

    @both_dial
    async def test_a_group_of_ours_that_is_not_kept(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = ours.published(link)
            track.write_frame(b"0")
            broadcast = await link.remote.announced_broadcast("room")

            async def whole(number: int) -> list[moq.Frame]:
                return [frame async for frame in await broadcast.fetch_group("video", number)]

            assert await ours.code_of(whole(7)) == ErrorCode.NOT_FOUND
            assert len(await whole(0)) == 1

    @both_dial
    async def test_we_fetch_from_rust(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = theirs.published(link)
            for number in range(5):
                track.write_frame(b"%d" % number, timestamp_us=number * 1_000_000)
            broadcast = await link.session.subscribe("room")
            for number in (0, 4, 2):
                group = await broadcast.fetch_group("video", number)
                assert group.sequence == number
                assert [frame async for frame in group.timed_frames()] == [(b"%d" % number, number)]
            for missing in (("video", 7), ("nope", 0)):
                with pytest.raises(MoqError) as caught:
                    await broadcast.fetch_group(*missing)
                assert canonical(caught.value.code) == ErrorCode.NOT_FOUND

    @both_dial
    async def test_a_large_one_is_read_at_the_readers_own_pace(self, dial: Dial) -> None:
        frames = [bytes((number,)) * 100_000 for number in range(80)]
        async with dial(NEW) as link:
            _, track = theirs.published(link)
            group = track.append_group()
            for data in frames:
                group.write_frame(data)
            group.finish()
            fetched = await (await link.session.subscribe("room")).fetch_group("video", 0)
            received = []
            async for frame in fetched:
                received.append(frame)
                assert fetched._state.cost < 3_000_000
                await asyncio.sleep(0)
            assert received == frames

    @OLD
    @both_dial
    async def test_older_versions_cannot(self, dial: Dial, alpn: bytes) -> None:
        async with dial(alpn) as link:
            _, track = theirs.published(link)
            track.write_frame(b"0")
            broadcast = await link.session.subscribe("room")
            with pytest.raises(MoqError, match=alpn.decode()) as caught:
                await broadcast.fetch_group("video", 0)
            assert caught.value.code == ErrorCode.UNSUPPORTED


class TestDatagrams:
    @both_dial
    async def test_ours_reach_rust(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = ours.published(link)
            track.write_frame(b"group")
            reader = await ours.subscribed(link)
            reading = asyncio.ensure_future(reader.recv_datagram())
            await track.used()
            assert track.write_datagram(b"datagram", 2.5) == 1
            received = await reading
            assert received is not None
            assert (received.sequence, bytes(received.payload), received.timestamp_us) == (1, b"datagram", 2_500_000)

    @both_dial
    async def test_rusts_reach_us(self, dial: Dial) -> None:
        async with dial(NEW) as link:
            _, track = theirs.published(link)
            track.write_frame(b"group")
            reader = await theirs.subscribed(link)
            assert await theirs.read_group(reader) == (0, [b"group"])
            assert track.append_datagram(b"datagram", 2_500_000) == 1
            assert await reader.recv_datagram() == (1, b"datagram", 2.5)

    async def test_one_that_does_not_fit_is_refused_at_the_call(self) -> None:
        async with we_dial(NEW) as link:
            _, track = ours.published(link)
            track.write_frame(b"group")
            reader = await ours.subscribed(link)
            assert await read_group(reader)
            limit = link.transport.max_datagram_size
            with pytest.raises(MoqError, match=r"at most \d+ fit") as caught:
                track.write_datagram(bytes(limit))
            assert caught.value.code == ErrorCode.FRAME_TOO_LARGE
            assert track.write_datagram(bytes(limit - 17)) == 1

    @OLD
    async def test_older_versions_have_none(self, alpn: bytes) -> None:
        async with we_dial(alpn) as link:
            _, track = theirs.published(link)
            track.write_frame(b"group")
            reader = await theirs.subscribed(link)
            with pytest.raises(MoqError, match=alpn.decode()) as caught:
                await reader.recv_datagram()
            assert caught.value.code == ErrorCode.UNSUPPORTED


@asynccontextmanager
async def relayed(alpn: bytes) -> AsyncIterator[tuple[Link, Link]]:
    """Two sessions of ours, each with a Rust peer, of one origin: what one offers is passed on to the other."""
    async with AsyncExitStack() as stack, within(PATIENCE):
        server = await stack.enter_async_context(rust_server())
        first = await stack.enter_async_context(connect("127.0.0.1", server.port, alpn))
        source = await stack.enter_async_context(MoqSession(first, origin_id=77))
        up = Link(source, first, await server.session(), server.origin, server.remote)
        listener = await stack.enter_async_context(serve(alpns=[alpn]))
        client = await stack.enter_async_context(rust_client(listener.port))
        second = await listener.accept()
        sink = await stack.enter_async_context(MoqSession(second, origin_id=77))
        down = Link(sink, second, client.session, client.origin, client.remote)
        yield up, down


class TestRoutes:
    @pytest.mark.parametrize("alpn", [LITE_04.alpn, NEW], ids=bytes.decode)
    async def test_every_origin_on_the_way_is_known(self, alpn: bytes) -> None:
        async with relayed(alpn) as (up, down):
            kept = publish(up.origin, "far", "video", route=moq.Route(hops=[5, 6, 7]))
            broadcast = await up.session.subscribe("far")
            route = broadcast._state.route
            assert (route[:3], len(route), broadcast.hops) == ((5, 6, 7), 4, 4)
            down.session.publish("far", broadcast)
            update = await anext(down.remote.announced())
            assert update.route is not None
            assert list(update.route.hops) == [*route, 77]
            assert kept

    @pytest.mark.parametrize("alpn", [LITE_04.alpn, NEW], ids=bytes.decode)
    async def test_what_has_been_here_is_not_taken(self, alpn: bytes) -> None:
        async with relayed(alpn) as (up, _):
            kept = publish(up.origin, "mine", "video", route=moq.Route(hops=[5, 77])), publish(up.origin, "other")
            news = await up.session.origin_consumer().announced()
            assert news is not None
            assert news[0] == "other"
            assert kept

    async def test_another_way_is_passed_on(self) -> None:
        async with relayed(NEW) as (up, down):
            broadcast, *tracks = publish(up.origin, "far", "video", route=moq.Route(hops=[5, 6, 7]))
            consumer = await up.session.subscribe("far")
            down.session.publish("far", consumer)
            news = down.remote.announced()
            update = await anext(news)
            assert len(update.route.hops) == 5
            reader = consumer.subscribe_track("video")
            tracks[0].write_frame(b"before")
            assert await reader.read_frame() == b"before"
            broadcast.announce(moq.Route(hops=[5, 9]))
            update = await anext(news)
            while len(update.route.hops) != 4:
                update = await anext(news)
            assert list(update.route.hops)[:2] == [5, 9]
            # It is the same broadcast as before, so whoever reads it reads on.
            tracks[0].write_frame(b"after")
            assert await reader.read_frame() == b"after"

    async def test_a_fetch_goes_through_a_relay_of_ours(self) -> None:
        async with relayed(NEW) as (up, down):
            kept, *tracks = publish(up.origin, "far", "video")
            for number in range(3):
                tracks[0].write_frame(b"%d" % number, timestamp_us=number)
            down.session.publish("far", await up.session.subscribe("far"))
            broadcast = await down.remote.announced_broadcast("far")
            group = await broadcast.fetch_group("video", 1)
            assert [(bytes(frame.payload), frame.timestamp_us) async for frame in group] == [(b"1", 1)]
            reader = await broadcast.subscribe_track("video", moq.Subscription(max_age_us=LONG, group_start=2))
            frame = await reader.read_frame()
            assert frame is not None
            assert (bytes(frame.payload), frame.timestamp_us) == (b"2", 2)
            assert kept

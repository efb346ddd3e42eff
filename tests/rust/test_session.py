"""Sessions with the Rust stack: how they end, both directions at once, a relay between, and odd streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import moq
import pytest

from iroh_moq import BroadcastProducer, IncomingSession, MoqError, MoqSession, SessionClosed
from iroh_moq.lite.wire import varint
from iroh_moq.transport import StreamReset
from tests.conftest import within
from tests.rust import test_publish as ours
from tests.rust import test_subscribe as theirs
from tests.rust.conftest import PATIENCE, Link, Linked
from tests.rust.peers import RustServer, error_code, read_group, rust_server
from tests.rust.quic import connect


async def rust_closed(link: Link) -> int | None:
    """The code that Rust saw its session end with."""
    with pytest.raises(moq.Error) as caught:
        await link.rust.closed()
    return error_code(caught.value)


class TestEnds:
    @pytest.mark.parametrize("code", [0, 33, 64 + 5, 2**32 - 1])
    async def test_our_code_reaches_rust(self, linked: Linked, code: int) -> None:
        async with linked() as link:
            link.session.close(code, "we have seen enough")
            error = await link.session.closed()
            assert (error.code, error.reason, error.local) == (code, "we have seen enough", True)
            assert await rust_closed(link) == code

    @pytest.mark.parametrize("code", [0, 33, 64 + 5, 2**32 - 1])
    async def test_rusts_code_reaches_us(self, linked: Linked, code: int) -> None:
        async with linked() as link:
            link.rust.cancel(code)
            error = await link.session.closed()
            assert (error.code, error.local) == (code, False)
            # Rust has a text of its own for each.
            assert error.reason

    async def test_leaving_is_a_goodbye(self, linked: Linked) -> None:
        async with linked() as link:
            async with link.session:
                assert not link.session.is_closed
            assert link.session.is_closed
            assert await rust_closed(link) == 0

    @pytest.mark.parametrize("by_us", [True, False])
    async def test_the_end_of_all_that_both_sides_read(self, linked: Linked, by_us: bool) -> None:
        async with linked() as link:
            _, our_track = ours.published(link, path="ours")
            their_broadcast, their_track = theirs.published(link, "theirs")
            our_track.write_frame(b"ours")
            their_track.write_frame(b"theirs")
            rust_reader = await ours.subscribed(link, "ours")
            assert await read_group(rust_reader) == (0, [b"ours"])
            rust_news = link.remote.announced()
            assert (await anext(rust_news)).active
            consumer = await link.session.subscribe("theirs")
            reader = consumer.subscribe_track("video")
            assert await theirs.read_group(reader) == (0, [b"theirs"])
            waiting = asyncio.ensure_future(link.session.subscribe("nobody announces this"))

            if by_us:
                link.session.close(64 + 5)
            else:
                link.rust.cancel(64 + 5)
            for reading in (reader.next_group(), waiting):
                with pytest.raises(SessionClosed) as caught:
                    await reading
                assert caught.value.code == 64 + 5
            assert isinstance(await consumer.closed(), SessionClosed)
            await our_track.unused()
            # Rust tells the code of a peer's close, and of its own close none.
            assert await ours.code_of(rust_reader.next_group()) == (64 + 5 if by_us else None)
            assert not (await anext(rust_news)).active
            assert their_broadcast

    @pytest.mark.parametrize(("refusal", "code"), [(5, 64 + 5), (401, 2), (403, 2)])
    async def test_rust_rejects(self, refusal: int, code: int) -> None:
        async with (
            within(PATIENCE),
            rust_server(reject=refusal) as server,
            connect("127.0.0.1", server.port) as transport,
            await MoqSession.session_connect(transport) as session,
        ):
            with pytest.raises(SessionClosed) as caught:
                await session.subscribe("room")
            assert caught.value.code == code
            assert (await session.closed()).code == code

    async def test_we_reject(self, linked: Linked) -> None:
        async with linked() as link:
            IncomingSession(link.session).reject()
            assert await rust_closed(link) == 1


class TestBothDirections:
    async def test_one_name_is_two_broadcasts(self, linked: Linked) -> None:
        """What each side announces is its own matter, whatever the other side has by that name."""
        async with linked() as link:
            our_broadcast, our_track = ours.published(link)
            their_broadcast, their_track = theirs.published(link)
            rust_reader = await ours.subscribed(link)
            reader = await theirs.subscribed(link)
            for number in range(100):
                our_track.write_frame(b"ours %d" % number)
                their_track.write_frame(b"theirs %d" % number)
                assert await read_group(rust_reader) == (number, [b"ours %d" % number])
                assert await theirs.read_group(reader) == (number, [b"theirs %d" % number])
            # The end of one is not the end of the other.
            origin = link.session.origin_consumer()
            assert await theirs.news(origin) == ("room", True)
            their_broadcast.close()
            assert await theirs.news(origin) == ("room", False)
            our_track.write_frame(b"on")
            assert await read_group(rust_reader) == (100, [b"on"])
            our_broadcast.finish()

    async def test_an_echo(self, linked: Linked) -> None:
        """Rust answers each group of ours with one of its own, in a group that stays open."""
        async with linked() as link:
            _, question = ours.published(link, path="question")
            _, answer = theirs.published(link, "answer")
            heard = await ours.subscribed(link, "question")

            async def echo() -> None:
                writing = answer.append_group()
                while (received := await read_group(heard)) and received[1] != [b"stop"]:
                    writing.write_frame(b"".join(received[1])[::-1])
                writing.finish()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(echo())
                reader = await theirs.subscribed(link, "answer")
                question.write_frame(b"first")
                group = await reader.next_group()
                assert group is not None
                assert await group.read_frame() == b"tsrif"
                for number in range(200):
                    question.write_frame(b"<%d" % number)
                    assert await group.read_frame() == (b"<%d" % number)[::-1]
                question.write_frame(b"stop")
                assert await group.read_frame() is None


@asynccontextmanager
async def dialled(server: RustServer) -> AsyncIterator[MoqSession]:
    """A session of ours with this server."""
    async with connect("127.0.0.1", server.port) as transport, await MoqSession.session_connect(transport) as session:
        yield session


class TestRelay:
    """Rust passes on to one of our sessions what another announced."""

    async def test_announcements_and_groups_go_through(self) -> None:
        async with (
            within(PATIENCE),
            rust_server(relay=True) as server,
            dialled(server) as source,
            dialled(server) as one,
            dialled(server) as another,
        ):
            broadcast = BroadcastProducer()
            track = broadcast.create_track("video")
            source.publish("room", broadcast.consume())
            origin = one.origin_consumer()
            assert await theirs.news(origin) == ("room", True)
            readers = [(await viewer.subscribe("room")).subscribe_track("video") for viewer in (one, another)]
            track.write_frame(b"0")
            for number in range(1, 101):
                for reader in readers:
                    assert await theirs.read_group(reader) == (number - 1, [b"%d" % (number - 1)])
                track.write_frame(b"%d" % number)
            # Sent to the relay once, for both.
            assert len(track._state.readers) == 1
            for reader in readers:
                reader.close()
            await track.unused()
            broadcast.finish()
            assert await theirs.news(origin) == ("room", False)

    async def test_a_publisher_that_leaves(self) -> None:
        async with within(PATIENCE), rust_server(relay=True) as server, dialled(server) as viewer:
            origin = viewer.origin_consumer()
            async with dialled(server) as source:
                broadcast = BroadcastProducer()
                broadcast.create_track("video").write_frame(b"x")
                source.publish("room", broadcast.consume())
                assert await theirs.news(origin) == ("room", True)
                reader = (await viewer.subscribe("room")).subscribe_track("video")
                assert await theirs.read_group(reader) == (0, [b"x"])
            assert await theirs.news(origin) == ("room", False)
            # It comes back, to the session that has seen it go.
            async with dialled(server) as source:
                source.publish("room", broadcast.consume())
                assert await theirs.news(origin) == ("room", True)

    async def test_a_code_goes_through(self) -> None:
        async with (
            within(PATIENCE),
            rust_server(relay=True) as server,
            dialled(server) as source,
            dialled(server) as viewer,
        ):
            broadcast = BroadcastProducer()
            track = broadcast.create_track("video")
            track.write_frame(b"x")
            source.publish("room", broadcast.consume())
            reader = (await viewer.subscribe("room")).subscribe_track("video")
            assert await theirs.read_group(reader) == (0, [b"x"])
            track.abort(64 + 9)
            with pytest.raises(MoqError) as caught:
                await reader.next_group()
            assert caught.value.code == 64 + 9


class TestStreams:
    async def test_rust_estimates_what_it_can_send(self, linked: Linked) -> None:
        async with linked() as link:
            estimates = link.session.bandwidth()
            estimate = await anext(estimates)
            assert estimate is not None
            assert estimate > 0
            link.session.close(7)
            with pytest.raises(SessionClosed):
                async for _ in estimates:
                    pass

    @pytest.mark.parametrize("kind", [0x3E, 1 << 40])
    async def test_an_unknown_kind_costs_only_the_stream(self, linked: Linked, kind: int) -> None:
        async with linked() as link:
            send, recv = await link.transport.open_bi()
            await send.write(varint(kind) + b"of whatever use")
            with pytest.raises(StreamReset):
                await recv.read()
            send.reset(0)
            one_way = await link.transport.open_uni()
            await one_way.write(varint(kind) + b"of whatever use")
            one_way.reset(0)
            # Both directions go on.
            _, our_track = ours.published(link)
            our_track.write_frame(b"ours")
            _, their_track = theirs.published(link)
            their_track.write_frame(b"theirs")
            assert await read_group(await ours.subscribed(link)) == (0, [b"ours"])
            assert await theirs.read_group(await theirs.subscribed(link)) == (0, [b"theirs"])

"""The relay, between real publishers and viewers."""

from __future__ import annotations

import asyncio

from tests.endpoints import bound, published
from tests.examples.programs import PATIENCE, running


async def test_it_stands_in_for_its_publishers() -> None:
    async with (
        running("clock", "--speed", "50") as clock,
        running("camera") as camera,
        running("relay", await clock.ticket(), await camera.ticket()) as relay,
    ):
        ticket = await relay.ticket()
        await relay.has_said(r"^\+ clock$", r"^\+ camera$")
        async with (
            running("clock", ticket) as one,
            running("clock", ticket) as another,
            running("camera", ticket) as viewer,
        ):
            await viewer.says("^group ")
            await viewer.interrupt()
            await one.says(r":\d\d$")
            await another.says(r":\d\d$")
            await one.interrupt()
            # The clock goes, and with it who watches it; the relay goes on.
            await clock.interrupt()
            await relay.says("^- clock$")
            assert await another.ends() == 1
        await camera.interrupt()
        await relay.says("^- camera$")
        await relay.interrupt()


async def test_a_publisher_sends_once_however_many_watch() -> None:
    async with asyncio.timeout(PATIENCE), bound() as source:
        _, track = await published(source)
        async with running("relay", source.ticket()) as relay, bound() as one, bound() as another:
            ticket = await relay.ticket()
            await relay.says(r"^\+ cam$")
            sessions = [await viewer.connect(ticket) for viewer in (one, another)]
            readers = [(await session.subscribe("cam")).subscribe_track("video") for session in sessions]
            track.write_frame(b"picture")
            for reader in readers:
                assert await reader.read_frame() == b"picture"
            assert len(track._state.readers) == 1
            for reader in readers:
                reader.close()
            # And nothing at all when nobody does.
            await track.unused()
            await relay.interrupt()


async def test_broadcasts_come_and_go_with_their_publisher() -> None:
    async with asyncio.timeout(PATIENCE), bound() as source, bound() as viewer:
        incoming = source.incoming_sessions()
        first, _ = await published(source, "first")
        async with running("relay", source.ticket()) as relay:
            session = await viewer.connect(await relay.ticket())
            news = session.origin_consumer()
            assert await news.announced() == ("first", await session.subscribe("first"))
            await published(source, "second")
            assert await news.announced() == ("second", await session.subscribe("second"))
            first.finish()
            assert await news.announced() == ("first", None)
            # The publisher is lost, and found again.
            relayed = await incoming.next()
            assert relayed is not None
            relayed.accept().close(7, "back soon")
            await relay.says(r"code 7, back soon; trying again in 2 s$")
            assert await news.announced() == ("second", None)
            await relay.says(r"^\+ second$")
            assert await news.announced() == ("second", await session.subscribe("second"))
            await relay.interrupt()

"""The crowd: ``python -m faults.load.crowd TICKET``. It is told what to do, says when all of it is under way, and is
told to stop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from iroh_moq import ALPN, BroadcastConsumer, Error, Moq, MoqSession, Subscription
from iroh_moq.address import parse_remote
from iroh_moq.lite.messages import Subscribe
from iroh_moq.transport import SendStream, Transport
from iroh_moq.transport.iroh import iroh_transport

from ..endpoints import bare_endpoint
from ..told import commands, many_files, say

_AT_ONCE = 20
_MANNERS = 10
"""The crowd is nice, as its own work is not what is measured."""

_RESTLESS = 0.1
"""Seconds for which a restless subscriber stays."""


@asynccontextmanager
async def _stopped(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _session(ticket: str) -> AsyncIterator[MoqSession]:
    async with await Moq.bind(network="loopback") as moq:
        yield await moq.connect(ticket)


class _Readers:
    """Any number of readers of tracks, and how many have had a group."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.begun = 0
        self._changed = asyncio.Event()

    def add(self, broadcast: BroadcastConsumer, track: str) -> None:
        self.tasks.append(asyncio.create_task(self._read(broadcast, track)))

    async def _read(self, broadcast: BroadcastConsumer, name: str) -> None:
        first = True
        async with broadcast.subscribe_track(name) as track:
            async for group in track:
                with suppress(Error):
                    await group.read_all()
                if first:
                    first = False
                    self.begun += 1
                    self._changed.set()

    async def all_begun(self) -> None:
        while self.begun < len(self.tasks):
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def _sessions(ticket: str, count: int, tracks: int, each: int) -> AsyncIterator[dict[str, Any]]:
    """So many sessions with so many subscriptions each, to tracks that get a group now and then."""
    readers, numbers = _Readers(), iter(range(count))
    async with AsyncExitStack() as stack:

        async def open_some() -> None:
            for number in numbers:
                session = await stack.enter_async_context(_session(ticket))
                broadcast = await session.subscribe("quiet")
                for index in range(each):
                    readers.add(broadcast, str((number * each + index) % tracks))

        await asyncio.gather(*(open_some() for _ in range(_AT_ONCE)))
        async with _stopped(*readers.tasks):
            await readers.all_begun()
            yield {"sessions": count, "subscriptions": readers.begun}


@asynccontextmanager
async def _tracks(ticket: str, count: int) -> AsyncIterator[dict[str, Any]]:
    """One session that reads so many tracks."""
    readers = _Readers()
    async with _session(ticket) as session:
        broadcast = await session.subscribe("quiet")
        for number in range(count):
            readers.add(broadcast, str(number))
        async with _stopped(*readers.tasks):
            await readers.all_begun()
            yield {"tracks": readers.begun}


@asynccontextmanager
async def _listen(ticket: str, count: int) -> AsyncIterator[dict[str, Any]]:
    """One session that hears of so many broadcasts, and says so when it has, and when all are gone again."""

    async def listen(session: MoqSession) -> None:
        there: set[str] = set()
        async for path, broadcast in session.origin_consumer():
            if path.startswith("many/"):
                there.add(path) if broadcast is not None else there.discard(path)
                if len(there) == count and broadcast is not None:
                    say("heard", count=len(there))
                elif not there:
                    say("gone")

    async with _session(ticket) as session, _stopped(asyncio.create_task(listen(session))):
        yield {}


@asynccontextmanager
async def _bare(ticket: str) -> AsyncIterator[Transport]:
    async with bare_endpoint() as endpoint:
        transport = iroh_transport(await endpoint.connect(parse_remote(ticket), ALPN))
        try:
            yield transport
        finally:
            transport.close(0, "")
            await transport.closed()
            await transport.aclose()


@asynccontextmanager
async def _sleepers(ticket: str, count: int) -> AsyncIterator[dict[str, Any]]:
    """So many that subscribe to the live track and read nothing at all, half of them as reliable readers."""
    async with AsyncExitStack() as stack:
        held: list[object] = []
        for number in range(count):
            transport = await stack.enter_async_context(_bare(ticket))
            wishes = Subscription(ordered=True, start_group=0) if number % 2 else Subscription()
            stream = await transport.open_bi()
            await stream[0].write(Subscribe(0, "cam", "video", wishes).encode())
            held.append(stream)
        yield {"sleepers": len(held)}


@asynccontextmanager
async def _restless(ticket: str, count: int) -> AsyncIterator[dict[str, Any]]:
    """So many that subscribe to the live track and leave it, ten times a second."""

    async def subscribe_and_leave(session: MoqSession) -> None:
        broadcast = await session.subscribe("cam")
        while True:
            async with broadcast.subscribe_track("video") as track:
                await track.next_group()
                begun.set()
            await asyncio.sleep(_RESTLESS)

    begun = asyncio.Event()
    async with AsyncExitStack() as stack:
        tasks = [
            asyncio.create_task(subscribe_and_leave(await stack.enter_async_context(_session(ticket))))
            for _ in range(count)
        ]
        async with _stopped(*tasks):
            await begun.wait()
            yield {"restless": count}


@asynccontextmanager
async def _flood(ticket: str, least: int) -> AsyncIterator[dict[str, Any]]:
    """One that opens streams of nonsense as fast as it can; it has begun with so many."""
    opened = 0
    enough = asyncio.Event()

    async def flood(transport: Transport) -> None:
        nonlocal opened
        kept: list[SendStream] = []
        with suppress(Error):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        send = await transport.open_uni()
                        await send.write(b"\x05 nonsense")
                        kept.append(send)
                        both = await transport.open_bi()
                        await both[0].write(b"\x07 nonsense")
                opened += 2
                if opened >= least:
                    enough.set()
                for stream in kept[:-500]:
                    stream.reset(0)
                kept = kept[-500:]

    async with _bare(ticket) as transport, _stopped(asyncio.create_task(flood(transport))):
        await enough.wait()
        counted: dict[str, Any] = {"streams": opened}
        yield counted
        say("flooded", streams=opened)


_KINDS: dict[str, Callable[..., AbstractAsyncContextManager[dict[str, Any]]]] = {
    "sessions": _sessions,
    "tracks": _tracks,
    "listen": _listen,
    "sleepers": _sleepers,
    "restless": _restless,
    "flood": _flood,
}


async def _main(ticket: str) -> None:
    say("ready")
    told = commands()
    async for command in told:
        kind = command.pop("do")
        async with _KINDS[kind](ticket, **command) as figures:
            say("doing", kind=kind, **figures)
            await anext(told)
        say("stopped", kind=kind)


def main() -> None:
    """The command line."""
    os.nice(_MANNERS)
    many_files()
    asyncio.run(_main(sys.argv[1]))


if __name__ == "__main__":
    main()

"""Those who come and go: each has an endpoint of its own, does one kind of work, and leaves in its own way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from iroh_moq import ALPN, BroadcastProducer, Error, Moq, MoqSession
from iroh_moq.address import parse_remote
from iroh_moq.transport.iroh import iroh_transport

from ..endpoints import bare_endpoint
from ..hostile.peer import Hostile
from ..parsers.corpus import streams

__all__ = ["KINDS", "Visit"]

_GROUPS = 8
_MUCH = 256 * 1024


class Visit:
    """One visit to a server, of a kind.

    Args:
        ticket: the server's.
        chance: what it does with what has no rule.
    """

    def __init__(self, ticket: str, chance: random.Random) -> None:
        self.groups = 0
        self._ticket = ticket
        self._chance = chance

    async def run(self, kind: str) -> None:
        """Makes the visit."""
        if kind == "hostile":
            await self._hostile()
            return
        work = _WORK[kind]
        async with await Moq.bind(network="loopback") as moq:
            # Whoever is thrown out, or leaves while something waits, is told so, and goes.
            with suppress(Error):
                session = await moq.connect(self._ticket)
                await work(self, session)
                if self._chance.getrandbits(1):
                    session.close(self._chance.randrange(5), "bye")

    async def _read(self, session: MoqSession) -> None:
        """Reads some groups of the live track."""
        broadcast = await session.subscribe("cam")
        async with broadcast.subscribe_track("video", ordered=bool(self._chance.getrandbits(1))) as track:
            for _ in range(_GROUPS):
                group = await track.next_group()
                if group is None:
                    return
                await group.read_all()
                self.groups += 1

    async def _publish(self, session: MoqSession) -> None:
        """Publishes a broadcast, which the server reads to its end."""
        with BroadcastProducer() as broadcast:
            track = broadcast.create_track("anything")
            session.publish(f"from/{self._chance.getrandbits(32)}", broadcast.consume())
            await track.used()
            for _ in range(_GROUPS):
                track.write_frame(self._chance.randbytes(1000))
                self.groups += 1
                await asyncio.sleep(0)
            track.finish()
            await track.unused()

    async def _nothing(self, session: MoqSession) -> None:
        """Waits for what nobody announces, and gives up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await session.subscribe("nobody/has/this")

    async def _missing(self, session: MoqSession) -> None:
        """Asks for tracks that are not there, and for one that was aborted."""
        live, much = await session.subscribe("cam"), await session.subscribe("much")
        for number in range(_GROUPS):
            with suppress(Error):
                await live.subscribe_track(f"missing {number}").next_group()
            with suppress(Error):
                await much.subscribe_track("gone").next_group()

    async def _beside(self, session: MoqSession) -> None:
        """Reads, and uses the connection underneath as well."""
        connection = session.conn()
        waiting = [asyncio.ensure_future(connection.closed()), asyncio.ensure_future(connection.read_datagram())]
        try:
            await self._read(session)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _much(self, session: MoqSession) -> None:
        """Is sent much, reads a little of it, and leaves."""
        broadcast = await session.subscribe("much")
        async with broadcast.subscribe_track("bulk", ordered=True, start_group=0) as track:
            await track.read_frame()

    async def _hostile(self) -> None:
        async with bare_endpoint() as endpoint:
            transport = iroh_transport(await endpoint.connect(parse_remote(self._ticket), ALPN))
            hostile = Hostile(transport, streams(), self._chance)
            await hostile.run(16)
            transport.close(0, "")
            await transport.closed()
            await transport.aclose()


_WORK: dict[str, Callable[[Visit, MoqSession], Awaitable[None]]] = {
    "read": Visit._read,
    "publish": Visit._publish,
    "nothing": Visit._nothing,
    "missing": Visit._missing,
    "much": Visit._much,
    "beside": Visit._beside,
}

KINDS = [*_WORK, "hostile"]

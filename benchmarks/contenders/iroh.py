"""The bare `iroh` package: the same transfer over its own streams, by its own calls, without MoQ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import iroh

from ..failed import Failed
from .streams import MAX_STREAMS, Endpoint, In, Link, Out, StreamsContender

__all__ = ["Iroh", "accept_connection", "bare_endpoint", "dial_connection"]

_ALPN = b"bench"
_READ_SIZE = 256 * 1024


class _Out(Out):
    def __init__(self, stream: iroh.SendStream) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        await self._stream.write_all(data)

    async def finish(self) -> None:
        await self._stream.finish()


class _In(In):
    def __init__(self, stream: iroh.RecvStream) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        return await self._stream.read(_READ_SIZE)


class _Link(Link):
    def __init__(self, connection: iroh.Connection) -> None:
        self._connection = connection
        connection.set_max_concurrent_uni_streams(MAX_STREAMS)

    async def open(self) -> Out:
        return _Out(await self._connection.open_uni())

    async def accept(self) -> In:
        return _In(await self._connection.accept_uni())


class _Endpoint(Endpoint):
    def __init__(self, endpoint: iroh.Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def address(self) -> str:
        return str(iroh.EndpointTicket.from_addr(self._endpoint.addr()))

    async def accept(self) -> Link:
        return _Link(await accept_connection(self._endpoint))

    async def dial(self, address: str) -> Link:
        return _Link(await dial_connection(self._endpoint, address))


async def accept_connection(endpoint: iroh.Endpoint) -> iroh.Connection:
    """The next connection that somebody dials."""
    incoming = await endpoint.accept_next()
    if incoming is None:
        raise Failed("the endpoint was closed")
    accepting = await incoming.accept()
    return await accepting.connect()


async def dial_connection(endpoint: iroh.Endpoint, ticket: str) -> iroh.Connection:
    """A connection to whoever has made the ticket."""
    return await endpoint.connect(iroh.EndpointTicket.from_string(ticket).endpoint_addr(), _ALPN)


@asynccontextmanager
async def bare_endpoint() -> AsyncIterator[iroh.Endpoint]:
    """An endpoint that never leaves this machine."""
    builder = iroh.EndpointBuilder()  # type: ignore[no-untyped-call]
    builder.apply_minimal()
    builder.relay_mode(iroh.RelayMode.disabled())
    builder.alpns([_ALPN])
    builder.bind_addr("127.0.0.1:0")
    endpoint = await builder.bind()
    try:
        yield endpoint
    finally:
        await endpoint.close()


class Iroh(StreamsContender):
    name: ClassVar[str] = "iroh"
    packages: ClassVar[tuple[str, ...]] = ("iroh",)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        async with bare_endpoint() as endpoint:
            yield _Endpoint(endpoint)

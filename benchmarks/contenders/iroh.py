"""The bare `iroh` package: the same transfer over its own streams, by its own calls, without MoQ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import iroh

from ..failed import Failed
from .streams import MAX_STREAMS, Endpoint, In, Link, Out, StreamsContender

__all__ = ["Iroh", "bare_endpoint"]

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
        incoming = await self._endpoint.accept_next()
        if incoming is None:
            raise Failed("the endpoint was closed")
        accepting = await incoming.accept()
        return _Link(await accepting.connect())

    async def dial(self, address: str) -> Link:
        ticket = iroh.EndpointTicket.from_string(address)
        return _Link(await self._endpoint.connect(ticket.endpoint_addr(), _ALPN))


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

"""The bare native driver: the same transfer on it, without MoQ. What it reaches is the limit for this package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import iroh

from iroh_moq.transport import RecvStream, SendStream, Transport
from iroh_moq.transport.driver import driver
from iroh_moq.transport.iroh_native import NativeTransport

from ..failed import Failed
from .iroh import accept_connection, bare_endpoint, dial_connection
from .streams import Endpoint, In, Link, Out, StreamsContender

__all__ = ["Driver"]


class _Out(Out):
    def __init__(self, stream: SendStream) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def finish(self) -> None:
        _finish(self._stream)


def _finish(stream: SendStream) -> None:
    stream.finish()
    # The stream has to be there until all of it has arrived.
    stream.when_over(lambda: stream)


async def _flush(stream: SendStream) -> None:
    await stream.flushed()
    _finish(stream)


class _In(In):
    def __init__(self, stream: RecvStream) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        return bytes(await self._stream.read())

    def read_nowait(self) -> bytes | None:
        data = self._stream.read_nowait()
        return None if data is None else bytes(data)


class _Link(Link):
    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._flushing: set[asyncio.Future[None]] = set()

    async def open(self) -> Out:
        return _Out(await self._transport.open_uni())

    def send_nowait(self, pieces: Sequence[bytes]) -> bool:
        if sum(map(len, pieces)) > _AT_ONCE:
            return False
        stream = self._transport.open_uni_nowait()
        if stream is None:
            return False
        if stream.write_nowait(*pieces):
            _finish(stream)
        else:
            task = asyncio.ensure_future(_flush(stream))
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)
        return True

    async def accept(self) -> In:
        return _In(self._transport.accept_uni_nowait() or await self._transport.accept_uni())


_AT_ONCE = 64 * 1024
"""Bytes that a new stream takes at once, nearly always."""


class _Endpoint(Endpoint):
    def __init__(self, endpoint: iroh.Endpoint) -> None:
        self._endpoint = endpoint
        self._transports: list[Transport] = []

    @property
    def address(self) -> str:
        return str(iroh.EndpointTicket.from_addr(self._endpoint.addr()))

    async def accept(self) -> Link:
        return self._link(await accept_connection(self._endpoint))

    async def dial(self, address: str) -> Link:
        return self._link(await dial_connection(self._endpoint, address))

    def _link(self, connection: iroh.Connection) -> Link:
        if driver.module is None:
            raise Failed(f"there is no driver: {driver.reason}")
        transport = NativeTransport(connection, driver.module)
        self._transports.append(transport)
        return _Link(transport)

    async def close(self) -> None:
        for transport in self._transports:
            transport.close(0, "")
            await transport.closed()
            await transport.aclose()


class Driver(StreamsContender):
    name: ClassVar[str] = "driver"
    packages: ClassVar[tuple[str, ...]] = ("iroh",)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        async with bare_endpoint() as bare:
            endpoint = _Endpoint(bare)
            try:
                yield endpoint
            finally:
                await endpoint.close()

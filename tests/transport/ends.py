"""Both ends of a connection between real endpoints of this machine, for either transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from iroh import Connection, EndpointAddr

from iroh_moq import ALPN
from iroh_moq.transport.driver import driver
from iroh_moq.transport.iroh_base import IrohTransport
from iroh_moq.transport.iroh_native import NativeTransport, driver_of
from iroh_moq.transport.iroh_package import PackageTransport
from tests.conftest import within
from tests.endpoints import PATIENCE, bare_endpoint
from tests.transport.contract import Contract, Pair, closing, soon

Make = Callable[[Connection], IrohTransport]


@asynccontextmanager
async def connections() -> AsyncIterator[tuple[Connection, Connection]]:
    """The two ends of a connection, with nothing of ours on it."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(bare_endpoint())
        second = await stack.enter_async_context(bare_endpoint())

        async def accept() -> Connection:
            incoming = await second.accept_next()
            assert incoming is not None
            return await (await incoming.accept()).connect()

        accepting = asyncio.ensure_future(accept())
        dialled = await soon(first.connect(EndpointAddr(second.id(), None, second.bound_sockets()), ALPN))
        yield dialled, await soon(accepting)


def native(connection: Connection) -> NativeTransport:
    assert driver.module is not None
    return NativeTransport(connection, driver.module)


needs_driver = pytest.mark.driver
both = pytest.mark.parametrize("make", [PackageTransport, pytest.param(native, marks=needs_driver)])


@asynccontextmanager
async def half(make: Make) -> AsyncIterator[tuple[IrohTransport, Connection]]:
    """Our transport, and the peer's bare connection."""
    async with connections() as (ours, theirs):
        transport = make(ours)
        async with closing(transport):
            yield transport, theirs


class IrohContract(Contract):
    alpn = ALPN
    makes: tuple[Make, Make]

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[Pair]:
        async with connections() as ends:
            pair = self.makes[0](ends[0]), self.makes[1](ends[1])
            async with closing(*pair):
                yield pair


@asynccontextmanager
async def native_pair() -> AsyncIterator[tuple[NativeTransport, NativeTransport]]:
    """Two transports on the driver, which in the end has nothing under way any more."""
    async with connections() as ends:
        pair = native(ends[0]), native(ends[1])
        async with closing(*pair):
            yield pair
        await settled(0)


def under_way() -> int:
    """How many operations of this loop are."""
    assert driver.module is not None
    return driver_of(asyncio.get_running_loop(), driver.module).pending()


async def settled(count: int) -> None:
    """Returns once no more operations than that are under way."""
    async with within(PATIENCE):
        while under_way() > count:  # noqa: ASYNC110 - nothing tells of the end of a call that nobody waits for
            await asyncio.sleep(0.001)

"""Real endpoints on loopback, for the tests that need a network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from iroh import Endpoint, EndpointBuilder, RelayMode

from iroh_moq import ALPNS, BroadcastConsumer, BroadcastProducer, Moq, MoqSession, OriginConsumer, TrackProducer

PATIENCE = 15.0
"""Seconds that anything which must happen may take on a busy machine."""


@asynccontextmanager
async def bound(**options: Any) -> AsyncIterator[Moq]:
    """A `Moq` that never leaves this machine."""
    async with await Moq.bind(network="loopback", **options) as moq:
        yield moq


@asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[tuple[Moq, Moq]]:
    """Two of them; the options are the first one's."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(bound(**options))
        yield first, await stack.enter_async_context(bound())


@asynccontextmanager
async def bare_endpoint(key: bytes | None = None, alpns: tuple[bytes, ...] = ALPNS) -> AsyncIterator[Endpoint]:
    """An endpoint of the `iroh` package with nothing of ours on it."""
    builder = EndpointBuilder()  # type: ignore[no-untyped-call]
    builder.apply_minimal()
    builder.relay_mode(RelayMode.disabled())
    builder.alpns(list(alpns))
    builder.bind_addr("127.0.0.1:0")
    if key is not None:
        builder.secret_key(key)
    endpoint = await builder.bind()
    try:
        yield endpoint
    finally:
        await endpoint.close()


def free_address() -> str:
    """One of this machine that nobody is bound to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def refuse_next(endpoint: Endpoint) -> None:
    """Refuses the next connection that comes to a bare endpoint."""
    incoming = await endpoint.accept_next()
    assert incoming is not None
    await incoming.refuse()


async def next_news(origin: OriginConsumer) -> tuple[str, BroadcastConsumer | None]:
    """The next announcement, in bounded time."""
    async with asyncio.timeout(PATIENCE):
        news = await origin.announced()
    assert news is not None, "the peer has stopped announcing"
    return news


async def published(moq: Moq, name: str = "cam", track: str = "video") -> tuple[BroadcastProducer, TrackProducer]:
    """A broadcast with one track, published."""
    broadcast = BroadcastProducer()
    producer = broadcast.create_track(track)
    await moq.publish(name, broadcast)
    return broadcast, producer


async def subscribed(publisher: Moq, subscriber: Moq, name: str = "cam") -> tuple[MoqSession, BroadcastConsumer]:
    """A session from the subscriber to the publisher, and the broadcast."""
    async with asyncio.timeout(PATIENCE):
        session = await subscriber.connect(publisher.ticket())
        return session, await session.subscribe(name)

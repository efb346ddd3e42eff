"""Many subscribers in one process, and the tasks that read for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from .channel import Channel
from .contender import Contender, Subscriber

__all__ = ["connected", "reading"]

_AT_ONCE = 8
"""Sessions that are opened at the same time, so that no handshake waits for two hundred others."""


@asynccontextmanager
async def connected(
    contender: Contender, channel: Channel, address: str, count: int
) -> AsyncIterator[list[Subscriber]]:
    """So many subscribers, each with an endpoint and a session of its own."""
    async with AsyncExitStack() as stack:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one() -> Subscriber:
            async with slots:
                subscriber = await stack.enter_async_context(contender.subscriber(channel))
                await subscriber.connect(address)
                return subscriber

        yield list(await asyncio.gather(*(one() for _ in range(count))))


@asynccontextmanager
async def reading(coroutines: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks for the time of a block."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

"""An application that is curious: it subscribes to whatever anybody announces, and reads it."""

from __future__ import annotations

import asyncio

from iroh_moq import BroadcastConsumer, Error, Moq, MoqSession

__all__ = ["follow_everybody"]


async def follow_everybody(moq: Moq) -> None:
    """Follows all incoming sessions of a Moq, until it is cancelled or the Moq shuts down."""
    async with asyncio.TaskGroup() as tasks:
        async for incoming in moq.incoming_sessions():
            tasks.create_task(_follow(incoming.accept()))


async def _follow(session: MoqSession) -> None:
    reading: set[asyncio.Task[None]] = set()
    try:
        async for name, broadcast in session.origin_consumer():
            if broadcast is not None:
                # One as most read a live track, and one that must have everything.
                for reliable in (False, True):
                    task = asyncio.create_task(_read(broadcast, reliable), name=f"follow {name}")
                    reading.add(task)
                    task.add_done_callback(reading.discard)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(broadcast: BroadcastConsumer, reliable: bool) -> None:
    try:
        async with broadcast.subscribe_track("anything", ordered=reliable) as track:
            while await track.read_frame() is not None:
                pass
    except Error:
        # Which is all that such a peer has to give.
        return

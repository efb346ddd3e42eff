"""Sessions that come back: by themselves, or as an application brings them back that cannot wait.

A peer that is killed or frozen says nothing, and a connection on which nothing comes is given up only
after 12 seconds, as an idle one says something every five; then `connect(reconnect=...)` brings it back.
Who has to know earlier reads a heartbeat, which every server here publishes: silence for too long is the
end of the session, and what begins the next one is the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from iroh_moq import BroadcastProducer, ConnectError, Error, Moq, MoqSession, Reconnect, ServerError

__all__ = ["beat", "sessions"]

_BEAT = "beat"
_EVERY = 0.1
_PAUSE = 0.2
"""Seconds between two beats, and from the end of a session to the next attempt."""

_POLICY = Reconnect(initial=_PAUSE, maximum=1.0)


async def beat(moq: Moq) -> None:
    """Publishes the heartbeat, for ever."""
    with BroadcastProducer() as broadcast:
        track = broadcast.create_track(_BEAT)
        await moq.publish(_BEAT, broadcast)
        while True:
            track.write_frame(b"")
            await asyncio.sleep(_EVERY)


async def sessions(
    moq: Moq, remote: str, silence: float | None, say: Callable[[str], None]
) -> AsyncIterator[MoqSession]:
    """A session with a peer, and another one whenever that has ended.

    Args:
        moq: the local end.
        remote: the peer's ticket.
        silence: seconds without a heartbeat after which a session is given up; without it, it is left to
            the library to notice a loss and to come back.
        say: told why each session, or attempt at one, has ended, and of each loss of one that comes back.
    """
    while True:
        try:
            async with asyncio.timeout(silence and 4 * silence):
                session = await moq.connect(remote, reconnect=None if silence else _POLICY)
        except TimeoutError:
            say("no answer")
        except (ConnectError, ServerError) as error:
            say(str(error))
        else:
            watching = asyncio.create_task(_watch(session, silence, say))
            try:
                yield session
            finally:
                watching.cancel()
            if not session.is_closed:
                session.close(0, "begin again")
            say(str(await session.closed()))
        await asyncio.sleep(_PAUSE)


async def _watch(session: MoqSession, silence: float | None, say: Callable[[str], None]) -> None:
    if silence is None:
        async for status in session.status_changes():
            if status == "reconnecting":
                say("the connection")
        return
    with suppress(Error):
        try:
            async with asyncio.timeout(4 * silence):
                broadcast = await session.subscribe(_BEAT)
            async with broadcast.subscribe_track(_BEAT) as track:
                while True:
                    async with asyncio.timeout(silence):
                        if await track.next_group() is None:
                            return
        except TimeoutError:
            say("silence")
            session.close(0, "silence")

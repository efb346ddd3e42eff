"""Finding a peer and its broadcast in time, for the commands that read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from iroh import EndpointAddr

from ..aio import reap
from ..errors import ConnectError, ErrorCode
from ..model import BroadcastConsumer
from ..moq import Moq
from ..reconnect import Reconnect
from ..session import MoqSession
from .output import say
from .run import Exit, Failure

__all__ = ["SKIPPED", "connect", "find_broadcast", "tell_losses"]

_EXPECTED = 2.0
"""Seconds after which whoever waits wants to know for what."""

SKIPPED = frozenset({ErrorCode.OLD, ErrorCode.EVICTED, ErrorCode.LAGGED})
"""How groups end that a live stream goes on without."""


async def connect(moq: Moq, remote: EndpointAddr, timeout: float | None, reconnect: bool = False) -> MoqSession:
    """The session with a peer; with ``reconnect`` one that comes back, and a peer that may come later.

    Raises:
        Failure: the peer has not answered in time.
    """
    hint = "Is it still running, is its ticket the latest, and does --network reach it?"
    peer = remote.id().fmt_short()
    async with _limit(timeout, Exit.UNREACHABLE, f"peer {peer} did not answer {_within(timeout)}. {hint}"):
        with _patience(f"connecting to {peer} ..."):
            return await (_dial_until_there(moq, remote) if reconnect else moq.connect(remote))


async def _dial_until_there(moq: Moq, remote: EndpointAddr) -> MoqSession:
    error: ConnectError | None = None
    for delay in Reconnect(maximum=5.0).delays():
        try:
            return await moq.connect(remote, reconnect=True)
        except ConnectError as failure:
            if error is None:
                say(f"{failure}; trying again")
            error = failure
        await asyncio.sleep(delay)
    raise AssertionError("the attempts have no limit")


@asynccontextmanager
async def tell_losses(session: MoqSession) -> AsyncIterator[None]:
    """Says, during the block, when the session is lost and when it is back."""

    async def tell() -> None:
        lost = False
        async for status in session.status_changes():
            if status == "reconnecting":
                lost = True
                say("the connection is lost; reconnecting ...")
            elif status == "connected" and lost:
                lost = False
                say("connected again")

    telling = asyncio.ensure_future(tell())
    try:
        yield
    finally:
        await reap(telling)


async def find_broadcast(
    moq: Moq, remote: EndpointAddr, name: str, timeout: float | None, reconnect: bool = False
) -> tuple[MoqSession, BroadcastConsumer]:
    """A peer's broadcast, once it is announced.

    Raises:
        Failure: the peer has not answered, or not announced the broadcast, in time.
    """
    started = asyncio.get_running_loop().time()
    session = await connect(moq, remote, timeout, reconnect)
    left = None if timeout is None else timeout - (asyncio.get_running_loop().time() - started)
    hint = "`iroh-moq list` shows what there is."
    async with _limit(left, Exit.NOT_FOUND, f"broadcast {name!r} did not come {_within(timeout)}. {hint}"):
        with _patience(f"waiting for broadcast {name!r} ..."):
            return session, await session.subscribe(name)


@contextmanager
def _patience(what: str) -> Iterator[None]:
    """Says what is waited for, if it takes longer than people expect."""
    timer = asyncio.get_running_loop().call_later(_EXPECTED, say, what)
    try:
        yield
    finally:
        timer.cancel()


@asynccontextmanager
async def _limit(seconds: float | None, code: Exit, message: str) -> AsyncIterator[None]:
    """Gives the block so much time; after that, it fails with a code and a message."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Failure(code, message) from error


def _within(timeout: float | None) -> str:
    return "" if timeout is None else f"within {timeout:g} s"

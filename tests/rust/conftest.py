"""One session between us and a Rust peer, whoever of the two dials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import moq
import pytest

from iroh_moq import ALPN, ALPNS, MoqSession
from iroh_moq.lite.version import version_of
from tests.conftest import within
from tests.rust.peers import rust_client, rust_server
from tests.rust.quic import QuicTransport, connect, serve

PATIENCE = 30.0
"""Seconds that all of one test may take on a busy machine; most need a tenth of one."""

LONG = 5_000_000
"""The longest maximum age, in microseconds, that Rust asks for with moq-lite-03.

It asks for no more than the publisher keeps, and takes that for five seconds where the protocol does not
tell it. No group in a test gets as old.
"""


@dataclass(frozen=True)
class Link:
    """Both ends of a session."""

    session: MoqSession
    transport: QuicTransport
    rust: moq.Session
    origin: moq.OriginProducer
    """What Rust announces to us."""

    remote: moq.OriginConsumer
    """What Rust hears of us."""


@asynccontextmanager
async def we_dial(alpn: bytes = ALPN) -> AsyncIterator[Link]:
    """A session that we opened. What happens within must be over within `PATIENCE`."""
    async with (
        within(PATIENCE),
        rust_server() as server,
        connect("127.0.0.1", server.port, alpn) as transport,
        await MoqSession.session_connect(transport) as session,
    ):
        yield Link(session, transport, await server.session(), server.origin, server.remote)


@asynccontextmanager
async def rust_dials(alpn: bytes = ALPN) -> AsyncIterator[Link]:
    """A session that Rust opened. What happens within must be over within `PATIENCE`."""
    async with within(PATIENCE), serve(alpns=[alpn]) as server, rust_client(server.port) as client:
        transport = await server.accept()
        async with await MoqSession.session_accept(transport) as session:
            yield Link(session, transport, client.session, client.origin, client.remote)


Linked = Callable[[], AbstractAsyncContextManager[Link]]


@pytest.fixture(params=ALPNS, ids=bytes.decode)
def alpn(request: pytest.FixtureRequest) -> bytes:
    """Each version of the protocol."""
    version: bytes = request.param
    return version


@pytest.fixture(params=[we_dial, rust_dials], ids=lambda dial: dial.__name__)
def linked(request: pytest.FixtureRequest, alpn: bytes) -> Linked:
    """Makes a session, once for each way to dial and each version of the protocol."""
    return partial(request.param, alpn)


@asynccontextmanager
async def two_links() -> AsyncIterator[tuple[Link, Link]]:
    """Two sessions of ours, each with a Rust peer of its own, one of each way to dial."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(we_dial()), await stack.enter_async_context(rust_dials())


def setups(transport: QuicTransport) -> int:
    """How many of the streams that a side opens in one direction are not for a group: the first, with SETUP."""
    return int(version_of(transport.alpn).setup)


@pytest.fixture
def dialled(alpn: bytes) -> Linked:
    """Makes a session that we open, once for each version: for long tests of what comes after it is open."""
    return partial(we_dial, alpn)

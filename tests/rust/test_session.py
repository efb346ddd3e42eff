"""Sessions with the Rust stack: how they end, both directions at once, a relay between, and odd streams."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import moq
import pytest
from tests.rust.conftest import LONG, PATIENCE, Link, Linked, rust_dials
from tests.rust.peers import error_code, publish, read_group, rust_server
from tests.rust.quic import connect, serve

from iroh_moq import BroadcastProducer, IncomingSession, MoqError, MoqSession, SessionClosed, TrackConsumer


async def rust_closed(link: Link) -> int | None:
    """The code that Rust saw its session end with."""
    with pytest.raises(moq.Error) as caught:
        await link.rust.closed()
    return error_code(caught.value)

"""Bare endpoints of this machine, for peers that do as they please."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from iroh import Endpoint, EndpointBuilder, RelayMode

from iroh_moq import ALPN

__all__ = ["bare_endpoint"]


@asynccontextmanager
async def bare_endpoint(alpns: Sequence[bytes] = (ALPN,)) -> AsyncIterator[Endpoint]:
    """An endpoint of the `iroh` package on loopback, with nothing of ours on it."""
    builder = EndpointBuilder()  # type: ignore[no-untyped-call]
    builder.apply_minimal()
    builder.relay_mode(RelayMode.disabled())
    builder.alpns(list(alpns))
    builder.bind_addr("127.0.0.1:0")
    endpoint = await builder.bind()
    try:
        yield endpoint
    finally:
        await endpoint.close()

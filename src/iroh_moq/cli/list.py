"""``iroh-moq list``: a peer's broadcasts as they come and go."""

from __future__ import annotations

import asyncio
import json

import click
from iroh import EndpointAddr

from ..errors import SessionClosed
from ..model import BroadcastConsumer, OriginConsumer
from .options import (
    EndpointOptions,
    json_option,
    only,
    reconnect_option,
    ticket_argument,
    timeout_option,
    with_endpoint,
)
from .output import Output, say
from .peer import connect, tell_losses
from .run import Exit, Failure
from .text import printable

__all__ = ["list_broadcasts"]

_QUIET = 0.5
"""Seconds without news after which all that is there is taken to have been told: the protocol has no
mark between that and what comes later."""


@click.command("list")
@ticket_argument
@click.option("--once", is_flag=True, help="Print the names of what is there now, and exit.")
@reconnect_option
@timeout_option
@json_option
@with_endpoint
async def list_broadcasts(
    endpoint: EndpointOptions, ticket: EndpointAddr, once: bool, reconnect: bool, timeout: float | None, as_json: bool
) -> None:
    """List a peer's broadcasts as they come (+) and go (-), until the peer ends.

    TICKET is what `iroh-moq publish` prints, or the endpoint id that `iroh-moq id` shows.
    """
    async with endpoint.bind(only(())) as moq:
        session = await connect(moq, ticket, timeout, reconnect)
        origin = session.origin_consumer()
        quiet = max(_QUIET, 3 * (session.stats().rtt or 0)) if once else None
        patience = quiet if timeout is None else timeout
        async with tell_losses(session):
            with Output() as output:
                while batch := await _news(origin, patience):
                    for path, broadcast in batch:
                        await output.line(_line(path, broadcast is not None, once, as_json))
                    timeout, patience = None, quiet
        if timeout is not None and not session.is_closed:
            raise Failure(Exit.NOT_FOUND, f"no broadcast was announced within {timeout:g} s")
        if once:
            return
        error = await session.closed()
        if error.code != 0:
            raise SessionClosed(error)
        say("the peer has ended")


async def _news(origin: OriginConsumer, patience: float | None) -> list[tuple[str, BroadcastConsumer | None]]:
    """The next news; none once nothing can come, or nothing has come for long enough."""
    try:
        async with asyncio.timeout(patience):
            return await origin.announced_batch()
    except TimeoutError:
        return []


def _line(path: str, here: bool, once: bool, as_json: bool) -> str:
    if as_json:
        return json.dumps({"event": "announced" if here else "ended", "name": path})
    return printable(path) if once else f"{'+' if here else '-'} {printable(path)}"

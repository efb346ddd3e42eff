"""The two peers of a case, each in its own namespace."""

from __future__ import annotations

from contextlib import AsyncExitStack

from ..harness.link import Party
from ..harness.pairs import Pair
from ..harness.process import PeerProcess
from .namespaces import Networks, inside

__all__ = ["start_sides"]


async def start_sides(
    stack: AsyncExitStack, networks: Networks, pair: Pair, version: str, through: str | None = None
) -> tuple[Party, Party]:
    """A publisher on the left and a subscriber on the right, bound until the stack is closed.

    ``through`` is the URL of a relay server that they are at.
    """
    parties = []
    for kind, namespace in ((pair.publisher, networks.left), (pair.subscriber, networks.right)):
        process = await PeerProcess.start(inside(namespace, kind.command()), kind.environment(), kind.value)
        stack.push_async_callback(process.end)
        party = Party(kind, process, version)
        await party.bind(address="0.0.0.0:0", through=through)
        parties.append(party)
    publisher, subscriber = parties
    return publisher, subscriber

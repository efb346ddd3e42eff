"""Whether the peer at the other end of a connection is still there."""

from __future__ import annotations

import asyncio

from ..transport import Transport

__all__ = ["fallen_silent"]

_LOOKS = 8
"""How often it is looked in the time that a silence takes."""


async def fallen_silent(transport: Transport, seconds: float) -> None:
    """Returns once nothing has come from the peer for so many seconds.

    Nothing tells of packets, so it is looked every now and then how many there were. Time in which this program did
    not run, as on a machine that was asleep, is not the peer's silence.
    """
    step = seconds / _LOOKS
    received, silent = transport.stats().received_packets, 0
    while silent < _LOOKS:
        await asyncio.sleep(step)
        before, received = received, transport.stats().received_packets
        silent = silent + 1 if received == before else 0

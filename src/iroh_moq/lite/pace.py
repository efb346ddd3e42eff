"""How fast one peer may go, and how it is held up when it goes faster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..aio import Bucket
from ..limits import Limits

__all__ = ["Pace"]


class Pace:
    """What the peer of one session does in a second.

    Holding it up means to take no more of its streams for a moment: they wait in the connection,
    whose flow control then makes the peer wait as well.

    Args:
        limits: how much that may be.
        held: called each time it is held up, with a logger, the limit's name, and what happened.
    """

    __slots__ = ("_held", "groups", "refusals", "requests")

    def __init__(self, limits: Limits, held: Callable[[logging.Logger, str, str], None]) -> None:
        self.groups = Bucket(limits.groups_per_second)
        self.requests = Bucket(limits.requests_per_second)
        self.refusals = Bucket(limits.refusals_per_second)
        self._held = held

    async def begin_groups(self, logger: logging.Logger, count: int) -> None:
        """So many groups were begun: lets others have a turn, and waits if those were too many."""
        if wait := self.groups.take(count):
            self._held(logger, "groups_per_second", f"opens over {self.groups.rate:g} groups a second")
            await asyncio.sleep(wait)
        else:
            await asyncio.sleep(0)
        await self.after_refusals(logger)

    async def before_request(self, logger: logging.Logger) -> None:
        """Waits until another request may be looked at."""
        if wait := self.requests.debt():
            self._held(logger, "requests_per_second", f"asks over {self.requests.rate:g} times a second")
            await asyncio.sleep(wait)
        await self.after_refusals(logger)

    async def after_refusals(self, logger: logging.Logger) -> None:
        """Waits if too much was refused."""
        if wait := self.refusals.debt():
            self._held(logger, "refusals_per_second", f"is refused over {self.refusals.rate:g} times a second")
            await asyncio.sleep(wait)

"""How much is committed to a connection: handed over, to be sent to its end whatever comes later.

Were everything handed over as soon as it is written, a narrow path would put off each group for the
next newer one, and hardly any would ever be whole. So a session commits whole groups only as far as
the congestion window reaches, and its subscriptions keep the rest until there is room.
"""

from __future__ import annotations

import time
from typing import Protocol

from ..transport import Transport

__all__ = ["Window"]

_LEAST = 32 * 1024
"""Bytes that are committed however narrow the path."""

_AT_ONCE = 2
"""Groups that are committed however large: the next one is there when the last byte of one has gone."""

_FRESH = 0.005
_STALE = 0.25
"""Seconds for which the congestion window is not asked for again, where there is no room, and where there is."""


class Waiting(Protocol):
    """A subscription with groups that wait for room."""

    @property
    def level(self) -> int:
        """Those of a higher one have their turn first."""

    def send_next(self) -> bool:
        """Commits one group; whether there are others."""


class Window:
    """The commitments of one session, by their level (see `priority.level`): those of a lower one do not count."""

    __slots__ = ("_asked", "_bytes", "_count", "_limit", "_releasing", "_taken", "_transport", "_waiting")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._taken: dict[int, list[int]] = {}
        """How many groups of each level, and their bytes."""
        self._bytes = 0
        self._count = 0
        self._limit = 0.0
        self._asked = 0.0
        self._waiting: dict[Waiting, None] = {}
        """In the order in which they have their turn."""
        self._releasing = False

    def has_room(self, level: int) -> bool:
        """Whether another group of a level may be committed."""
        taken = self._bytes
        if taken >= self._limit or time.monotonic() - self._asked > _STALE:
            self._ask()
            if taken >= self._limit:
                groups = taken = 0
                for other, (count, size) in self._taken.items():
                    if other >= level:
                        groups += count
                        taken += size
                return groups < _AT_ONCE or taken < self._limit
        return True

    def _ask(self) -> None:
        """Learns how wide the path is, unless that was a moment ago."""
        now = time.monotonic()
        if now - self._asked >= _FRESH:
            path = self._transport.stats().path
            # As much again as can be on its way waits behind it, so that the path is never idle.
            self._limit = float("inf") if path is None else max(2 * path.congestion_window, _LEAST)
            self._asked = now

    def take(self, level: int, size: int) -> int:
        """Commits a group; its place among all that ever were."""
        taken = self._taken.get(level)
        if taken is None:
            taken = self._taken[level] = [0, 0]
        taken[0] += 1
        taken[1] += size
        self._bytes += size
        self._count += 1
        return self._count

    def give_back(self, level: int, size: int) -> None:
        """A group has arrived, or was given up."""
        taken = self._taken[level]
        taken[0] -= 1
        taken[1] -= size
        if not taken[0]:
            del self._taken[level]
        self._bytes -= size
        if self._waiting and not self._releasing:
            self._release()

    def wait(self, who: Waiting) -> None:
        """Has a subscription called when there is room."""
        self._waiting.setdefault(who)

    def leave(self, who: Waiting) -> None:
        """It has ended."""
        self._waiting.pop(who, None)

    def _release(self) -> None:
        """Gives those who wait their turns, as far as there is room."""
        self._releasing = True
        try:
            while self._waiting:
                who = max(self._waiting, key=_level)
                if not self.has_room(who.level):
                    return
                del self._waiting[who]
                if who.send_next():
                    self._waiting[who] = None
        finally:
            self._releasing = False


def _level(who: Waiting) -> int:
    return who.level

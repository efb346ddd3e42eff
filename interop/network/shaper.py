"""What a network does to packets: delays, loses, reorders and slows them down. No sockets and no clock of its own."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

__all__ = ["Conditions", "Shaper"]

_QUEUE = 0.1
"""Seconds of traffic that wait before a slow link; what comes on top is lost."""
_HELD_BACK = 0.015
"""Seconds by which a packet comes too late that others overtake."""


@dataclass(frozen=True)
class Conditions:
    """What happens to the packets of one direction."""

    delay: float = 0
    """Seconds."""
    loss: float = 0
    """The part of them that is lost."""
    reorder: float = 0
    """The part that others overtake."""
    rate: float = 0
    """Bits per second; 0 is no limit."""


@dataclass
class Shaper:
    """One direction: packets go in, and come out later or never."""

    conditions: Conditions
    dice: random.Random
    _free_at: float = 0
    _number: int = 0
    _waiting: list[tuple[float, int, bytes]] = field(default_factory=list)

    def put(self, now: float, packet: bytes) -> None:
        """A packet comes in."""
        conditions = self.conditions
        if self.dice.random() < conditions.loss:
            return
        leaves = now
        if conditions.rate:
            if self._free_at - now > _QUEUE:
                return
            self._free_at = leaves = max(self._free_at, now) + len(packet) * 8 / conditions.rate
        leaves += conditions.delay
        if self.dice.random() < conditions.reorder:
            leaves += _HELD_BACK
        self._number += 1
        heapq.heappush(self._waiting, (leaves, self._number, packet))

    def take(self, now: float) -> list[bytes]:
        """The packets that come out by now."""
        packets = []
        while self._waiting and self._waiting[0][0] <= now:
            packets.append(heapq.heappop(self._waiting)[2])
        return packets

    def due(self) -> float | None:
        """When the next one comes out."""
        return self._waiting[0][0] if self._waiting else None

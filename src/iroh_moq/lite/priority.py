"""Which group is sent first: the order of a subscription's groups as QUIC stream priorities.

One signed 32-bit number holds, from the top: the subscriber's priority (8 bits), the track's own (4
bits), and the group's place (20 bits). It depends on nothing but the group and its subscription, so
a new group never makes another one's number stale.
"""

from __future__ import annotations

from ..model.subscription import Subscription

__all__ = ["CONTROL_PRIORITY", "group_priority"]

CONTROL_PRIORITY = 0x7FFFFFFF
"""For announcements and subscriptions: few bytes that everything else waits for."""

_PLACES = 1 << 20


def group_priority(wishes: Subscription, track_priority: int, sequence: int) -> int:
    """The priority of a group's stream; higher is sent first.

    Newest first, or oldest first for an ordered subscription. Places repeat after a million groups,
    by when those of the last round are long gone.
    """
    place = sequence % _PLACES
    if wishes.ordered:
        place = _PLACES - 1 - place
    return ((wishes.priority << 24) | (track_priority >> 4 << 20) | place) - (1 << 31)

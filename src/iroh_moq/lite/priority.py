"""Which group is sent first: the order of a subscription's groups as QUIC stream priorities.

One signed 32-bit number holds, from the top: the subscriber's priority (8 bits), whether it wants what
is live (1 bit), the track's own priority (4 bits), whether the group was committed (1 bit), and its
place (18 bits). It depends on nothing but the group and its subscription, so a new group never makes
another one's number stale.
"""

from __future__ import annotations

from ..model.subscription import Subscription

__all__ = ["CONTROL_PRIORITY", "group_priority", "level"]

CONTROL_PRIORITY = 0x7FFFFFFF
"""For announcements and subscriptions: few bytes that everything else waits for."""

_PLACES = 1 << 18


def group_priority(wishes: Subscription, track_priority: int, sequence: int, commitment: int | None = None) -> int:
    """The priority of a group's stream; higher is sent first.

    Newest first, or oldest first for an ordered subscription. Places repeat after a quarter of a
    million groups, by when those of the last round are long gone.

    Args:
        wishes: the subscription.
        track_priority: the track's own.
        sequence: the group's number.
        commitment: its place among those that were committed, which go before those that were not, in
            the order in which they were: what has begun to be sent is not put off by what came later.
    """
    if commitment is not None and not wishes.ordered:
        place = _PLACES + _PLACES - 1 - commitment % _PLACES
    elif wishes.ordered:
        place = _PLACES - 1 - sequence % _PLACES
    else:
        place = sequence % _PLACES
    return (level(wishes, track_priority) << 19 | place) - (1 << 31)


def level(wishes: Subscription, track_priority: int) -> int:
    """What counts before the group does; higher is sent first."""
    return wishes.priority << 5 | (not wishes.reliable) << 4 | track_priority >> 4

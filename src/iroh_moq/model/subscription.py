"""What a subscriber asks of a track."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidType
from .checks import check_int, check_seconds

__all__ = ["MAX_GROUP", "Subscription", "check_priority", "check_sequence", "combine"]

MAX_GROUP = (1 << 62) - 2
"""The highest group sequence: on the wire an optional one is sent plus one, as a varint."""

_MAX_LATENCY = (1 << 62) / 1000


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscriber's wishes.

    Args:
        priority: 0 to 255; of several tracks in one session, higher ones are sent first.
        ordered: send the oldest group first under congestion, not the newest.
        max_latency: seconds that a group is still wanted once a newer one exists; None leaves it
            to the publisher's cache. With ``ordered`` and no limit nothing is skipped: a slow
            reader then holds the publisher's stream back instead (see :attr:`reliable`).
        start_group: the first group wanted; None starts at the latest.
        end_group: the last group wanted, inclusive; later ones are held until an update raises it.

    Raises:
        InvalidType: a value has the wrong type.
        InvalidArgument: a value is out of range.
    """

    priority: int = 0
    ordered: bool = False
    max_latency: float | None = None
    start_group: int | None = None
    end_group: int | None = None

    def __post_init__(self) -> None:
        check_priority(self.priority)
        if not isinstance(self.ordered, bool):
            raise InvalidType(f"ordered must be a bool, not {type(self.ordered).__name__}")
        if self.max_latency is not None:
            check_seconds(self.max_latency, "max_latency", _MAX_LATENCY)
        for name, group in (("start_group", self.start_group), ("end_group", self.end_group)):
            if group is not None:
                check_sequence(group, name)

    @property
    def reliable(self) -> bool:
        """Whether no group may be skipped for this subscriber, at the price of waiting for it."""
        return self.ordered and self.max_latency is None


def check_sequence(sequence: int, what: str) -> int:
    """A group's sequence number, if it can be one."""
    return check_int(sequence, what, 0, MAX_GROUP)


def check_priority(priority: int) -> int:
    """A priority, if it can be one."""
    return check_int(priority, "priority", 0, 255)


def combine(subscriptions: Iterable[Subscription], latest: int | None = None) -> Subscription | None:
    """One subscription that serves all of them, or None for none: the most that anyone asks.

    ``latest`` is the latest group, where it is known: whoever asks for no start wants that, and must
    not wait for a start that another has set after it.
    """
    wishes = list(subscriptions)
    if len(wishes) <= 1:
        return wishes[0] if wishes else None
    latencies = [wish.max_latency for wish in wishes if wish.max_latency is not None]
    starts = [wish.start_group for wish in wishes if wish.start_group is not None]
    if latest is not None and len(starts) < len(wishes) and min(starts, default=0) > latest:
        starts = []
    ends = [wish.end_group for wish in wishes if wish.end_group is not None]
    return Subscription(
        priority=max(wish.priority for wish in wishes),
        ordered=all(wish.ordered for wish in wishes),
        max_latency=max(latencies) if len(latencies) == len(wishes) else None,
        start_group=min(starts, default=None),
        end_group=max(ends) if len(ends) == len(wishes) else None,
    )

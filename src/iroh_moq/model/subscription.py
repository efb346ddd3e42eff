"""What a subscriber asks of a track."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InvalidArgument, InvalidType

__all__ = ["MAX_GROUP", "Subscription", "combine"]

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
        if not isinstance(self.priority, int):
            raise InvalidType(f"priority must be an int, not {type(self.priority).__name__}")
        if not 0 <= self.priority <= 255:
            raise InvalidArgument(f"priority must be between 0 and 255, not {self.priority}")
        if self.max_latency is not None:
            if not isinstance(self.max_latency, (int, float)):
                raise InvalidType(f"max_latency must be a number, not {type(self.max_latency).__name__}")
            if not 0 <= self.max_latency <= _MAX_LATENCY:
                raise InvalidArgument(f"max_latency must be seconds from 0 up, or None, not {self.max_latency}")
        for name, group in (("start_group", self.start_group), ("end_group", self.end_group)):
            if group is not None:
                check_sequence(group, name)

    @property
    def reliable(self) -> bool:
        """Whether no group may be skipped for this subscriber, at the price of waiting for it."""
        return self.ordered and self.max_latency is None


def check_sequence(sequence: int, what: str) -> int:
    """A group's sequence number, if it can be one."""
    if not isinstance(sequence, int):
        raise InvalidType(f"{what} must be an int, not {type(sequence).__name__}")
    if not 0 <= sequence <= MAX_GROUP:
        raise InvalidArgument(f"{what} must be between 0 and {MAX_GROUP}, not {sequence}")
    return sequence


def combine(subscriptions: Iterable[Subscription]) -> Subscription | None:
    """One subscription that serves all of them, or None for none: the most that anyone asks."""
    wishes = list(subscriptions)
    if len(wishes) <= 1:
        return wishes[0] if wishes else None
    latencies = [wish.max_latency for wish in wishes if wish.max_latency is not None]
    starts = [wish.start_group for wish in wishes if wish.start_group is not None]
    ends = [wish.end_group for wish in wishes if wish.end_group is not None]
    return Subscription(
        priority=max(wish.priority for wish in wishes),
        ordered=all(wish.ordered for wish in wishes),
        max_latency=max(latencies) if len(latencies) == len(wishes) else None,
        start_group=min(starts) if starts else None,
        end_group=max(ends) if len(ends) == len(wishes) else None,
    )

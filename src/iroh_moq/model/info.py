"""What does not change about a track, and the times of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidArgument, InvalidType
from .checks import check_int

__all__ = [
    "DEFAULT_TIMESCALE",
    "MAX_TIME",
    "MAX_TIMESCALE",
    "Datagram",
    "TimedFrame",
    "TrackInfo",
    "check_timescale",
    "check_timestamp",
]

DEFAULT_TIMESCALE = 1_000_000
"""Timestamps are kept as whole numbers of such parts of a second."""

MAX_TIMESCALE = (1 << 62) - 1

MAX_TIME = (1 << 61) - 1
"""The highest timestamp, so that the difference of any two fits the wire."""


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """The properties of a track, which its publisher has fixed.

    Args:
        priority: decides between tracks to which subscribers give equal priority.
        ordered: whether its publisher sends older groups first.
        max_age: seconds that its publisher keeps a group once there is a newer one; None without a limit.
        timescale: timestamps are whole numbers of such parts of a second.
    """

    priority: int = 0
    ordered: bool = False
    max_age: float | None = None
    timescale: int = DEFAULT_TIMESCALE


class TimedFrame(NamedTuple):
    """A frame with its timestamp in seconds, or None where it has none."""

    data: bytes
    timestamp: float | None


class Datagram(NamedTuple):
    """What `TrackProducer.write_datagram` sends: bytes, their number, and a timestamp in seconds if they have one."""

    sequence: int
    data: bytes
    timestamp: float | None


def check_timescale(timescale: int) -> int:
    """A timescale, if it can be one.

    Raises:
        InvalidType, InvalidArgument: it cannot.
    """
    return check_int(timescale, "timescale", 1, MAX_TIMESCALE)


def check_timestamp(timestamp: float, timescale: int) -> int:
    """A timestamp as it is kept: a whole number, in the track's timescale.

    Raises:
        InvalidType: it is not a number.
        InvalidArgument: it is negative or too large, or no number (nan).
    """
    if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)):
        raise InvalidType(f"timestamp must be a number of seconds, not {type(timestamp).__name__}")
    if not 0 <= timestamp <= MAX_TIME / timescale:
        raise InvalidArgument(
            f"timestamp must be between 0 and {MAX_TIME / timescale:g} seconds in this track, not {timestamp}"
        )
    return min(round(timestamp * timescale), MAX_TIME)

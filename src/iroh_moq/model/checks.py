"""Checks of the numbers that callers pass: what is wrong is said at the call, and named."""

from __future__ import annotations

from ..errors import InvalidArgument, InvalidType

__all__ = ["check_code", "check_int", "check_seconds"]

_MAX_CODE = (1 << 32) - 1


def check_int(value: int, what: str, least: int, most: int | None = None) -> int:
    """A whole number within bounds; True and False are none.

    Raises:
        InvalidType: it is not an int.
        InvalidArgument: it is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"{what} must be an int, not {type(value).__name__}")
    if most is None and value < least:
        raise InvalidArgument(f"{what} must be at least {least}, not {value}")
    if most is not None and not least <= value <= most:
        raise InvalidArgument(f"{what} must be between {least} and {most}, not {value}")
    return value


def check_code(code: int) -> int:
    """A code that can be sent to a peer.

    Raises:
        InvalidType, InvalidArgument: as :func:`check_int`.
    """
    return check_int(code, "code", 0, _MAX_CODE)


def check_seconds(value: float, what: str, most: float) -> float:
    """A time from 0 to ``most`` seconds.

    Raises:
        InvalidType: it is not a number.
        InvalidArgument: it is out of bounds, or no number (nan).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(f"{what} must be a number, not {type(value).__name__}")
    if not 0 <= value <= most:
        raise InvalidArgument(f"{what} must be between 0 and {most:g} seconds, not {value}")
    return value

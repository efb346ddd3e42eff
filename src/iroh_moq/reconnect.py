"""How often and how long a lost session is dialled again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import InvalidArgument, InvalidType

__all__ = ["Reconnect", "check_reconnect"]


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Exponential backoff with jitter.

    The first attempt follows ``initial`` seconds after the loss, and each further one ``factor`` times
    later than the one before, up to ``maximum`` seconds. Each delay is shortened at random by up to the
    ``jitter``'s part of it, so that peers which have lost the same network do not all dial at once.

    Args:
        initial: seconds before the first attempt.
        maximum: the longest delay, in seconds.
        factor: how much longer each delay is than the one before.
        jitter: 0 for none, 1 for delays anywhere between 0 and the full one.
        attempts: how many attempts may fail in a row until the session ends; None for no limit.

    Raises:
        InvalidType: a value is no number.
        InvalidArgument: a value is out of range.
    """

    initial: float = 0.25
    maximum: float = 30.0
    factor: float = 2.0
    jitter: float = 0.5
    attempts: int | None = None

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("initial", 0.0, 86_400.0),
            ("maximum", 0.0, 86_400.0),
            ("factor", 1.0, 1000.0),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidType(f"{name} must be a number, not {type(value).__name__}")
            if not lowest <= value <= highest:
                raise InvalidArgument(f"{name} must be from {lowest:g} to {highest:g}, not {value}")
        if self.maximum < self.initial:
            raise InvalidArgument("maximum is less than initial")
        if self.attempts is not None:
            if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
                raise InvalidType(f"attempts must be an int or None, not {type(self.attempts).__name__}")
            if self.attempts < 1:
                raise InvalidArgument(f"attempts must be at least 1, not {self.attempts}")

    def delays(self) -> Iterator[float]:
        """The seconds to wait before each attempt of one outage; it ends where the limit is reached."""
        delay, made = float(self.initial), 0
        while self.attempts is None or made < self.attempts:
            yield delay * (1 - self.jitter * random.random())
            delay, made = min(delay * self.factor, float(self.maximum)), made + 1


def check_reconnect(reconnect: bool | Reconnect | None) -> Reconnect | None:
    """The policy that ``True``, ``False`` or a policy stands for.

    Raises:
        InvalidType: it is none of these.
    """
    if isinstance(reconnect, Reconnect):
        return reconnect
    if reconnect is None or isinstance(reconnect, bool):
        return Reconnect() if reconnect else None
    raise InvalidType(f"reconnect must be a bool or a Reconnect, not {type(reconnect).__name__}")

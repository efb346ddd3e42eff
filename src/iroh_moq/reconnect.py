"""How often and how long a lost session is dialled again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import InvalidArgument, InvalidType
from .model.checks import check_int

__all__ = ["Reconnect", "check_reconnect"]

_DAY = 86_400.0

_HEARTBEAT = 5.0
"""Seconds between two packets on an idle connection of iroh."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """When a session's connection counts as lost, and how it is dialled again: exponential backoff with jitter.

    The first attempt follows ``initial`` seconds after the loss, and each further one ``factor`` times
    later than the one before, up to ``maximum`` seconds. Each delay is shortened at random by up to the
    ``jitter``'s part of it, so that peers which have lost the same network do not all dial at once.

    Args:
        initial: seconds before the first attempt.
        maximum: the longest delay, in seconds.
        factor: how much longer each delay is than the one before.
        jitter: 0 for none, 1 for delays anywhere between 0 and the full one.
        attempts: how many attempts may fail in a row until the session ends; None for no limit.
        timeout: seconds that an attempt may take.
        silence: seconds without a packet of the peer after which the connection counts as lost. An idle peer
            sends one every five seconds, so it must be more. None leaves it to iroh, which takes half a minute.
        grace: seconds that the peer has, once it is back, to announce again what is being read of it.

    Raises:
        InvalidType: a value is no number.
        InvalidArgument: a value is out of range.
    """

    initial: float = 0.25
    maximum: float = 30.0
    factor: float = 2.0
    jitter: float = 0.5
    attempts: int | None = None
    timeout: float = 10.0
    silence: float | None = 12.0
    grace: float = 5.0

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("initial", 0.0, _DAY),
            ("maximum", 0.0, _DAY),
            ("factor", 1.0, 1000.0),
            ("jitter", 0.0, 1.0),
            ("timeout", 0.1, _DAY),
            ("silence", _HEARTBEAT + 1, _DAY),
            ("grace", 0.0, _DAY),
        ):
            value = getattr(self, name)
            if value is None and name == "silence":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidType(f"{name} must be a number, not {type(value).__name__}")
            if not lowest <= value <= highest:
                raise InvalidArgument(f"{name} must be from {lowest:g} to {highest:g}, not {value}")
        if self.maximum < self.initial:
            raise InvalidArgument("maximum is less than initial")
        if self.attempts is not None:
            check_int(self.attempts, "attempts", 1)

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

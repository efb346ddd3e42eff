"""A token bucket: so many a second, and as many at once."""

from __future__ import annotations

import asyncio

__all__ = ["Bucket"]


class Bucket:
    """Counts what is done, by the clock of the running loop, and holds up who does too much.

    What is done is never undone, so it is counted afterwards: the level falls below 0, and
    whoever goes on waits until it is back there.

    Args:
        rate: how many a second; so many can also be done at once after a second of rest.
    """

    __slots__ = ("_burst", "_level", "_stamp", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._burst = max(rate, 1.0)
        self._level = self._burst
        self._stamp = 0.0

    def take(self, count: int = 1) -> float:
        """Counts some. Returns the seconds to wait before more is done, which is 0 most of the time."""
        now = asyncio.get_running_loop().time()
        level = min(self._level + (now - self._stamp) * self.rate, self._burst) - count
        # A debt of more than a second's worth is forgiven: the one who owes it is held up often enough.
        self._level, self._stamp = max(level, -self._burst), now
        return -self._level / self.rate if self._level < 0 else 0.0

    def debt(self) -> float:
        """The seconds to wait now."""
        return self.take(0) if self._level < 0 else 0.0

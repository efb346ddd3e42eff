"""What a network does to packets, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Weather"]


@dataclass(frozen=True)
class Weather:
    """Shares are from 0 to 1, times in seconds, each way.

    A packet that is reordered is held up by ``late`` seconds more, so that others overtake it.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    cut: bool = False
    late: float = 0.03

"""What was refused to peers: every time counted, and at most one line a minute of the same in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from .log import fields

__all__ = ["INTERVAL", "MAX_LINES", "Refusals"]

INTERVAL = 60.0
"""Seconds between two lines about the same peer and reason."""

MAX_LINES = 1024
"""How many pairs of peer and reason are known at a time. Whoever makes a new key for every attempt would
fill log and memory; beyond this there is one line for all others."""

_OTHERS = "other peers"


@dataclass(slots=True)
class _Line:
    """The last line about a peer and a reason, and how many were left out since."""

    logger: logging.Logger
    level: int
    time: float
    left_out: int = 0


class Refusals:
    """Counts and logs refusals.

    ``counts`` has a number for each reason. Reasons come from a fixed set, never from a peer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: dict[str, int] = {}
        self._clock = clock
        self._lines: dict[tuple[str, str], _Line] = {}  # in the order of their times

    def add(
        self,
        logger: logging.Logger,
        level: int,
        peer: str,
        reason: str,
        text: str,
        *,
        broadcast: str | None = None,
        track: str | None = None,
        exc_info: bool = False,
    ) -> None:
        """Something was refused.

        Args:
            logger: that of the layer which refuses.
            level: of the line in the log.
            peer: the peer's id.
            reason: a word from a fixed set.
            text: what was refused and why; the peer's id in it is the caller's matter.
            broadcast, track: names, for the record's fields.
            exc_info: whether the exception that is being handled goes with the line.
        """
        self.counts[reason] = self.counts.get(reason, 0) + 1
        now = self._clock()
        key = peer, reason
        line = self._lines.get(key)
        # One that is worth more than the last line is not left out because of that.
        if line is not None and now - line.time < INTERVAL and level <= line.level:
            line.left_out += 1
            return
        left_out = 0
        if line is not None:
            del self._lines[key]
            left_out = line.left_out
        self._sweep(now)
        if len(self._lines) >= MAX_LINES:
            self._overflow(logger, level, reason, now)
            return
        self._lines[key] = _Line(logger, level, now)
        more = f" ({left_out} more before, for the same reason)" if left_out else ""
        about = fields(peer=peer, broadcast=broadcast, track=track, reason=reason)
        logger.log(level, "%s%s", text, more, extra=about, exc_info=exc_info)

    def close(self) -> None:
        """Logs what has been left out so far."""
        for key, line in self._lines.items():
            _summarize(key, line)
        self._lines.clear()

    def _overflow(self, logger: logging.Logger, level: int, reason: str, now: float) -> None:
        key = _OTHERS, reason
        line = self._lines.get(key)
        if line is None:
            # A few over the bound: one for each reason.
            line = self._lines[key] = _Line(logger, level, now)
            logger.log(level, "too many peers are refused to log each", extra=fields(reason=reason))
        line.left_out += 1

    def _sweep(self, now: float) -> None:
        """Forgets the lines that are old, with a last one about what was left out."""
        while self._lines:
            key, line = next(iter(self._lines.items()))
            if now - line.time < INTERVAL:
                return
            del self._lines[key]
            _summarize(key, line)


def _summarize(key: tuple[str, str], line: _Line) -> None:
    if line.left_out:
        peer, reason = key
        text = "%d more refusals of %s: %s"
        line.logger.log(line.level, text, line.left_out, peer, reason, extra=fields(peer=peer, reason=reason))

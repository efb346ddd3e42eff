"""What all the tracks that one session receives may keep together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..model.track import TrackState

__all__ = ["Budget", "water_level"]


class Budget:
    """Bounds the sum of the tracks' costs.

    What comes is added up, a batch at a time; what goes is not taken off. So ``spent`` is never less
    than what there is, and only when it goes over the limit are the tracks looked at. Those from which
    something may be dropped then give up their oldest groups, the largest tracks first, down to a
    little under the limit. The reliable ones lose nothing: they have to hold their peer back.

    Args:
        limit: bytes that all of them may keep.
        tracks: the tracks there are, each with whether it is reliable.
        exceeded: called when some of them had to give something up.
    """

    __slots__ = ("_exceeded", "_reliable", "_tracks", "limit", "spent")

    def __init__(
        self, limit: int, tracks: Callable[[], Iterable[tuple[TrackState, bool]]], exceeded: Callable[[], None]
    ) -> None:
        self.limit = limit
        self.spent = 0
        self._tracks = tracks
        self._exceeded = exceeded
        self._reliable = 0

    def spend(self, amount: int) -> None:
        """So much has come."""
        self.spent += amount
        if self.spent > self.limit:
            self.settle()

    @property
    def is_tight(self) -> bool:
        """Whether reliable tracks have to leave with the connection what nobody needs at once."""
        share = self.limit * 3 // 4
        if self.spent <= share:
            return False
        self.settle()
        return self._reliable > share or self.spent > self.limit

    def settle(self) -> None:
        """Looks at what there is, and drops what is too much."""
        others: list[TrackState] = []
        self._reliable = rest = 0
        for track, reliable in self._tracks():
            if reliable:
                self._reliable += track.cost
            else:
                rest += track.cost
                others.append(track)
        if self._reliable + rest > self.limit:
            # The reliable ones never take it all.
            target = max(self.limit * 7 // 8 - self._reliable, self.limit // 8)
            if rest > target:
                level = water_level([track.cost for track in others], target)
                for track in others:
                    track.shrink(level)
                rest = sum(track.cost for track in others)
                self._exceeded()
        self.spent = self._reliable + rest


def water_level(costs: list[int], total: int) -> int:
    """The level to which all that are over it must come down, so that the sum is at most ``total``."""
    left = len(costs)
    for cost in sorted(costs):
        if cost * left > total:
            return total // left
        total -= cost
        left -= 1
    return max(costs, default=0)

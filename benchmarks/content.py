"""What is transferred, and the check that it all arrived.

A group's frames follow from its sequence, and no two frames of a group are alike, nor those of groups that
follow each other. So a lost, doubled, swapped, mixed up or damaged frame shows, and a comparison of lists
is all that the check costs while the clock runs.
"""

from __future__ import annotations

from random import Random

from .arrivals import Arrivals
from .failed import Failed

__all__ = ["Content", "Groups"]

_VARIETY = 7
_VARIETY_OF_LARGE = 3
_LARGE = 1 << 20
"""How many different groups there are: primes, so that no power of two of lost groups goes unseen."""


class Content:
    """Groups of so many frames of a size."""

    def __init__(self, frame_size: int, frames: int) -> None:
        self.frames = frames
        self.group_bytes = frame_size * frames
        # Pieces of one long noise differ everywhere at little cost.
        noise = Random(self.group_bytes).randbytes(frame_size + 64 * 1024)
        variety = _VARIETY if self.group_bytes < _LARGE else _VARIETY_OF_LARGE
        self._groups = [
            [_frame(noise, group * frames + index, frame_size) for index in range(frames)] for group in range(variety)
        ]

    def group(self, sequence: int) -> list[bytes]:
        """The frames of a group."""
        return self._groups[sequence % len(self._groups)]


def _frame(noise: bytes, number: int, size: int) -> bytes:
    start = number * 8 % (len(noise) - size)
    return number.to_bytes(4, "big") + noise[start : start + size - 4]


class Groups(Arrivals):
    """The groups that one subscriber has got."""

    def __init__(self, content: Content) -> None:
        super().__init__("groups")
        self._content = content
        self._seen: set[int] = set()

    def take(self, sequence: int, frames: list[bytes]) -> None:
        """Notes a group.

        Raises:
            Failed: it is not what was sent.
        """
        if sequence == 0:
            self.ready.set()
            return
        if frames != self._content.group(sequence):
            raise Failed(f"group {sequence} is not as it was sent: {self._difference(sequence, frames)}")
        if sequence in self._seen:
            raise Failed(f"group {sequence} came twice")
        self._seen.add(sequence)
        self.arrived()

    def _difference(self, sequence: int, frames: list[bytes]) -> str:
        sent = self._content.group(sequence)
        if len(frames) != len(sent):
            return f"{len(frames)} frames of {len(sent)}"
        index = next(index for index, (mine, theirs) in enumerate(zip(frames, sent, strict=True)) if mine != theirs)
        return f"frame {index} differs" + (", the order is wrong" if sorted(frames) == sorted(sent) else "")

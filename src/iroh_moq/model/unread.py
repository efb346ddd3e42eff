"""How much of a track its slowest readers have yet to read, at the cost of what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .group import GroupState

__all__ = ["Unread"]


class Unread:
    """The sum, over the groups of a track, of what the slowest reader of each has not read.

    Nothing is counted before somebody asks for the first time. From then on, whoever changes
    anything says of which group, and only those are counted anew at the next question.
    """

    __slots__ = ("_stale", "_total")

    def __init__(self) -> None:
        self._stale: set[GroupState] | None = None
        self._total = 0

    def changed(self, group: GroupState) -> None:
        """Something was written to a group or read of it, or it is awaited no more."""
        if self._stale is not None:
            self._stale.add(group)

    def all_changed(self) -> None:
        """A reader came, left, or changed what it wants."""
        self._stale = None

    def removed(self, group: GroupState) -> None:
        """A group is not the track's any more."""
        if self._stale is not None:
            self._stale.discard(group)
            self._total -= group.unread
        group.unread = 0

    def total(self, groups: dict[int, GroupState]) -> int:
        """Bytes that are unread in all the groups of the track."""
        # What a finalizer says meanwhile counts the next time.
        stale, self._stale = self._stale, set()
        if stale is None:
            self._total = 0
            for group in groups.values():
                group.unread = group.backlog()
                self._total += group.unread
            return self._total
        for group in stale:
            if groups.get(group.sequence) is group:
                unread = group.backlog()
                self._total += unread - group.unread
                group.unread = unread
        return self._total

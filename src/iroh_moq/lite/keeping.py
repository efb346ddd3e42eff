"""What outlives a connection: the peer's broadcasts, and the tracks that are being read of them.

A session that comes back goes on where it was, so its readers notice nothing but the time that it
took. When a connection is lost, what was read waits in a `Kept`; the next connection takes it from
there, each track once its broadcast is announced again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..errors import ErrorCode, MoqError, SessionClosed, SessionError
from ..model.broadcast import BroadcastState
from ..model.group import GroupState
from ..model.origin import OriginState
from ..model.track import TrackState

__all__ = ["Kept", "Parked", "Progress"]

_HEADS = 1 << 16
"""How many groups are remembered by their first frames."""

_AHEAD = 1 << 16
"""How many groups may have overtaken one that is still waited for."""


class Progress:
    """How far a track has come, over all connections, and how the peer's numbers relate to ours.

    A peer that was restarted may count its groups anew. Its numbers then get an ``offset``, so that the
    reader's go on.
    """

    __slots__ = ("_ahead", "_early", "_had", "_had_ahead", "_heads", "_open", "first", "offset", "through")

    def __init__(self, through: int = 0) -> None:
        self.offset = 0
        """What is added to the peer's number to get ours."""
        self.through = through
        """Every group before this one has begun, or will never come."""
        self.first: int | None = None
        """The first group that is wanted after a loss; None if there was none."""
        self._ahead: set[int] = set()
        """Groups after ``through`` that have begun."""
        self._heads: dict[int, int] = {}
        self._had = 0
        self._had_ahead: frozenset[int] = frozenset()
        self._open: dict[int, GroupState] = {}
        self._early: list[GroupState] = []

    @classmethod
    def of(cls, track: TrackState) -> Progress:
        """That of a track which nobody has followed."""
        return cls(0 if track.latest is None else track.latest + 1)

    # While a connection lasts

    def begun(self, number: int, reliable: bool = False) -> None:
        """A group has begun; an older one may still be on its way."""
        if number >= self.through:
            ahead = self._ahead
            ahead.add(number)
            if len(ahead) > _AHEAD and not reliable:
                # Whatever is this far behind is not waited for any more, as one that never says what it is would
                # keep all of them in mind. Those of a reliable track are bounded by what may be unread.
                self.through = max(ahead) + 1
                ahead.clear()

    def begins_with(self, number: int, frame: bytes) -> None:
        """The first frame of a group has come."""
        heads = self._heads
        heads[number] = hash(frame)
        if len(heads) > _HEADS:
            del heads[next(iter(heads))]

    def began_with(self, number: int, frame: bytes) -> bool:
        """Whether a group may be the one of that number which has begun before."""
        head = self._heads.get(number)
        return head is None or head == hash(frame)

    def reached(self, number: int, track: TrackState) -> None:
        """A group has come, and none before it is on its way any more."""
        if number >= self.through:
            self.through = number + 1
            if self._ahead:
                self._ahead = {ahead for ahead in self._ahead if ahead > number}
        if self._open:
            for sequence in [sequence for sequence in self._open if sequence < number]:
                self.give_up(track, self._open.pop(sequence))
        if self._early:
            settled = [group for group in self._early if group.sequence <= number]
            self._early = [group for group in self._early if group.sequence > number]
            for group in settled:
                track.settle(group)

    def completed(self, track: TrackState) -> None:
        """No group of the track will come any more."""
        for group in self._open.values():
            self.give_up(track, group)
        self._open.clear()
        early, self._early = self._early, []
        for group in early:
            track.settle(group)

    # After a loss

    def lost(self, track: TrackState, reliable: bool) -> None:
        """The connection is lost: remembers what is not whole.

        Where nothing may be lost, that is asked for again, and what came after it waits its turn. Else
        only the latest group is, as the others would be old.
        """
        self._open = {}
        self._early = []
        for sequence in list(track.sequences):
            group = track.groups[sequence]
            if not group.closed:
                if reliable or sequence == track.latest:
                    self._open[sequence] = group
                else:
                    self.give_up(track, group)
            if group.early and not reliable:
                track.settle(group)
        self.first = min([self.through, *self._open])
        # Those of an earlier loss count as well, as far as they are still ahead.
        self._had_ahead = frozenset(n for n in self._had_ahead | self._ahead if n >= self.through)
        self._had, self._ahead = self.through, set()
        if reliable:
            for sequence in track.sequences:
                if sequence > self.through:
                    track.groups[sequence].early = True
                    self._early.append(track.groups[sequence])

    def meet(self, sequence: int, head: int | None, track: TrackState, reliable: bool) -> None:
        """The peer is back, and this is its latest group: decides whether it counts as it did.

        A group that we had under this number, and that now begins otherwise, is another one.

        Args:
            sequence: the group's number.
            head: the hash of its first frame, if it has one and we need to know.
            track: what it is a group of.
            reliable: whether the reader wants all that the peer has.
        """
        number = sequence + self.offset
        known = self._heads.get(number)
        if number >= self.through or (reliable and known is None) or (known is not None and known == head):
            return
        base = max(self.through, -1 if track.latest is None else track.latest + 1, *(n + 1 for n in self._had_ahead))
        self.offset = base if reliable else base - sequence
        self.first = self._had = self.through = base
        self._had_ahead = frozenset()
        self.completed(track)

    def has_had(self, number: int) -> bool:
        """Whether a group came before the loss, so that it is of no use once more."""
        return number < self._had or number in self._had_ahead

    def take_open(self, number: int) -> GroupState | None:
        """The group of that number which the loss has cut off, to go on with."""
        return self._open.pop(number, None)

    @staticmethod
    def give_up(track: TrackState, group: GroupState) -> None:
        """The rest of a group will not come."""
        track.forget(group, MoqError(ErrorCode.OLD, f"group {group.sequence} of track {track.name!r} was cut off"))


@dataclass(frozen=True, slots=True)
class Parked:
    """A track that waits for its broadcast. Without ``progress`` it was never asked for."""

    path: str
    broadcast: BroadcastState
    track: TrackState
    progress: Progress | None
    reliable: bool


class Kept:
    """What waits for the next connection of a session."""

    def __init__(self) -> None:
        self.enabled = False
        """Whether the session comes back."""
        self.grace = 5.0
        """Seconds that a peer has, once it is back, to announce a broadcast again: nothing in the protocol marks
        the end of what it announces at first."""
        self.loss: SessionError | None = None
        """How the last connection was lost, if there is no other yet."""
        self._broadcasts: dict[str, BroadcastState] = {}
        self._asked: dict[str, BroadcastState] = {}
        self._tracks: dict[TrackState, Parked] = {}
        self._grace: asyncio.TimerHandle | None = None

    def keeps(self, error: SessionError) -> bool:
        """Whether a connection that ends like this is followed by another.

        Code 0 is how a peer shuts down, perhaps to be started again; any other is meant for us.
        """
        return self.enabled and not error.local and error.code in (None, 0)

    def park(self, announced: dict[str, BroadcastState], asked: dict[str, BroadcastState], error: SessionError) -> None:
        """The connection is lost. Its tracks come one by one."""
        self._stop_grace()
        self.loss = error
        self._broadcasts.update(announced)
        self._asked.update(asked)

    def park_track(self, parked: Parked) -> None:
        """A track waits."""
        self._tracks[parked.track] = parked

    def attached(self) -> dict[str, BroadcastState]:
        """There is a connection again. Gives the broadcasts that need no announcement."""
        self.loss = None
        if self._broadcasts:
            self._grace = asyncio.get_running_loop().call_later(self.grace, self._expire)
        asked, self._asked = self._asked, {}
        return asked

    def returned(self, path: str) -> BroadcastState | None:
        """A broadcast is announced again: that which waits for it, if one does."""
        broadcast = self._broadcasts.pop(path, None)
        if broadcast is not None and not self._broadcasts:
            self._stop_grace()
        return None if broadcast is None or broadcast.closed else broadcast

    def take_tracks(self, broadcast: BroadcastState) -> list[Parked]:
        """The tracks that wait for a broadcast."""
        taken = [parked for parked in self._tracks.values() if parked.broadcast is broadcast]
        for parked in taken:
            del self._tracks[parked.track]
        return taken

    def end(self, origin: OriginState, error: SessionClosed) -> None:
        """No connection will come any more."""
        self.enabled = False
        self._stop_grace()
        for parked in self._tracks.values():
            parked.track.fail(error, discard=False)
        self._tracks.clear()
        for broadcast in [*origin.active.values(), *self._asked.values(), *self._broadcasts.values()]:
            broadcast.end(error)
        self._asked.clear()
        self._broadcasts.clear()
        origin.close(error)

    def _expire(self) -> None:
        """What is not announced again by now is no more."""
        self._grace = None
        gone, self._broadcasts = self._broadcasts, {}
        for broadcast in gone.values():
            for parked in self.take_tracks(broadcast):
                what = f"broadcast {parked.path!r} was not announced again by the peer, which is back"
                parked.track.fail(MoqError(ErrorCode.DROPPED, what), discard=False)
            broadcast.end(None)

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

"""Tracks: a live sequence of groups, written by one producer and read by any number of consumers.

Producer and consumers share a `TrackState`, which keeps the latest groups within a `Cache`. A
consumer is a `Reader` (a few numbers: where it is and what it wants) over that state, so one
that reads nothing costs nothing, and none can hold up the producer or another consumer.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from copy import copy
from dataclasses import replace
from heapq import heappop, heappush
from itertools import chain
from operator import attrgetter
from types import TracebackType
from typing import Any, TypeVar

from ..aio import Signal
from ..errors import Error, ErrorCode, MoqError
from .cache import DEFAULT_CACHE, Cache
from .checks import check_code
from .group import GroupConsumer, GroupProducer, GroupState, check_frame
from .info import DEFAULT_TIMESCALE, Datagram, TimedFrame, TrackInfo, check_timestamp
from .subscription import MAX_GROUP, Subscription, check_sequence, combine
from .unread import Unread

__all__ = ["MAX_DATAGRAM_SIZE", "Reader", "TrackConsumer", "TrackProducer", "TrackState", "max_age_of"]

MAX_DATAGRAM_SIZE = 1200
"""The most that a datagram can hold, in bytes; what a connection can carry is less, see `write_datagram`."""

_DATAGRAMS = 256
"""How many datagrams are kept for those who read slowly."""

_BEING_READ = 8
"""How many of the oldest groups are looked at for what can be dropped of them before one goes as a whole."""

_SKIPPED = frozenset({ErrorCode.OLD, ErrorCode.EVICTED})
"""How groups end that were dropped to keep up. A consumer that has not begun one never sees it."""


Frame = TypeVar("Frame")


class Reader:
    """Where one consumer is in a track.

    In order of sequence it wants groups from ``floor`` on; in order of arrival, those from
    the one numbered ``arrival`` on. It starts in order of sequence, and the first
    ``recv_group`` turns it to arrival, for good.

    Groups after its end must not hold up those that come later and lie before it, so a reader by
    arrival puts them aside: ``held`` while they are after the end, then ``released``. And one that
    is reliable puts aside those that have overtaken others, to give the older ones first: whoever it
    passes them on to would miss those that come later. They are ``early`` until then.
    """

    __slots__ = (
        "arrival",
        "aside",
        "by_arrival",
        "datagram",
        "early",
        "floor",
        "held",
        "released",
        "start",
        "subscription",
    )

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.by_arrival = False
        self.arrival = 0
        self.datagram = 0
        """The number of the datagram it gets next."""
        self.floor = self.start = 0
        self.aside: dict[int, GroupState] = {}
        """The groups that are held or released, by arrival."""
        self.held: list[tuple[int, int]] = []
        """A heap of sequences and arrivals: an update lets the lowest sequences go."""
        self.released: list[int] = []
        """A heap of arrivals."""
        self.early: list[tuple[int, int]] = []
        """A heap of sequences and arrivals."""

    def hold(self, group: GroupState) -> None:
        self.aside[group.arrival] = group
        heappush(self.held, (group.sequence, group.arrival))

    def release(self) -> None:
        """Lets go of the groups that are not after the end any more."""
        end = self.subscription.end_group
        while self.held and (end is None or self.held[0][0] <= end):
            heappush(self.released, heappop(self.held)[1])

    def wait_for_older(self, group: GroupState) -> None:
        self.aside[group.arrival] = group
        heappush(self.early, (group.sequence, group.arrival))

    def take_settled(self, before: float, kept: dict[int, GroupState]) -> GroupState | None:
        """The first of those that have overtaken others, if these have come, or it is not in the cache any more, and it
        lies before that sequence."""
        if self.early and self.early[0][0] < before:
            group = self.aside[self.early[0][1]]
            if not group.early or kept.get(group.sequence) is not group:
                heappop(self.early)
                return self.aside.pop(group.arrival)
        return None

    def take_released(self) -> GroupState:
        return self.aside.pop(heappop(self.released))

    def forget_aside(self, kept: dict[int, GroupState]) -> None:
        """Lets go of the groups that have left the cache."""
        self.aside = {arrival: group for arrival, group in self.aside.items() if kept.get(group.sequence) is group}
        # Sorted lists, as they stay when some are left out, are heaps.
        self.held = sorted(entry for entry in self.held if entry[1] in self.aside)
        self.released = sorted(arrival for arrival in self.released if arrival in self.aside)
        self.early = sorted(entry for entry in self.early if entry[1] in self.aside)

    def awaits(self, group: GroupState) -> bool:
        """Whether a producer that waits for its readers waits for this one to come to the group.

        Of groups past its end, only a reliable reader is sure to want them later.
        """
        end = self.subscription.end_group
        if end is not None and group.sequence > end and not self.subscription.reliable:
            return False
        if group.beheaded:
            return False
        if self.by_arrival:
            to_come = group.arrival >= self.arrival or group.arrival in self.aside
            return to_come and group.sequence >= self.start
        return group.sequence >= self.floor


def max_age_of(cache: Cache) -> float | None:
    """How long groups are kept, where there is a limit."""
    return None if cache.max_age == math.inf else cache.max_age


class TrackState:
    """What a track's producer and consumers share."""

    __slots__ = (
        "arrivals",
        "cache",
        "changed",
        "cost",
        "datagram_came",
        "datagram_sinks",
        "datagrams",
        "datagrams_came",
        "delivered",
        "demand",
        "dropped_through",
        "error",
        "finished",
        "groups",
        "info",
        "informed",
        "last_datagram",
        "log",
        "name",
        "priority",
        "progress",
        "readers",
        "sequences",
        "uninformed",
        "unread",
        "without_datagrams",
    )

    def __init__(
        self, name: str, priority: int = 0, cache: Cache = DEFAULT_CACHE, timescale: int = DEFAULT_TIMESCALE
    ) -> None:
        self.name = name
        self.priority = priority
        self.cache = cache
        self.info: TrackInfo | None = TrackInfo(priority, False, max_age_of(cache), timescale)
        """What does not change; None while the peer has yet to tell."""
        self.uninformed: Error | None = None
        """Why the peer does not tell."""
        self.informed = Signal()
        self.cost = 0
        self.groups: dict[int, GroupState] = {}
        self.sequences: list[int] = []
        self.log: list[GroupState] = []
        """The groups in the order in which they came; some have left the cache since."""
        self.arrivals = 0
        """How many groups have ever come."""
        self.delivered = 0
        """How many peers have been sent all of it, to its end."""
        self.dropped_through = -1
        """The highest sequence that has left the cache."""
        self.readers: set[Reader] = set()
        self.unread = Unread()
        self.datagrams: deque[tuple[int, int | None, bytes]] = deque(maxlen=_DATAGRAMS)
        """The latest datagrams: sequence, timestamp, bytes."""
        self.datagrams_came = 0
        """How many there have ever been."""
        self.last_datagram = -1
        self.datagram_came = Signal()
        self.datagram_sinks: dict[Callable[[int, int | None, bytes], None], Callable[[], int]] = {}
        """Those who pass datagrams on at once, each with what tells how large they may be."""
        self.without_datagrams: Error | None = None
        """Why none can come."""
        self.finished = False
        self.error: Error | None = None
        self.changed = Signal()
        """A group came, or the track ended."""
        self.demand = Signal()
        """A consumer came, left, or changed its wishes."""
        self.progress = Signal()
        """A consumer read something, or will not come to a group after all."""

    @property
    def closed(self) -> bool:
        return self.finished or self.error is not None

    @property
    def latest(self) -> int | None:
        return self.sequences[-1] if self.sequences else None

    @property
    def subscription(self) -> Subscription | None:
        """One subscription that serves every consumer, or None without any."""
        return combine([reader.subscription for reader in list(self.readers)], self.latest)

    # What does not change

    @property
    def told_info(self) -> TrackInfo | None:
        """What the track is, with its priority as it is now; None while the peer has yet to tell."""
        return None if self.info is None else replace(self.info, priority=self.priority)

    def inform(self, info: TrackInfo) -> None:
        """The peer has told what the track is."""
        self.info = info
        self.informed.notify()

    def not_informed(self, error: Error) -> None:
        """The peer will not tell."""
        self.uninformed = error
        self.informed.notify()

    async def known(self) -> TrackInfo:
        while self.info is None:
            if self.uninformed is not None:
                raise copy(self.uninformed)
            await self.informed.wait()
        return self.info

    # Datagrams

    def add_datagram(self, sequence: int, time: int | None, data: bytes) -> None:
        self.last_datagram = max(self.last_datagram, sequence)
        self.datagrams.append((sequence, time, data))
        self.datagrams_came += 1
        for sink in list(self.datagram_sinks):
            sink(sequence, time, data)
        self.datagram_came.notify()

    def next_datagram(self, reader: Reader) -> tuple[int, int | None, bytes] | None:
        """The oldest datagram that is kept and that this reader has not had."""
        first = self.datagrams_came - len(self.datagrams)
        if reader.datagram >= self.datagrams_came:
            return None
        # Those in between are lost.
        reader.datagram = max(reader.datagram, first) + 1
        return self.datagrams[reader.datagram - 1 - first]

    # Writing

    def create_group(self, sequence: int) -> GroupState:
        if self.finished or self.error is not None:
            raise self.not_writable()
        if sequence in self.groups:
            raise MoqError(ErrorCode.DUPLICATE, f"track {self.name!r} has a group {sequence} already")
        group = GroupState(sequence, self.arrivals, self)
        self.arrivals += 1
        sequences = self.sequences
        if not sequences:
            sequences.append(sequence)
        elif sequence > sequences[-1]:
            self.groups[sequences[-1]].superseded = group.created
            sequences.append(sequence)
        else:
            insort(sequences, sequence)
            group.superseded = group.created
        self.groups[sequence] = group
        self.log.append(group)
        self.cost += group.cost
        self._evict(group.created)
        self.changed.notify()
        return group

    def next_sequence(self) -> int:
        # Datagrams have numbers among those of the groups.
        return max(-1 if self.latest is None else self.latest, self.last_datagram) + 1

    def settle(self, group: GroupState) -> None:
        """No older group can be on its way any more, so those who read in order need not wait."""
        group.early = False
        self.changed.notify()

    def finish(self) -> None:
        if not self.closed:
            self.finished = True
            self._ended()

    def _ended(self) -> None:
        self.changed.notify()
        self.demand.notify()
        self.datagram_came.notify()

    def fail(self, error: Error, *, discard: bool) -> None:
        """Ends the track with an error. ``discard`` ends its groups too and empties the cache;
        without it, what is there stays readable and only unfinished groups fail."""
        if self.closed and not discard:
            return
        self.error = self.error or error
        for group in list(self.groups.values()):
            if discard or not group.closed:
                group.fail(error, discard=discard)
        if discard:
            self.groups.clear()
            self.sequences.clear()
            self.cost = 0
            self.unread.all_changed()
            self._trim_log()
        if self.info is None and self.uninformed is None:
            self.not_informed(self.error)
        self._ended()

    def not_writable(self) -> Error:
        if isinstance(self.error, MoqError):
            return copy(self.error)
        return MoqError(ErrorCode.CLOSED, f"track {self.name!r} has ended, so nothing more can be written")

    # The cache

    def add_cost(self, group: GroupState, cost: int) -> None:
        group.cost += cost
        self.unread.changed(group)
        if self.groups.get(group.sequence) is group:
            self.cost += cost
            if self.cost > self.cache.max_bytes:
                self._evict(time.monotonic())

    def shrink(self, limit: int) -> None:
        """Keeps no more than so many bytes, as if that were the cache's bound; not even the latest group if need be."""
        if self.cost <= limit:
            return
        self._evict(time.monotonic(), limit)
        if self.cost > limit and self.sequences:
            latest = self.groups[self.sequences[-1]]
            what = f"group {latest.sequence} of track {self.name!r}"
            self._drop(latest, MoqError(ErrorCode.EVICTED, f"there is no room for {what}"))

    def _evict(self, now: float, limit: int | None = None) -> None:
        limit = self.cache.max_bytes if limit is None else limit
        while len(self.sequences) > 1:
            oldest = self.groups[self.sequences[0]]
            if self.cost > limit:
                if self._trim_passed():
                    continue
                code = ErrorCode.EVICTED
            elif oldest.superseded is not None and now - oldest.superseded > self.cache.max_age:
                code = ErrorCode.OLD
            else:
                return
            self._drop(oldest, MoqError(code, f"group {oldest.sequence} of track {self.name!r} left the cache"))
        excess = self.cost - limit
        if excess > 0 and self.sequences:
            # A little more than needed, so that not every further frame has to trim again.
            self.groups[self.sequences[0]].trim(excess + limit // 8)

    def _trim_passed(self) -> bool:
        """Drops what every reader has passed of old groups that are being read, so that their rest can stay;
        whether there was any."""
        for sequence in self.sequences[: min(_BEING_READ, len(self.sequences) - 1)]:
            if self.groups[sequence].trim_passed():
                return True
        return False

    def _take(self, group: GroupState) -> None:
        del self.groups[group.sequence]
        del self.sequences[bisect_left(self.sequences, group.sequence)]
        self.cost -= group.cost
        self.unread.removed(group)

    def _drop(self, group: GroupState, error: MoqError) -> None:
        self._take(group)
        self.dropped_through = max(self.dropped_through, group.sequence)
        group.fail(error, discard=True)
        self._trim_log()
        if self.closed:
            # It may be the last one that a reader has waited for, which hears of the end now.
            self.changed.notify()

    def keeps(self, group: GroupState) -> bool:
        """Whether a group is in the cache."""
        return self.groups.get(group.sequence) is group

    def forget(self, group: GroupState, error: MoqError) -> None:
        """Drops a group that never came whole; consumers that have begun it get the error."""
        if self.keeps(group):
            self._drop(group, error)

    async def room(self, group: GroupState, limit: int, ahead: int) -> None:
        """Waits until there is room for more of a group, in a track with one reliable consumer.

        The group that the consumer is at, or comes to next, may have ``limit`` bytes unread; the
        others share ``ahead`` bytes. Were they to share one bound, groups ahead could use it up
        and the one that is needed would never come. What has been read is let go of.
        """
        while group.error is None:
            group.trim_read(limit)
            if not self.crowded(ahead):
                return
            needed = bool(group.cursors) or group.sequence <= self._next_wanted()
            if needed and group.backlog() <= limit:
                return
            await self.progress.wait()

    def crowded(self, limit: int) -> bool:
        """Whether over ``limit`` bytes are unread; the groups that every reader has passed are let go."""
        read = 0
        for sequence in self.sequences[: bisect_left(self.sequences, self._floor())]:
            passed = self.groups[sequence]
            if self.awaited(passed):
                continue
            if not passed.closed or sequence == self.latest:
                # The latest stays, to tell what number comes next.
                read += passed.cost - passed.backlog()
                continue
            self._take(passed)
            if not passed.cursors:
                passed.clear()
        self._trim_log()
        return self.cost - read > limit

    def _floor(self) -> int:
        return min((reader.floor for reader in list(self.readers)), default=0)

    def _next_wanted(self) -> int:
        floor = self._floor()
        index = bisect_left(self.sequences, floor)
        return self.sequences[index] if index < len(self.sequences) else floor

    def _trim_log(self) -> None:
        # In large steps, as each goes over all of it.
        if len(self.log) > 2 * len(self.groups) + 64:
            self.log = [group for group in self.log if self.groups.get(group.sequence) is group]

    def _log_index(self, reader: Reader) -> int:
        """Where in the log the groups begin that a reader by arrival has not been given."""
        # Every arrival is in the log but those it has been trimmed of, so this is where it is, or after it.
        index = len(self.log) - (self.arrivals - reader.arrival)
        if 0 <= index < len(self.log) and self.log[index].arrival == reader.arrival:
            return index
        return bisect_left(self.log, reader.arrival, key=attrgetter("arrival"))

    # Reading

    def attach(self, subscription: Subscription) -> Reader:
        reader = Reader(subscription)
        if subscription.start_group is not None:
            reader.floor = reader.start = subscription.start_group
        elif self.sequences:
            latest = self.groups[self.sequences[-1]]
            reader.floor = reader.start = latest.sequence
            reader.arrival = latest.arrival
        else:
            reader.arrival = self.arrivals
        reader.datagram = self.datagrams_came
        self.unread.all_changed()
        self.readers.add(reader)
        self.demand.notify()
        return reader

    def detach(self, reader: Reader) -> None:
        if reader in self.readers:
            self.readers.discard(reader)
            self.unread.all_changed()
            self.demand.notify()
            self.progress.notify()

    def awaited(self, group: GroupState) -> bool:
        """Whether a reader has yet to come to the group."""
        if self.groups.get(group.sequence) is not group:
            return False
        for reader in list(self.readers):  # noqa: SIM110 - this is asked for every group, and a loop is faster
            if reader.awaits(group):
                return True
        return False

    def backlog_through(self, group: GroupState) -> int:
        """Bytes that slow readers have not read, in this group and those before it."""
        total = self.unread.total(self.groups)
        if not self.sequences or group.sequence >= self.sequences[-1]:
            return total
        later = self.sequences[bisect_right(self.sequences, group.sequence) :]
        return total - sum(self.groups[sequence].unread for sequence in later)

    def next_in_order(self, reader: Reader) -> tuple[GroupState | None, float | None]:
        """The next group by sequence, or None and how many seconds until it is worth another look."""
        wishes = reader.subscription
        index = bisect_left(self.sequences, reader.floor)
        while index < len(self.sequences):
            group = self.groups[self.sequences[index]]
            if wishes.end_group is not None and group.sequence > wishes.end_group:
                break
            if self._passed(group, wishes.max_latency):
                reader.floor = group.sequence + 1
                group.moved()
                index += 1
                continue
            if group.early and group.sequence != reader.floor:
                if wishes.max_latency is None:
                    return None, None
                patience = group.created + wishes.max_latency - time.monotonic()
                if patience > 0:
                    return None, patience
            reader.floor = group.sequence + 1
            if reader.by_arrival:
                # So that neither order gives a group which the other has passed.
                reader.start = reader.floor
            # To come to a group without frames is all that its producer can wait for.
            group.moved()
            return group, None
        return None, None

    def next_arrived(self, reader: Reader) -> GroupState | None:
        """The next group in the order in which they came."""
        wishes = reader.subscription
        while (group := self._take_arrived(reader)) is not None:
            if not self.keeps(group) or group.sequence < reader.start:
                continue
            if wishes.end_group is not None and group.sequence > wishes.end_group:
                reader.hold(group)
                group.moved()
                if len(reader.aside) > 2 * len(self.groups) + 64:
                    reader.forget_aside(self.groups)
                continue
            if self._passed(group, wishes.max_latency):
                self.dropped_through = max(self.dropped_through, group.sequence)
                group.moved()
                continue
            group.moved()
            return group
        return None

    def _take_arrived(self, reader: Reader) -> GroupState | None:
        if reader.released:
            return reader.take_released()
        index = self._log_index(reader)
        while index < len(self.log) and self.log[index].overtook and reader.subscription.reliable:
            reader.wait_for_older(self.log[index])
            reader.arrival = self.log[index].arrival + 1
            index += 1
        following = self.log[index] if index < len(self.log) else None
        settled = reader.take_settled(math.inf if following is None else following.sequence, self.groups)
        if settled is not None:
            return settled
        if following is not None:
            reader.arrival = following.arrival + 1
        return following

    def _passed(self, group: GroupState, max_latency: float | None) -> bool:
        """Whether a reader that has not begun this group is better off without it."""
        error = group.error
        if isinstance(error, MoqError) and error.code in _SKIPPED:
            return True
        if group.beheaded:
            return True
        if max_latency is None or group.superseded is None:
            return False
        return time.monotonic() - group.superseded > max_latency

    def left_for(self, reader: Reader) -> bool:
        """Whether the cache still has groups that this reader is to be given.

        Those past its end are kept for it, as it may yet ask for them; but not after an error, of
        which it would never hear if those that it waits for are among what was lost.
        """
        end = reader.subscription.end_group if self.error is not None else None
        last = math.inf if end is None else end
        if reader.by_arrival:
            return any(
                self.keeps(group) and reader.start <= group.sequence <= last
                for group in chain(reader.aside.values(), self.log[self._log_index(reader) :])
            )
        index = bisect_left(self.sequences, reader.floor)
        return index < len(self.sequences) and self.sequences[index] <= last


class TrackProducer:
    """Writes a track. Nothing here waits for a reader, except the methods that say so."""

    def __init__(self, state: TrackState) -> None:
        self._state = state

    @property
    def name(self) -> str:
        """The track's name in its broadcast."""
        return self._state.name

    @property
    def latest(self) -> int | None:
        """The highest group sequence so far, or None before the first."""
        return self._state.latest

    @property
    def is_closed(self) -> bool:
        """Whether the track is finished or aborted, so that no group can be added."""
        return self._state.closed

    @property
    def delivered(self) -> int:
        """How many subscriptions of peers were sent every group of the track to its end: all of those from the
        first, or from that which they had asked for. Where numbers have gaps there is none."""
        return self._state.delivered

    @property
    def is_used(self) -> bool:
        """Whether anybody reads the track now."""
        return bool(self._state.readers)

    def append_group(self) -> GroupProducer:
        """Begins the group after the highest so far (0 in a new track).

        Raises:
            InvalidArgument: the highest so far has the last number there is.
            MoqError: the track has ended.
        """
        return GroupProducer(self._append())

    def _append(self) -> GroupState:
        sequence = self._state.next_sequence()
        if sequence > MAX_GROUP:
            check_sequence(sequence, "sequence")
        return self._state.create_group(sequence)

    def create_group(self, sequence: int) -> GroupProducer:
        """Begins the group of that number, in any order; gaps are allowed.

        Raises:
            InvalidType, InvalidArgument: ``sequence`` is not a number from 0 to 2**62 - 2.
            MoqError: the group exists (code 12), or the track has ended.
        """
        return GroupProducer(self._state.create_group(check_sequence(sequence, "sequence")))

    @property
    def info(self) -> TrackInfo:
        """What does not change about the track."""
        state = self._state
        assert state.info is not None, "whoever writes a track knows what it is"
        return replace(state.info, priority=state.priority, max_age=max_age_of(state.cache))

    def write_frame(self, data: bytes | bytearray | memoryview, timestamp: float | None = None) -> None:
        """Writes a group of one frame.

        Raises:
            InvalidType, InvalidArgument, MoqError: as :meth:`GroupProducer.write_frame`.
        """
        # Looked at first: a group that has to be taken back would age those before it.
        frame = check_frame(data)
        time = None if timestamp is None else check_timestamp(timestamp, self.info.timescale)
        group = self._append()
        group.write(frame, time)
        group.finish()

    def write_datagram(self, data: bytes | bytearray | memoryview, timestamp: float | None = None) -> int:
        """Sends bytes to whoever reads the track's datagrams, each by itself: they may be lost, or overtake another.

        What a reader has not read is kept for it up to 256 datagrams of the track; then the oldest is lost to
        it first. The same holds for the connection, which sends what it can and keeps little. Datagrams and
        groups share their numbers. They reach peers that speak moq-lite-05, and others not at all.

        Args:
            data: the bytes.
            timestamp: as for :meth:`GroupProducer.write_frame`.

        Returns:
            The number of the datagram in the track.

        Raises:
            InvalidType, InvalidArgument: ``data`` is not a bytes-like object, or ``timestamp`` cannot be used.
            MoqError: they are more than fits a packet on the way to one of the peers that read the track now, or
                than `MAX_DATAGRAM_SIZE` (code 27), or the track has ended.
        """
        frame, state = check_frame(data), self._state
        time = None if timestamp is None else check_timestamp(timestamp, self.info.timescale)
        limit = min([MAX_DATAGRAM_SIZE, *(limit() for limit in state.datagram_sinks.values())])
        if len(frame) > limit:
            raise MoqError(ErrorCode.FRAME_TOO_LARGE, f"a datagram of {len(frame)} bytes; at most {limit} fit now")
        if state.closed:
            raise state.not_writable()
        sequence = check_sequence(state.next_sequence(), "sequence")
        state.add_datagram(sequence, time, frame)
        return sequence

    def consume(
        self,
        *,
        priority: int = 0,
        ordered: bool = False,
        max_latency: float | None = None,
        start_group: int | None = None,
        end_group: int | None = None,
    ) -> TrackConsumer:
        """A consumer of this track; the arguments are those of `BroadcastConsumer.subscribe_track`."""
        return TrackConsumer(self._state, Subscription(priority, ordered, max_latency, start_group, end_group))

    def finish(self) -> None:
        """Says that no group will follow. Groups that were begun can still be written and finished.

        Raises:
            MoqError: the track was aborted.
        """
        if self._state.error is not None:
            raise self._state.not_writable()
        self._state.finish()

    def abort(self, code: int) -> None:
        """Ends the track and its groups with an error that every reader sees at once.

        A track that is already closed stays as it is.

        Raises:
            InvalidType, InvalidArgument: the code is not a number from 0 to 2**32 - 1.
        """
        check_code(code)
        if not self._state.closed:
            self._state.fail(MoqError(code, f"track {self.name!r} was aborted"), discard=True)

    async def used(self) -> None:
        """Waits until somebody reads the track.

        Raises:
            MoqError: the track has ended.
        """
        while not self._state.readers:
            if self._state.closed:
                raise self._state.not_writable()
            await self._state.demand.wait()

    async def unused(self) -> None:
        """Waits until nobody reads the track (any more).

        After :meth:`finish` this is how a program ends without losing anything: a reader, here or at
        a peer, leaves once it has all of it.
        """
        while self._state.readers:
            await self._state.demand.wait()

    def __repr__(self) -> str:
        return f"<TrackProducer {self.name!r}, latest group {self.latest}>"


class TrackConsumer:
    """Reads a track: an asynchronous iterator of its groups, in ascending order.

    As a context manager it closes itself, so that a peer stops sending.
    """

    def __init__(self, state: TrackState, subscription: Subscription) -> None:
        self._state = state
        self._reader = state.attach(subscription)
        self._current: GroupConsumer | None = None
        """The group that is read frame by frame."""
        self._reading = False
        self._read_over = Signal()
        self._closed = False

    @property
    def name(self) -> str:
        """The track's name in its broadcast."""
        return self._state.name

    @property
    def subscription(self) -> Subscription:
        """What this consumer asks for now."""
        return self._reader.subscription

    @property
    def latest(self) -> int | None:
        """The highest group sequence seen so far, or None before the first."""
        return self._state.latest

    async def next_group(self) -> GroupConsumer | None:
        """The next group in ascending order, or None once the track has finished.

        A group that comes late, after a newer one was returned, is skipped, as are groups past
        ``max_latency`` or out of the cache. While it is known that an older group may still be on
        its way, waits for it, at most ``max_latency``.

        Raises:
            MoqError: the track was not found (code 13) or aborted.
            SessionClosed: the session it came over has ended.
        """
        while True:
            self._check_open()
            group, patience = self._state.next_in_order(self._reader)
            if group is not None:
                return GroupConsumer(group)
            if self._ended():
                return None
            await self._changed(patience)

    async def recv_group(self) -> GroupConsumer | None:
        """The next group in the order of arrival, or None once the track has finished.

        Raises:
            MoqError, SessionClosed: as :meth:`next_group`.
        """
        if not self._reader.by_arrival:
            self._reader.by_arrival = True
            self._reader.start = self._reader.floor
        while True:
            self._check_open()
            group = self._state.next_arrived(self._reader)
            if group is not None:
                # Reading in order afterwards goes on from here and gives none of these again.
                self._reader.floor = max(self._reader.floor, group.sequence + 1)
                return GroupConsumer(group)
            if self._ended():
                return None
            await self._state.changed.wait()

    async def read_frame(self) -> bytes | None:
        """The next frame of the track: all those of a group, then on to the next group.

        A group that ends in the middle because it was dropped (codes 2 and 31) is left for the
        next one. None once the track has finished.

        Raises:
            MoqError, SessionClosed: as :meth:`next_group`.
        """
        return await self._read(GroupConsumer.read_frame)

    async def read_timed_frame(self) -> TimedFrame | None:
        """As :meth:`read_frame`, with the frame's timestamp; see `GroupConsumer.read_timed_frame`.

        Raises:
            MoqError, SessionClosed: as :meth:`next_group`.
        """
        return await self._read(GroupConsumer.read_timed_frame)

    async def _read(self, read: Callable[[GroupConsumer], Awaitable[Frame | None]]) -> Frame | None:
        """The next frame of the track. Of several tasks that read, each waits its turn."""
        while self._reading:
            await self._read_over.wait()
        self._reading = True
        try:
            while True:
                if self._current is None:
                    self._current = await self.next_group()
                if self._current is None:
                    return None
                try:
                    frame = await read(self._current)
                except MoqError as error:
                    self._leave_current()
                    if error.code not in _SKIPPED:
                        raise
                    continue
                if frame is not None:
                    return frame
                self._leave_current()
        finally:
            self._reading = False
            self._read_over.notify()

    def _leave_current(self) -> None:
        """Lets go of the current group: who waits for the next one still has it at hand, and would hold it."""
        if self._current is not None:
            self._current.close()
            self._current = None

    async def info(self) -> TrackInfo:
        """What does not change about the track, as its publisher says.

        Raises:
            MoqError: the session's version of the protocol cannot tell (code 17), or the track was not found.
            SessionClosed: the session it would come over has ended.
        """
        state = self._state
        if state.uninformed is not None:
            raise copy(state.uninformed)
        return await state.known()

    async def recv_datagram(self) -> Datagram | None:
        """The next datagram in the order of arrival, or None once the track has ended; see
        `TrackProducer.write_datagram` for what becomes of those that are not read in time.

        Raises:
            MoqError: the session's version of the protocol has none (code 17), or the track was aborted.
            SessionClosed: the session they came over has ended.
        """
        state = self._state
        while True:
            self._check_open()
            if state.without_datagrams is not None:
                raise copy(state.without_datagrams)
            info = await state.known()
            found = state.next_datagram(self._reader)
            if found is not None:
                sequence, time, data = found
                return Datagram(sequence, data, None if time is None else time / info.timescale)
            if state.error is not None:
                raise copy(state.error)
            if state.closed:
                return None
            await state.datagram_came.wait()

    async def datagrams(self) -> AsyncGenerator[Datagram, None]:
        """The datagrams as they arrive, until the track ends; see :meth:`recv_datagram`."""
        while (datagram := await self.recv_datagram()) is not None:
            yield datagram

    def _check_open(self) -> None:
        if self._closed:
            raise MoqError(ErrorCode.CLOSED, f"this consumer of track {self.name!r} was closed")

    def _ended(self) -> bool:
        state = self._state
        if not state.closed or state.left_for(self._reader):
            return False
        if state.error is not None:
            raise copy(state.error)
        return True

    async def _changed(self, patience: float | None) -> None:
        if patience is None:
            await self._state.changed.wait()
            return
        timer = asyncio.get_running_loop().call_later(patience, self._state.changed.notify)
        try:
            await self._state.changed.wait()
        finally:
            timer.cancel()

    def update(self, **wishes: Any) -> None:
        """Changes what this consumer asks for; what is not named stays.

        Args:
            wishes: any of priority, ordered, max_latency, start_group and end_group, as in
                `BroadcastConsumer.subscribe_track`. Raising ``end_group`` (or None) releases the
                groups held after the old one; a ``start_group`` ahead skips to it.

        Raises:
            InvalidType, InvalidArgument: a value cannot be used.
            TypeError: there is no such wish.
        """
        subscription = replace(self._reader.subscription, **wishes)
        self._reader.subscription = subscription
        start = wishes.get("start_group")
        if start is not None and start > self._reader.start:
            self._reader.start = start
            self._reader.floor = max(self._reader.floor, start)
        self._reader.release()
        # Groups that were held back may be wanted now.
        self._state.unread.all_changed()
        self._state.changed.notify()
        self._state.demand.notify()
        self._state.progress.notify()

    def close(self) -> None:
        """Ends the subscription. Its reads, those that wait as well, end with an error (code 25).

        Groups it has given can still be read. Closing twice is allowed.
        """
        if not self._closed:
            self._closed = True
            self._leave_current()
            self._state.detach(self._reader)
            self._state.changed.notify()
            self._state.datagram_came.notify()

    def __repr__(self) -> str:
        return f"<TrackConsumer {self.name!r}, latest group {self.latest}>"

    def __aiter__(self) -> TrackConsumer:
        return self

    async def __anext__(self) -> GroupConsumer:
        group = await self.next_group()
        if group is None:
            raise StopAsyncIteration
        return group

    async def __aenter__(self) -> TrackConsumer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A consumer that was thrown away must not count as demand. The finalizer may run on any
        # thread, so it only drops the entry and leaves the waking to the loop.
        if not getattr(self, "_closed", True):
            state = self._state
            state.readers.discard(self._reader)
            state.unread.all_changed()
            state.demand.notify_threadsafe()
            state.progress.notify_threadsafe()

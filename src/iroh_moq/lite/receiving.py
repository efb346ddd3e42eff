"""The groups of our subscriptions, from their streams into their tracks.

What has arrived of a group is taken in where its stream is accepted, without a task; only what
comes later, or what there is no room for yet, needs one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

from ..aio import Signal, TaskScope
from ..errors import Error, ErrorCode, MoqError, SessionClosed, canonical
from ..model.broadcast import BroadcastState
from ..model.cache import Cache
from ..model.group import FRAME_OVERHEAD, GROUP_OVERHEAD, GroupState
from ..model.info import MAX_TIME
from ..model.subscription import MAX_GROUP, Subscription
from ..model.track import TrackState
from ..transport import (
    READ_SIZE,
    ConnectionLost,
    Received,
    RecvStream,
    StreamReset,
    Transport,
    TransportError,
)
from .budget import Budget
from .decoders import group_decoder
from .keeping import Kept, Progress
from .messages import Datagram, Setup
from .policy import Policy
from .reading import silent
from .version import Version

__all__ = ["Receiver", "Receiving"]

logger = logging.getLogger("iroh_moq.lite.receiving")

_RELIABLE_CACHE = Cache(max_bytes=1 << 30, max_age=float("inf"))
"""A reliable track is bounded by holding the peer back, so nothing unread may leave its cache."""

_GROUP_ROOM = 1024 * 1024
"""Unread bytes of a reliable track in the group that is being read."""

_TRACK_ROOM = 16 * 1024 * 1024
"""Unread bytes of a reliable track in its other groups. Beyond it they are left with the connection."""

_HOLD_ABOVE = 4 * 1024 * 1024
_RESUME_BELOW = 2 * 1024 * 1024
"""Unread bytes of a reliable track at which the peer is asked to hold back further groups, by an end
group, and at which it may go on. What is on its way until it has heard so has the rest of the room."""

_WAITING_STREAMS = 128
"""Groups of a reliable track that wait for room and do not count against those of other tracks."""

_HEADER_SIZE = 64
"""Bytes that hold any group's header, and little more."""

_BATCH = 64
_READS = 4
_TURN = 1024 * 1024
"""Streams, reads of a new one, and bytes of one that has a task, in one turn of the loop at most, so that
others have theirs."""

_SWEEP = 256
"""How many groups that have overtaken a stream are kept in mind before it is looked which of them still matter."""

_LOST = frozenset({ErrorCode.OLD, ErrorCode.EVICTED})
"""How a publisher resets groups that it gave up to keep up."""


class Receiver:
    """Accepts the publisher's streams, and knows which subscription each is for."""

    def __init__(self, transport: Transport, version: Version, tasks: TaskScope, policy: Policy, kept: Kept) -> None:
        self.transport = transport
        self.version = version
        self.policy = policy
        self.counters = policy.counters
        self.tasks = tasks
        self.kept = kept
        self.cut_off = False
        """Whether the connection was lost under a stream that had not yet said what it is."""
        self.setup: Setup | None = None
        """What the peer has said that it can do."""
        self.subscriptions: dict[int, Receiving] = {}
        self.arrivals = _Arrivals()
        self.reliable = 0
        """How many tracks are read of which nothing may be lost."""
        self.full = 0
        """How many groups of reliable tracks wait for room."""
        limits = policy.limits
        self.budget = Budget(limits.session_bytes, self._tracks, self._over_budget)
        self.open = 0
        """How many groups are on their way."""
        self._most = limits.uni_streams
        self._ended = Signal()
        self._batch = min(_BATCH, max(limits.groups_per_second // 8, 1))

    async def run(self) -> None:
        """Accepts until the connection ends, no faster than the peer may go."""
        transport, pace, accepted, weight = self.transport, self.policy.pace, 0, 0
        try:
            while True:
                stream = transport.accept_uni_nowait() or await transport.accept_uni()
                if self.open >= self._most:
                    await self._may_open()
                group = _GroupReceiver(self, stream)
                group.start()
                accepted += 1
                weight += group.weight
                if accepted >= self._batch or weight > _TURN:
                    await pace.begin_groups(logger, accepted)
                    accepted = weight = 0
        except ConnectionLost:
            return

    def allow_streams(self, more: int) -> None:
        """Raises the number of groups that may be on their way, or lowers it again."""
        self._most += more
        self.transport.allow_uni_streams(more)
        self._ended.notify()

    async def _may_open(self) -> None:
        """Waits until another group may be on its way."""
        self.policy.held(logger, "uni_streams", f"has {self.open} groups on their way")
        while self.open >= self._most:
            await self._ended.wait()

    def ended(self) -> None:
        """A group is on its way no more."""
        self.open -= 1
        if self._ended.waited:
            self._ended.notify()

    def _tracks(self) -> Iterator[tuple[TrackState, bool]]:
        for subscription in self.subscriptions.values():
            yield subscription.track, subscription.reliable

    def _over_budget(self) -> None:
        self.policy.held(logger, "session_bytes", f"has sent more than the {self.budget.limit} bytes that are kept")

    async def run_datagrams(self) -> None:
        """Takes datagrams until the connection ends. What means nothing, or is for nobody, is dropped."""
        taken = 0
        try:
            while True:
                data = await self.transport.read_datagram()
                try:
                    subscribe, sequence, time, payload = Datagram.decode(data)
                except MoqError as error:
                    logger.debug("a datagram of %s is dropped: %s", self.transport.remote_id, error)
                else:
                    self._datagram(subscribe, sequence, time, payload)
                taken += 1
                if taken % _BATCH == 0:
                    await asyncio.sleep(0)
        except TransportError:
            return

    def _datagram(self, subscribe: int, sequence: int, time: int, payload: bytes) -> None:
        subscription = self.subscriptions.get(subscribe)
        if subscription is not None and not subscription.track.closed and sequence <= MAX_GROUP and time <= MAX_TIME:
            if subscription.progress is not None:
                sequence += subscription.progress.offset
            subscription.track.add_datagram(sequence, time, payload)

    def set_up(self, setup: Setup) -> None:
        """The peer has said what it can do.

        Raises:
            MoqError: not for the first time.
        """
        if self.setup is not None:
            raise MoqError(ErrorCode.DUPLICATE, "a second SETUP")
        self.setup = setup

    async def settled(self) -> None:
        """Waits until everything the publisher had sent before has said what it is."""
        await self.transport.uni_settled()
        await self.arrivals.settled()


class Receiving:
    """One subscription of ours, and those of its groups that are under way."""

    __slots__ = (
        "_held_after",
        "_idle",
        "_receiver",
        "began",
        "broadcast",
        "cut_off",
        "glance",
        "id",
        "learning",
        "parked",
        "path",
        "progress",
        "reliable",
        "tasks",
        "track",
    )

    def __init__(
        self,
        id: int,
        path: str,
        broadcast: BroadcastState,
        track: TrackState,
        receiver: Receiver,
        progress: Progress | None = None,
        *,
        glance: bool = False,
    ) -> None:
        self.id = id
        self.progress = progress
        """How far the track has come, where a loss is to be survived."""
        self.glance = glance
        """Whether it is there only to learn the latest group, and goes with the connection."""
        self.parked = False
        """Whether the track waits for the next connection."""
        self.cut_off = False
        """Whether the connection was lost under one of its groups."""
        self.path = path
        self.broadcast = broadcast
        self.track = track
        self.reliable = False
        self.learning: asyncio.Task[None] | None = None
        """What asks for the properties of the track."""
        self.began: float | None = time.monotonic()
        """When it was asked for, until its first group has come."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._receiver = receiver
        self._held_after: int | None = None
        self._idle = Signal()

    # A reliable track holds the peer back while its reader is slow.

    def become_reliable(self) -> None:
        """Says that nothing may be lost."""
        self.reliable = True
        self.track.cache = _RELIABLE_CACHE
        # So that groups which wait for room never keep those of other tracks from coming.
        self._receiver.reliable += 1
        self._receiver.allow_streams(_WAITING_STREAMS)

    def has_room(self, group: GroupState) -> bool:
        """Whether more of a group may be taken in; asks the peer for no others once there is much to read."""
        track, tight = self.track, self._receiver.budget.is_tight
        if track.cost <= _HOLD_ABOVE and not tight:
            return True
        group.trim_read(_GROUP_ROOM)
        if not track.crowded(0 if tight else _HOLD_ABOVE):
            return True
        if self._held_after is None:
            self._held_after = track.latest
            track.demand.notify()
        return not tight and not track.crowded(_TRACK_ROOM)

    async def room(self, group: GroupState) -> None:
        """Waits until more of a group may be taken in."""
        await self.track.room(group, _GROUP_ROOM, 0 if self._receiver.budget.is_tight else _TRACK_ROOM)

    def within_room(self, wishes: Subscription) -> Subscription:
        """The wishes, with an end group while the peer is held back."""
        if self._held_after is None:
            return wishes
        if not self.track.crowded(0 if self._receiver.budget.is_tight else _RESUME_BELOW):
            self._held_after = None
            return wishes
        end = wishes.end_group
        return replace(wishes, end_group=self._held_after if end is None else min(end, self._held_after))

    async def changed(self, *, beside: asyncio.Future[None]) -> None:
        """Waits until the wishes may have changed, or there may be room again, or ``beside`` is done."""
        signals = [self.track.demand]
        if self._held_after is not None:
            signals.append(self.track.progress)
        changes = [signal.future() for signal in signals]
        try:
            await asyncio.wait((beside, *changes), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for signal, change in zip(signals, changes, strict=True):
                signal.forget(change)

    # A track whose connection is lost

    def lose(self, group: GroupState) -> None:
        """What the group has overtaken will not come. So a reliable reader must not get it, and hears of the end
        instead."""
        if self.reliable:
            error = MoqError(ErrorCode.DROPPED, f"what came before group {group.sequence} was lost")
            self.track.forget(group, error)
        else:
            self.track.settle(group)

    def in_numbers_of_peer(self, wishes: Subscription) -> Subscription:
        """The wishes as the peer counts, and without what has come before a loss."""
        progress = self.progress
        if progress is None or progress.first is None:
            return wishes
        start, end = max(wishes.start_group or 0, progress.first) - progress.offset, wishes.end_group
        return replace(
            wishes, start_group=max(start, 0), end_group=None if end is None else max(end - progress.offset, 0)
        )

    # The groups under way

    def add(self, task: asyncio.Task[None]) -> None:
        """A group is under way."""
        self.tasks.add(task)

    def remove(self, task: asyncio.Task[None]) -> None:
        """It has ended."""
        self.tasks.discard(task)
        self._idle.notify()

    async def drained(self) -> None:
        """Waits until no group is under way."""
        while self.tasks:
            await self._idle.wait()

    async def aclose(self) -> None:
        """Stops what is still under way."""
        for task in self.tasks:
            task.cancel()
        await self.drained()
        if self.reliable:
            self._receiver.reliable -= 1
            self._receiver.allow_streams(-_WAITING_STREAMS)


class _GroupReceiver:
    """The stream of one group."""

    __slots__ = (
        "_arrival",
        "_charged",
        "_decoder",
        "_group",
        "_over",
        "_receiver",
        "_resumes",
        "_skip",
        "_stream",
        "_subscription",
        "_task",
        "weight",
    )

    def __init__(self, receiver: Receiver, stream: RecvStream) -> None:
        self._receiver = receiver
        self._stream = stream
        self._arrival = receiver.arrivals.count()
        limits = receiver.policy.limits
        self._decoder = group_decoder(receiver.version, None, limits.frame_bytes, limits.message_bytes)
        self.weight = 0
        """What was kept of it in this turn of the loop."""
        self._subscription: Receiving | None = None
        self._group: GroupState | None = None
        self._charged = 0
        self._over = False
        """Whether no more of it will be taken in."""
        self._resumes = False
        """Whether it goes on with a group that was cut off, and has brought none of that yet."""
        self._skip = 0
        """How many of the frames to come we have."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Takes in what is there, and starts a task for the rest if there may be more."""
        read_nowait = self._stream.read_nowait
        # While a reliable track is full, what comes may be more of it, to be left with the connection.
        limit = _HEADER_SIZE if self._receiver.full else READ_SIZE
        try:
            for _ in range(_READS):
                data = read_nowait(limit)
                if data is None:
                    break
                if self._take(data):
                    return
                if self._must_wait():
                    break
                limit = READ_SIZE
        except Error as error:
            self._failed(error)
            return
        if self._subscription is None:
            self._receiver.arrivals.add(self._arrival)
        self._receiver.open += 1
        self._task = self._receiver.tasks.spawn(self._run(limit), "group")
        self._task.add_done_callback(self._ended)
        if self._subscription is not None:
            self._subscription.add(self._task)

    async def _run(self, limit: int) -> None:
        try:
            if self._subscription is None:
                await self._name(limit)
                limit = READ_SIZE
            while not self._over:
                if self._must_wait():
                    await self._room()
                if self._take(await self._stream.read(limit)):
                    return
                limit = READ_SIZE
                if self.weight > _TURN:
                    # Many small frames weigh more than they have bytes.
                    limit = READ_SIZE * _TURN // self.weight
                    self.weight = 0
                    await asyncio.sleep(0)
        except Error as error:
            self._failed(error)

    async def _name(self, limit: int) -> None:
        """Waits until the stream has said what it is, but not for ever.

        A stream is there as soon as a later one is, so on a bad network many may have to wait for their
        first packet. What they carry may be of a track of which nothing may be lost, if there is one.
        """
        seconds = self._receiver.policy.limits.message_seconds
        while self._subscription is None and not self._over:
            try:
                async with asyncio.timeout(seconds):
                    while self._subscription is None and not self._over:
                        self._over = self._take(await self._stream.read(limit))
            except TimeoutError:
                if not self._receiver.reliable:
                    raise silent(seconds) from None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._receiver.ended()
        if task.cancelled():
            # Not left to the task, which never runs if it is cancelled before its first step.
            self._stream.stop(ErrorCode.CANCEL)
            if self._group is not None:
                if self._subscription is not None and self._subscription.parked:
                    self._group.charge(-self._charged)
                else:
                    self._group.fail(MoqError(ErrorCode.CANCEL, f"group {self._group.sequence}"), discard=False)
        self._close()

    def _must_wait(self) -> bool:
        subscription, group = self._subscription, self._group
        if subscription is None or group is None or not subscription.reliable:
            return False
        return not subscription.has_room(group)

    async def _room(self) -> None:
        subscription, group = self._subscription, self._group
        assert subscription is not None
        assert group is not None
        self._receiver.full += 1
        try:
            await subscription.room(group)
        finally:
            self._receiver.full -= 1

    def _take(self, data: Received) -> bool:
        """Takes in the next bytes, or the end; whether no more will be."""
        decoder = self._decoder
        if not data:
            decoder.finish()
            if decoder.error is not None:
                raise decoder.error
            if self._group is not None:
                self._group.finish()
            return True
        frames = decoder.feed(data)
        group, more = self._group, 0
        if group is None:
            if decoder.group is None:
                return self._is_no_group()
            group = self._begin(decoder.group.subscribe, decoder.group.sequence)
            if group is None:
                self._stream.stop(ErrorCode.CANCEL)
                return True
            more = GROUP_OVERHEAD
        if decoder.buffered != self._charged and not group.closed:
            # A frame counts from its first byte, or many that never end were bounded by nothing.
            group.charge(decoder.buffered - self._charged)
            more += decoder.buffered - self._charged
            self._charged = decoder.buffered
        if frames and not group.closed:
            more += self._add(group, frames, decoder.times)
        if more > 0:
            self.weight += more
            self._receiver.budget.spend(more)
        if group.closed:
            # The cache has let it go.
            self._stream.stop(ErrorCode.CANCEL)
            return True
        if decoder.error is not None:
            raise decoder.error
        return False

    def _is_no_group(self) -> bool:
        """The stream has not said what group it is: whether that is because it is something else."""
        decoder = self._decoder
        if decoder.error is not None:
            raise decoder.error
        if decoder.setup is None:
            return False
        self._receiver.set_up(decoder.setup)
        self._stream.stop(ErrorCode.CANCEL)
        return True

    def _add(self, group: GroupState, frames: list[bytes], times: list[int] | None) -> int:
        """Adds frames to the group, but for those that it has from an earlier connection; what that costs."""
        subscription = self._subscription
        if subscription is not None and (progress := subscription.progress) is not None:
            if not group.trimmed + len(group.frames):
                progress.begins_with(group.sequence, frames[0])
            elif self._resumes and not progress.began_with(group.sequence, frames[0]):
                # The peer was restarted and counts anew, and this is another group than the one that was cut off.
                progress.give_up(subscription.track, group)
                return 0
            self._resumes = False
            if self._skip:
                skipped = min(self._skip, len(frames))
                self._skip -= skipped
                frames, times = frames[skipped:], None if times is None else times[skipped:]
        before, counters = group.size, self._receiver.counters
        group.extend(frames, times)
        counters.frames_received += len(frames)
        counters.bytes_received += group.size - before
        return group.size - before + FRAME_OVERHEAD * len(frames)

    def _begin(self, subscribe: int, sequence: int) -> GroupState | None:
        """The group has said what it is: begins it, if it is still wanted."""
        subscription = self._receiver.subscriptions.get(subscribe)
        if subscription is None or subscription.track.closed:
            return None
        progress = subscription.progress
        if progress is not None:
            sequence += progress.offset
        if sequence > MAX_GROUP:
            # No subscription could name it, nor the one after it.
            raise MoqError(ErrorCode.BOUNDS_EXCEEDED, f"group {sequence}")
        group = None if progress is None else self._again(sequence, subscription, progress)
        if group is None:
            if progress is not None and progress.has_had(sequence):
                return None
            group = subscription.track.create_group(sequence)
            if self._receiver.version.timestamps:
                group.time = 0
        self._group = group
        self._subscription = subscription
        counters = self._receiver.counters
        counters.groups_received += 1
        if subscription.began is not None:
            counters.first_group_time.add(time.monotonic() - subscription.began)
            subscription.began = None
        if self._task is not None:
            subscription.add(self._task)
        behind = self._receiver.arrivals.begun(self._arrival)
        if behind is not None:
            group.early = group.overtook = True
            behind.add(group, subscription)
        return group

    def _again(self, sequence: int, subscription: Receiving, progress: Progress) -> GroupState | None:
        """Takes note of a group where a loss is to be survived; the group it goes on with, if that cut it off."""
        progress.begun(sequence, subscription.reliable)
        group = progress.take_open(sequence)
        if group is not None:
            self._skip = group.trimmed + len(group.frames)
            self._resumes = self._skip > 0
        behind = self._receiver.arrivals.before(self._arrival)
        if behind is None:
            progress.reached(sequence, subscription.track)
        else:
            behind.reach(sequence, subscription)
        return group

    def _failed(self, error: Error) -> None:
        group = self._group
        if isinstance(error, StreamReset):
            self._broken(canonical(error.code))
        elif isinstance(error, MoqError):
            subscription = self._subscription
            about = (subscription.path, subscription.track.name) if subscription else None
            self._receiver.policy.refused(logger, "group stream", error, about=about)
            self._stream.stop(error.code)
            self._broken(error.code)
        elif isinstance(error, ConnectionLost):
            self._receiver.arrivals.lost(kept=self._receiver.kept.keeps(error.error))
            if self._subscription is None:
                self._receiver.cut_off = True
            else:
                self._subscription.cut_off = True
            if group is not None:
                if self._receiver.kept.keeps(error.error):
                    # To be gone on with.
                    group.charge(-self._charged)
                else:
                    group.fail(SessionClosed(error.error), discard=False)
        else:
            raise error

    def _broken(self, code: int) -> None:
        """The group will never be whole."""
        subscription, group = self._subscription, self._group
        if subscription is None or group is None:
            return
        self._receiver.counters.dropped_by_peer(code)
        error = MoqError(code, f"group {group.sequence} of track {subscription.track.name!r}")
        if code in _LOST:
            subscription.track.forget(group, error)
        else:
            group.fail(error, discard=True)

    def _close(self) -> None:
        self._receiver.arrivals.remove(self._arrival)
        if self._task is not None and self._subscription is not None:
            self._subscription.remove(self._task)


class _Behind:
    """What has overtaken a stream that has not said what it is."""

    __slots__ = ("_groups", "_most", "_reached")

    def __init__(self) -> None:
        self._groups: dict[GroupState, Receiving] = {}
        self._reached: dict[Receiving, int] = {}
        """By subscription that survives a loss, the highest number that has come."""
        self._most = _SWEEP

    def add(self, group: GroupState, subscription: Receiving) -> None:
        """A group that is early."""
        groups = self._groups
        groups[group] = subscription
        if len(groups) > self._most:
            self._sweep()

    def _sweep(self) -> None:
        """Lets go of groups that have left the cache: one such stream can outlast very many."""
        kept: dict[GroupState, Receiving] = {}
        for group, subscription in self._groups.items():
            if subscription.track.keeps(group):
                kept[group] = subscription
            else:
                subscription.track.settle(group)
        self._groups = kept
        self._most = 2 * len(kept) + _SWEEP

    def reach(self, number: int, subscription: Receiving) -> None:
        """A group of a track whose progress is followed has come."""
        self._reached[subscription] = max(number, self._reached.get(subscription, 0))

    def merge(self, other: _Behind) -> None:
        """What had overtaken another such stream has overtaken this one as well."""
        if len(other._groups) > len(self._groups):
            self._groups, other._groups = other._groups, self._groups
            self._most = other._most
        self._groups.update(other._groups)
        for subscription, number in other._reached.items():
            self.reach(number, subscription)

    def settle(self) -> None:
        """The stream has said what it is, and none before it has still to."""
        for subscription, number in self._reached.items():
            if subscription.progress is not None:
                subscription.progress.reached(number, subscription.track)
        for group, subscription in self._groups.items():
            subscription.track.settle(group)

    def lose(self) -> None:
        """It never will."""
        for group, subscription in self._groups.items():
            subscription.lose(group)


class _Arrivals:
    """Streams in the order in which the publisher opened them, and which of them are still nameless.

    A group whose stream was opened after one that has not yet said what it is may be early: an
    older group of its track could still come. It is settled when no such stream is left before it.
    """

    __slots__ = ("_behind", "_changed", "_count", "_nameless")

    def __init__(self) -> None:
        self._count = 0
        self._nameless: list[int] = []
        """In ascending order."""
        self._behind: dict[int, _Behind] = {}
        """By nameless stream, what was opened after it and before the next one of those."""
        self._changed = Signal()

    def count(self) -> int:
        """The place of the next stream in their order."""
        self._count += 1
        return self._count

    def add(self, arrival: int) -> None:
        """The latest stream has not said what it is."""
        self._nameless.append(arrival)

    def begun(self, arrival: int) -> _Behind | None:
        """A stream has said what it is; what it belongs to if it is early."""
        self.remove(arrival)
        return self.before(arrival)

    def before(self, arrival: int) -> _Behind | None:
        """What a stream belongs to if it is early: with others that have overtaken the same."""
        index = bisect_left(self._nameless, arrival)
        if not index:
            return None
        nameless = self._nameless[index - 1]
        behind = self._behind.get(nameless)
        if behind is None:
            behind = self._behind[nameless] = _Behind()
        return behind

    def remove(self, arrival: int) -> None:
        index = bisect_left(self._nameless, arrival)
        if index == len(self._nameless) or self._nameless[index] != arrival:
            return
        del self._nameless[index]
        behind = self._behind.pop(arrival, None)
        if behind is not None:
            earlier = self.before(arrival)
            if earlier is None:
                behind.settle()
            else:
                earlier.merge(behind)
        self._changed.notify()

    def lost(self, *, kept: bool) -> None:
        """The connection has ended. If another follows, what is early stays so until then."""
        lost, self._behind = self._behind, {}
        if not kept:
            for behind in lost.values():
                behind.lose()

    async def settled(self) -> None:
        """Waits until every stream accepted so far has said what it is."""
        last = self._count
        while self._nameless and self._nameless[0] <= last:
            await self._changed.wait()

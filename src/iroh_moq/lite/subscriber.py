"""The subscriber's side of a session: learns what the peer has, asks for tracks, takes in groups.

What the peer announces becomes broadcasts of an origin; a track of one becomes a SUBSCRIBE when
somebody reads it, shared by all who do, and ends when nobody does any more. One task per
subscription, and one per group under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ..aio import Signal, TaskScope, reap
from ..errors import Error, ErrorCode, MoqError, SessionClosed, canonical
from ..model.broadcast import BroadcastState
from ..model.cache import DEFAULT_CACHE, Cache
from ..model.group import GroupState
from ..model.origin import OriginState
from ..model.subscription import MAX_GROUP, Subscription
from ..model.track import TrackState
from ..transport import READ_SIZE, ConnectionLost, RecvStream, SendStream, StreamReset, StreamStopped, Transport
from .decoders import AnnounceDecoder, GroupDecoder, ProbeDecoder, SubscribeReplyDecoder
from .messages import Announce, AnnounceRequest, BiType, Subscribe, SubscribeDrop, SubscribeUpdate
from .priority import CONTROL_PRIORITY
from .wire import varint

__all__ = ["MAX_ANNOUNCED", "Subscriber"]

logger = logging.getLogger("iroh_moq.lite.subscriber")

MAX_ANNOUNCED = 100_000
"""How many broadcasts a peer may have announced at a time."""

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

_LOST = frozenset({ErrorCode.OLD, ErrorCode.EVICTED})
"""How a publisher resets groups that it gave up to keep up."""


class Subscriber:
    """Brings one peer's broadcasts into an origin."""

    def __init__(self, transport: Transport, origin: OriginState, tasks: TaskScope) -> None:
        self._transport = transport
        self._origin = origin
        self._tasks = tasks
        self._subscriptions: dict[int, _Receiving] = {}
        self._next_id = 0
        self._arrivals = _Arrivals()
        self._full = 0
        """How many groups of reliable tracks wait for room."""

    # ANNOUNCE

    async def run_announce(self) -> None:
        """Follows what the peer announces until either end has enough."""
        announced: dict[str, BroadcastState] = {}
        try:
            send, recv = await self._transport.open_bi()
            try:
                send.set_priority(CONTROL_PRIORITY)
                await send.write(AnnounceRequest("").encode())
                decoder = AnnounceDecoder()
                while data := await recv.read():
                    for announce in decoder.feed(data):
                        self._announced(announce, announced)
                    if decoder.error is not None:
                        raise decoder.error
                decoder.finish()
                if decoder.error is not None:
                    raise decoder.error
                await send.finish()
            except (StreamReset, StreamStopped) as error:
                logger.info("%s stopped announcing: %s", self._transport.remote_id, error)
                send.reset(ErrorCode.CANCEL)
                recv.stop(ErrorCode.CANCEL)
            except MoqError as error:
                logger.warning("announcements of %s refused: %s", self._transport.remote_id, error)
                send.reset(error.code)
                recv.stop(error.code)
        except ConnectionLost:
            # The session's end takes everything with it, and says why.
            return
        for path in list(announced):
            self._retract(path, announced, None)
        self._origin.close(None)

    def _announced(self, announce: Announce, announced: dict[str, BroadcastState]) -> None:
        path = announce.suffix
        if not announce.active:
            self._retract(path, announced, None)
            return
        if path in announced:
            raise MoqError(ErrorCode.DUPLICATE, f"broadcast {path!r} was announced twice")
        if len(announced) >= MAX_ANNOUNCED:
            raise MoqError(ErrorCode.BOUNDS_EXCEEDED, f"over {MAX_ANNOUNCED} broadcasts announced")
        if not path:
            raise MoqError(ErrorCode.DECODE, "a broadcast without a name was announced")
        broadcast = BroadcastState(DEFAULT_CACHE, announce.hops)
        broadcast.serve = partial(self._subscribe, path, broadcast)
        announced[path] = broadcast
        self._origin.publish(path, broadcast)

    @staticmethod
    def _retract(path: str, announced: dict[str, BroadcastState], error: Error | None) -> None:
        broadcast = announced.pop(path, None)
        if broadcast is not None:
            # Its tracks end by themselves: the publisher says when each has had its last group.
            broadcast.end(error)

    # SUBSCRIBE

    def _subscribe(self, path: str, broadcast: BroadcastState, track: TrackState) -> None:
        if self._transport.close_error is not None:
            track.fail(SessionClosed(self._transport.close_error), discard=False)
            return
        subscription = _Receiving(self._next_id, path, broadcast, track)
        self._next_id += 1
        # Before the request is on its way, as its groups may come faster than its answer.
        self._subscriptions[subscription.id] = subscription
        self._tasks.spawn(self._run_subscription(subscription), f"subscribe {path} {track.name}")

    async def _run_subscription(self, subscription: _Receiving) -> None:
        track = subscription.track
        try:
            send, recv = await self._transport.open_bi()
            try:
                await self._follow(subscription, send, recv)
            except StreamReset as error:
                send.reset(ErrorCode.CANCEL)
                track.fail(
                    MoqError(canonical(error.code), f"track {track.name!r} of {subscription.path!r}"), discard=False
                )
            except StreamStopped as error:
                recv.stop(ErrorCode.CANCEL)
                track.fail(
                    MoqError(canonical(error.code), f"track {track.name!r} of {subscription.path!r}"), discard=False
                )
            except MoqError as error:
                logger.warning("answer of %s refused: %s", self._transport.remote_id, error)
                send.reset(error.code)
                recv.stop(error.code)
                track.fail(error, discard=False)
            except asyncio.CancelledError:
                send.reset(ErrorCode.CANCEL)
                recv.stop(ErrorCode.CANCEL)
                raise
        except ConnectionLost as error:
            track.fail(SessionClosed(error.error), discard=False)
        finally:
            subscription.broadcast.remove_track(track)
            del self._subscriptions[subscription.id]
            await subscription.aclose()
            if subscription.reliable:
                self._transport.allow_uni_streams(-_WAITING_STREAMS)
            if not track.closed:
                track.fail(MoqError(ErrorCode.CANCEL, f"track {track.name!r} is read by nobody"), discard=True)

    async def _follow(self, subscription: _Receiving, send: SendStream, recv: RecvStream) -> None:
        """Keeps the peer's idea of the subscription up to date until one side ends it."""
        track = subscription.track
        wishes = track.subscription
        if wishes is None:
            recv.stop(ErrorCode.CANCEL)
            send.reset(ErrorCode.CANCEL)
            return
        if wishes.reliable:
            subscription.reliable = True
            track.cache = _RELIABLE_CACHE
            # So that groups which wait for room never keep those of other tracks from coming.
            self._transport.allow_uni_streams(_WAITING_STREAMS)
        send.set_priority(CONTROL_PRIORITY)
        await send.write(Subscribe(subscription.id, subscription.path, track.name, wishes).encode())
        ending = asyncio.ensure_future(self._last_group(subscription, recv))
        try:
            while not ending.done():
                current = track.subscription
                if current is None:
                    # Whoever comes while this one ends gets a new one.
                    subscription.broadcast.remove_track(track)
                    break
                if subscription.reliable:
                    current = subscription.within_room(current)
                if current != wishes:
                    wishes = current
                    # A publisher that takes no updates any more is about to say how the track ends.
                    with suppress(StreamStopped):
                        await send.write(SubscribeUpdate(wishes).encode())
                    continue
                await subscription.changed(beside=ending)
            if ending.done():
                ending.result()
                track.finish()
        finally:
            await reap(ending)
        await send.finish()
        recv.stop(ErrorCode.CANCEL)

    @staticmethod
    async def _read_replies(recv: RecvStream) -> None:
        """Reads to the publisher's FIN. Its answers confirm what we asked; drops need no action, as
        a reader in order never waits for a group it has not seen."""
        decoder = SubscribeReplyDecoder()
        while data := await recv.read():
            for reply in decoder.feed(data):
                if isinstance(reply, SubscribeDrop):
                    logger.debug("groups %d to %d were dropped, code %d", reply.start, reply.end, reply.error)
            if decoder.error is not None:
                raise decoder.error
        decoder.finish()
        if decoder.error is not None:
            raise decoder.error

    async def _last_group(self, subscription: _Receiving, recv: RecvStream) -> None:
        """Waits for the end of the track, and for its last groups.

        The publisher ends a subscription after its groups were acknowledged, so their bytes are
        here; but they may still wait to be accepted, or to be read.
        """
        await self._read_replies(recv)
        await self._transport.uni_settled()
        await self._arrivals.settled()
        await subscription.drained()

    # Groups

    async def run_groups(self) -> None:
        """Accepts the publisher's streams until the connection ends."""
        while True:
            try:
                stream = await self._transport.accept_uni()
            except ConnectionLost:
                return
            arrival = self._arrivals.add()
            self._tasks.spawn(self._receive(stream, arrival), "group")

    async def _receive(self, stream: RecvStream, arrival: int) -> None:
        decoder = GroupDecoder()
        subscription: _Receiving | None = None
        group: GroupState | None = None
        charged = 0
        # While a reliable track is full, what comes may be more of it, to be left with the connection.
        limit = _HEADER_SIZE if self._full else READ_SIZE
        try:
            while data := await stream.read(limit):
                limit = READ_SIZE
                frames = decoder.feed(data)
                if group is None and decoder.group is not None:
                    subscription = self._subscriptions.get(decoder.group.subscribe)
                    if subscription is None or subscription.track.closed:
                        stream.stop(ErrorCode.CANCEL)
                        return
                    if decoder.group.sequence > MAX_GROUP:
                        # No subscription could name it, nor the one after it.
                        raise MoqError(ErrorCode.BOUNDS_EXCEEDED, f"group {decoder.group.sequence}")
                    group = subscription.track.create_group(decoder.group.sequence)
                    subscription.begin()
                    self._arrivals.begun(arrival, subscription.track, group)
                if group is not None:
                    if not group.closed and decoder.buffered != charged:
                        # A frame counts from its first byte, or many that never end were bounded by nothing.
                        group.on_cost(group, decoder.buffered - charged)
                        charged = decoder.buffered
                    for frame in frames:
                        if not group.closed:
                            group.write(frame)
                    if group.closed:
                        # The cache has let it go.
                        stream.stop(ErrorCode.CANCEL)
                        return
                if decoder.error is not None:
                    raise decoder.error
                if subscription is not None and subscription.reliable and group is not None:
                    subscription.hold_if_crowded()
                    self._full += 1
                    try:
                        await subscription.track.room(group, _GROUP_ROOM, _TRACK_ROOM)
                    finally:
                        self._full -= 1
            decoder.finish()
            if decoder.error is not None:
                raise decoder.error
            if group is not None:
                group.finish()
        except StreamReset as error:
            self._broken(subscription, group, canonical(error.code))
        except MoqError as error:
            logger.info("group stream of %s refused: %s", self._transport.remote_id, error)
            stream.stop(error.code)
            self._broken(subscription, group, error.code)
        except ConnectionLost as error:
            if group is not None:
                group.fail(SessionClosed(error.error), discard=False)
        except asyncio.CancelledError:
            stream.stop(ErrorCode.CANCEL)
            if group is not None:
                group.fail(MoqError(ErrorCode.CANCEL, f"group {group.sequence}"), discard=False)
            raise
        finally:
            self._arrivals.remove(arrival)
            if subscription is not None and group is not None:
                subscription.end()

    @staticmethod
    def _broken(subscription: _Receiving | None, group: GroupState | None, code: int) -> None:
        if subscription is None or group is None:
            return
        error = MoqError(code, f"group {group.sequence} of track {subscription.track.name!r}")
        if code in _LOST:
            subscription.track.forget(group, error)
        else:
            group.fail(error, discard=True)

    # PROBE

    async def probe(self) -> AsyncGenerator[int | None, None]:
        """Asks the publisher what the path carries, in bits per second, and yields its reports."""
        try:
            send, recv = await self._transport.open_bi()
            try:
                await send.write(varint(BiType.PROBE))
                decoder = ProbeDecoder()
                while data := await recv.read():
                    for report in decoder.feed(data):
                        yield report.bitrate
                    if decoder.error is not None:
                        raise decoder.error
                decoder.finish()
                if decoder.error is not None:
                    raise decoder.error
            finally:
                send.reset(ErrorCode.CANCEL)
                recv.stop(ErrorCode.CANCEL)
        except (StreamReset, StreamStopped) as error:
            raise MoqError(canonical(error.code), "the peer does not answer a probe") from error
        except ConnectionLost as error:
            raise SessionClosed(error.error) from error

    def lost(self, error: SessionClosed) -> None:
        """The session has ended: so have the broadcasts, and the tracks that were being received."""
        for broadcast in list(self._origin.active.values()):
            broadcast.end(error)
        self._origin.close(error)
        for subscription in self._subscriptions.values():
            subscription.track.fail(error, discard=False)


class _Receiving:
    """One subscription of ours, and how many of its groups are under way."""

    __slots__ = ("_held_after", "_idle", "broadcast", "id", "path", "reliable", "tasks", "track")

    def __init__(self, id: int, path: str, broadcast: BroadcastState, track: TrackState) -> None:
        self.id = id
        self.path = path
        self.broadcast = broadcast
        self.track = track
        self.reliable = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._held_after: int | None = None
        self._idle = Signal()

    # A reliable track holds the peer back while its reader is slow.

    def hold_if_crowded(self) -> None:
        """Asks the peer for no further groups once there is much to read."""
        if self._held_after is None and self.track.crowded(_HOLD_ABOVE):
            self._held_after = self.track.latest
            self.track.demand.notify()

    def within_room(self, wishes: Subscription) -> Subscription:
        """The wishes, with an end group while the peer is held back."""
        if self._held_after is None:
            return wishes
        if not self.track.crowded(_RESUME_BELOW):
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

    def begin(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)

    def end(self) -> None:
        task = asyncio.current_task()
        assert task is not None
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


class _Arrivals:
    """Streams in the order in which the publisher opened them, and which of them are still nameless.

    A group whose stream was opened after one that has not yet said what it is may be early: an
    older group of its track could still come. It is settled when no such stream is left before it.
    """

    __slots__ = ("_changed", "_count", "_early", "_nameless")

    def __init__(self) -> None:
        self._count = 0
        self._nameless: dict[int, None] = {}
        self._early: dict[int, tuple[TrackState, GroupState]] = {}
        self._changed = Signal()

    def add(self) -> int:
        self._count += 1
        self._nameless[self._count] = None
        return self._count

    def begun(self, arrival: int, track: TrackState, group: GroupState) -> None:
        self.remove(arrival)
        if self._nameless and next(iter(self._nameless)) < arrival:
            group.early = True
            self._early[arrival] = track, group

    def remove(self, arrival: int) -> None:
        if arrival not in self._nameless:
            return
        del self._nameless[arrival]
        first = next(iter(self._nameless), self._count + 1)
        if self._early:
            for settled in [early for early in self._early if early < first]:
                track, group = self._early.pop(settled)
                track.settle(group)
        self._changed.notify()

    async def settled(self) -> None:
        """Waits until every stream accepted so far has said what it is."""
        last = self._count
        while self._nameless and next(iter(self._nameless)) <= last:
            await self._changed.wait()

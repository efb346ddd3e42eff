"""The subscriber's side of a session: learns what the peer has, asks for tracks, takes in groups.

What the peer announces becomes broadcasts of an origin; a track of one becomes a SUBSCRIBE when
somebody reads it, shared by all who do, and ends when nobody does any more. One task per
subscription; how groups are taken in is in :mod:`.receiving`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from weakref import WeakValueDictionary

from ..aio import TaskScope, reap, while_wanted
from ..errors import Error, ErrorCode, MoqError, SessionClosed, SessionError, canonical
from ..log import fields
from ..model.broadcast import BroadcastState
from ..model.cache import Cache
from ..model.group import GroupConsumer
from ..model.info import TrackInfo
from ..model.origin import OriginState
from ..model.subscription import Subscription
from ..model.track import TrackConsumer, TrackState
from ..transport import ConnectionLost, RecvStream, SendStream, StreamReset, StreamStopped, Transport
from .decoders import AnnounceDecoder, ProbeDecoder, SubscribeReplyDecoder, TrackReplyDecoder
from .fetching import Fetching
from .keeping import Kept, Parked, Progress
from .messages import (
    Announce,
    AnnounceOk,
    AnnounceRequest,
    Fetch,
    Subscribe,
    SubscribeDrop,
    SubscribeUpdate,
    TrackRequest,
)
from .policy import Policy, exceeded
from .priority import CONTROL_PRIORITY
from .reading import MessageReader
from .receiving import Receiver, Receiving
from .version import MAX_HOPS, BiType, Version, unsupported
from .wire import varint

__all__ = ["Subscriber"]

logger = logging.getLogger("iroh_moq.lite.subscriber")

_LEAVING = 1.0
"""Seconds between the end of the announcements and that of the connection in which they are taken for the same."""


class Subscriber:
    """Brings one peer's broadcasts into an origin."""

    def __init__(
        self,
        transport: Transport,
        version: Version,
        origin: OriginState,
        origin_id: int,
        tasks: TaskScope,
        policy: Policy,
        kept: Kept,
    ) -> None:
        self._transport = transport
        self._version = version
        self._origin = origin
        self._origin_id = origin_id
        self._tasks = tasks
        self._policy = policy
        self._limits = policy.limits
        self._cache = Cache(max_bytes=policy.limits.track_bytes)
        self._kept = kept
        self._receiver = Receiver(transport, version, tasks, policy, kept)
        self._next_id = 0
        self._over = False
        self._announced: dict[str, BroadcastState] = {}
        if kept.enabled:
            # The peer may have stopped announcing before, and begins anew.
            origin.reopen()
        self._asked = WeakValueDictionary(kept.attached())
        """The broadcasts that were asked for by name, without an announcement, as long as somebody has them."""
        for path, broadcast in self._asked.items():
            self._bind(path, broadcast)
            self._resume(broadcast)

    # ANNOUNCE

    async def run_announce(self) -> None:
        """Follows what the peer announces until either end has enough."""
        publisher: tuple[int, ...] = ()
        try:
            send, recv = await self._transport.open_bi()
            try:
                send.set_priority(CONTROL_PRIORITY)
                await send.write(AnnounceRequest("", self._origin_id).encode(self._version))
                limits = self._limits
                messages = MessageReader(recv, AnnounceDecoder(self._version, limits.message_bytes), limits)
                while announces := await messages.next():
                    for announce in announces:
                        if isinstance(announce, AnnounceOk):
                            publisher = (announce.origin,)
                        else:
                            self._hear(announce, publisher)
                    await self._policy.pace.after_refusals(logger)
                send.finish()
            except (StreamReset, StreamStopped) as error:
                peer = self._policy.peer
                logger.info("%s stopped announcing: %s", peer, error, extra=fields(peer=peer))
                send.reset(ErrorCode.CANCEL)
                recv.stop(ErrorCode.CANCEL)
            except MoqError as error:
                self._policy.refused(logger, "announcements", error, level=logging.WARNING)
                send.reset(error.code)
                recv.stop(error.code)
        except ConnectionLost:
            # The session's end takes everything with it, and says why.
            return
        if await self._is_leaving():
            return
        for path in list(self._announced):
            self._retract(path)
        self._origin.close(None)

    async def _is_leaving(self) -> bool:
        """Whether the announcements were only the first part of the connection to end, as where a peer goes whose
        tasks end before it does. What was announced waits for its next connection then."""
        if not self._kept.enabled:
            return False
        try:
            async with asyncio.timeout(_LEAVING):
                await self._transport.closed()
        except TimeoutError:
            return False
        return True

    def _hear(self, announce: Announce, publisher: tuple[int, ...]) -> None:
        path, announced = announce.suffix, self._announced
        if not announce.active:
            self._retract(path)
            return
        route = (*announce.route, *publisher) if self._version.hop_ids else (0,) * min(announce.hops, MAX_HOPS)
        known = announced.get(path)
        if known is not None:
            if not self._version.reannounce:
                raise MoqError(ErrorCode.DUPLICATE, f"broadcast {path!r} was announced twice")
            if self._useless(path, route) or not known.route[0] or known.route[0] != route[0]:
                # It is not certain to be the same broadcast, or not to be had this way any more.
                self._retract(path)
            else:
                known.reroute(route)
                return
        if self._useless(path, route):
            return
        if len(announced) >= self._limits.announcements:
            raise exceeded("announcements", f"over {self._limits.announcements} broadcasts announced")
        if not path:
            raise MoqError(ErrorCode.DECODE, "a broadcast without a name was announced")
        if not self._policy.may_announce(path, logger):
            return
        hops = len(route) if self._version.hop_ids else announce.hops
        broadcast = self._kept.returned(path)
        if broadcast is None:
            broadcast = BroadcastState(self._cache, hops, route)
        else:
            broadcast.reroute(route)
        self._bind(path, broadcast)
        announced[path] = broadcast
        self._origin.publish(path, broadcast)
        self._resume(broadcast)

    def _useless(self, path: str, route: tuple[int, ...]) -> bool:
        """Whether a broadcast has come from here, or by too many origins to be anything but a loop."""
        if self._version.hop_ids and (len(route) > MAX_HOPS or self._origin_id in route):
            logger.debug("%r of %s has been here before", path, self._transport.remote_id)
            return True
        return False

    def _bind(self, path: str, broadcast: BroadcastState) -> None:
        """Has a broadcast ask here for what its readers want."""
        broadcast.source = _Source(self, path, broadcast)

    def _retract(self, path: str) -> None:
        # One that waits since the last connection is taken back as well.
        broadcast = self._announced.pop(path, None) or self._kept.returned(path)
        if broadcast is not None:
            # Its tracks end by themselves: the publisher says when each has had its last group.
            broadcast.end(None)

    # SUBSCRIBE

    def ask(self, path: str) -> BroadcastState:
        """A broadcast that need not be announced: whether it is there shows when a track of it is read."""
        broadcast = self._origin.active.get(path) or self._asked.get(path)
        if broadcast is None:
            broadcast = self._asked[path] = BroadcastState(self._cache)
            self._bind(path, broadcast)
        return broadcast

    def subscribe(self, path: str, broadcast: BroadcastState, track: TrackState) -> None:
        if (error := self._transport.close_error) is not None:
            if self._kept.keeps(error):
                self._kept.park_track(Parked(path, broadcast, track, None, False))
            else:
                track.fail(SessionClosed(error), discard=False)
            return
        self._start(path, broadcast, track, Progress() if self._kept.enabled else None)

    def _resume(self, broadcast: BroadcastState) -> None:
        """Goes on with the tracks of a broadcast that have waited for it."""
        for parked in self._kept.take_tracks(broadcast):
            if parked.track.readers:
                self._start(parked.path, broadcast, parked.track, parked.progress or Progress())
            else:
                broadcast.remove_track(parked.track)
                parked.track.fail(_unread(parked.track), discard=True)

    def _start(
        self,
        path: str,
        broadcast: BroadcastState,
        track: TrackState,
        progress: Progress | None,
        *,
        glance: bool = False,
    ) -> None:
        track.info = track.uninformed = None
        if not self._version.datagrams:
            track.without_datagrams = unsupported(self._version, "datagrams")
        subscription = Receiving(self._next_id, path, broadcast, track, self._receiver, progress, glance=glance)
        self._next_id += 1
        about = fields(peer=self._policy.peer, broadcast=path, track=track.name)
        logger.debug("subscribing to %r of %r at %s", track.name, path, self._policy.peer, extra=about)
        # Before the request is on its way, as its groups may come faster than its answer.
        self._receiver.subscriptions[subscription.id] = subscription
        self._tasks.spawn(self._run_subscription(subscription), f"subscribe {path} {track.name}")
        # After it, as its groups are what is waited for.
        if self._version.track_info:
            subscription.learning = self._tasks.spawn(self._learn(path, track), f"track info {path} {track.name}")
        else:
            track.not_informed(unsupported(self._version, "properties of tracks"))

    async def _run_subscription(self, subscription: Receiving) -> None:
        track, counters = subscription.track, self._policy.counters
        counters.own_subscriptions += 1
        counters.own_subscriptions_opened += 1
        try:
            if subscription.progress is not None and subscription.progress.first is not None:
                while not await self._meet(subscription, subscription.progress):
                    if not track.readers:
                        return
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
                about = subscription.path, track.name
                self._policy.refused(logger, "answer", error, level=logging.WARNING, about=about)
                send.reset(error.code)
                recv.stop(error.code)
                track.fail(error, discard=False)
            except asyncio.CancelledError:
                send.reset(ErrorCode.CANCEL)
                recv.stop(ErrorCode.CANCEL)
                raise
        except ConnectionLost as error:
            if self._kept.keeps(error.error):
                self._park(subscription)
            else:
                track.fail(SessionClosed(error.error), discard=False)
        except MoqError as error:
            track.fail(error, discard=False)
        finally:
            counters.own_subscriptions -= 1
            if subscription.learning is not None:
                subscription.learning.cancel()
            if not subscription.parked:
                subscription.broadcast.remove_track(track)
            del self._receiver.subscriptions[subscription.id]
            await subscription.aclose()
            if not subscription.parked and not track.closed:
                track.fail(_unread(track), discard=True)

    async def _meet(self, subscription: Receiving, progress: Progress) -> bool:
        """Looks at the latest group of a track, after a loss, to see whether its numbers are still what they were.

        Returns:
            Whether that is done; it is not if the last reader leaves before.
        """
        track = subscription.track
        wishes = track.subscription
        if wishes is None:
            return False
        glance = TrackState(track.name, cache=self._cache)
        async with TrackConsumer(glance, Subscription(priority=wishes.priority)) as consumer:
            self._start(subscription.path, subscription.broadcast, glance, None, glance=True)
            try:
                latest = await while_wanted(_look(consumer, progress), lambda: track.readers, track.demand)
                if latest is not None and (found := latest.result()) is not None:
                    progress.meet(*found, track, wishes.reliable)
                return latest is not None
            except SessionClosed as error:
                raise ConnectionLost(error.error) from error

    def _park(self, subscription: Receiving) -> None:
        """Lets a track wait for the next connection."""
        track = subscription.track
        if subscription.parked or track.closed:
            return
        if subscription.glance:
            assert self._transport.close_error is not None
            track.fail(SessionClosed(self._transport.close_error), discard=False)
            return
        subscription.parked = True
        progress = subscription.progress or Progress.of(track)
        if track.latest is not None or progress.through:
            progress.lost(track, subscription.reliable)
        self._kept.park_track(Parked(subscription.path, subscription.broadcast, track, progress, subscription.reliable))

    async def _follow(self, subscription: Receiving, send: SendStream, recv: RecvStream) -> None:
        """Keeps the peer's idea of the subscription up to date until one side ends it."""
        track = subscription.track
        wishes = track.subscription
        if wishes is None:
            recv.stop(ErrorCode.CANCEL)
            send.reset(ErrorCode.CANCEL)
            return
        if wishes.reliable:
            subscription.become_reliable()
        send.set_priority(CONTROL_PRIORITY)
        asked = subscription.in_numbers_of_peer(wishes)
        await send.write(Subscribe(subscription.id, subscription.path, track.name, asked).encode())
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
                        await send.write(SubscribeUpdate(subscription.in_numbers_of_peer(wishes)).encode())
                    continue
                await subscription.changed(beside=ending)
            if ending.done():
                ending.result()
                if subscription.cut_off or self._receiver.cut_off:
                    # The connection was lost under the last groups, so the track is not whole.
                    raise ConnectionLost(self._transport.close_error or SessionError(None, "lost"))
                if subscription.progress is not None:
                    subscription.progress.completed(track)
                track.finish()
        finally:
            await reap(ending)
        send.finish()
        recv.stop(ErrorCode.CANCEL)

    async def _read_replies(self, recv: RecvStream) -> None:
        """Reads to the publisher's FIN. Its answers confirm what we asked; drops need no action, as
        a reader in order never waits for a group it has not seen."""
        decoder = SubscribeReplyDecoder(self._version, self._limits.message_bytes)
        messages = MessageReader(recv, decoder, self._limits)
        while replies := await messages.next():
            for reply in replies:
                if isinstance(reply, SubscribeDrop):
                    logger.debug("groups %d to %d were dropped, code %d", reply.start, reply.end, reply.error)

    async def _last_group(self, subscription: Receiving, recv: RecvStream) -> None:
        """Waits for the end of the track, and for its last groups.

        The publisher ends a subscription after its groups were acknowledged, so their bytes are
        here; but they may still wait to be accepted, or to be read.
        """
        await self._read_replies(recv)
        await self._receiver.settled()
        await subscription.drained()

    # TRACK

    async def track_info(self, path: str, name: str) -> TrackInfo:
        """The properties of a track, from its publisher; where nobody can tell, what it is taken for.

        Raises:
            MoqError: there is no such track.
            SessionClosed: the session has ended.
        """
        return await self._inquire(path, name) if self._version.track_info else TrackInfo()

    async def _inquire(self, path: str, name: str) -> TrackInfo:
        try:
            send, recv = await self._transport.open_bi()
            try:
                send.set_priority(CONTROL_PRIORITY)
                await send.write(TrackRequest(path, name).encode())
                messages = MessageReader(recv, TrackReplyDecoder(self._limits.message_bytes), self._limits)
                replies = await messages.next()
                # There is no other, or the next one is an error.
                await messages.next()
                send.finish()
                return replies[0].info
            except BaseException as error:
                code = error.code if isinstance(error, MoqError) else ErrorCode.CANCEL
                send.reset(code)
                recv.stop(code)
                raise
        except (StreamReset, StreamStopped) as error:
            raise MoqError(canonical(error.code), f"properties of track {name!r} of {path!r}") from error
        except ConnectionLost as error:
            raise SessionClosed(error.error) from error

    async def _learn(self, path: str, track: TrackState) -> None:
        """Has a track told what it is."""
        error: Error = MoqError(ErrorCode.CANCEL, f"properties of track {track.name!r}")
        try:
            track.inform(await self._inquire(path, track.name))
        except Error as failure:
            error = failure
        finally:
            lost = self._transport.close_error
            if track.info is None and (lost is None or not self._kept.keeps(lost)):
                track.not_informed(error)

    async def _learn_while_wanted(self, path: str, fetching: Fetching) -> None:
        await while_wanted(self._learn(path, fetching.track), fetching.is_wanted, fetching.changed)

    # FETCH

    async def fetch_group(self, path: str, name: str, sequence: int, priority: int) -> GroupConsumer:
        """A past group, as soon as any of it has come.

        Raises:
            MoqError: there is no such group, or the version of the protocol cannot ask for it.
            SessionClosed: the session has ended.
        """
        if not self._version.fetch:
            raise unsupported(self._version, "FETCH of past groups")
        if self._transport.close_error is not None:
            raise SessionClosed(self._transport.close_error)
        fetching = Fetching(self._transport, self._version, Fetch(path, name, priority, sequence), self._limits)
        fetching.track.info = None
        self._tasks.spawn(self._learn_while_wanted(path, fetching), f"track info {path} {name}")
        task = self._tasks.spawn(fetching.run(), f"fetch {path} {name} {sequence}")
        try:
            return await fetching.begun()
        except asyncio.CancelledError:
            task.cancel()
            raise

    # The other direction

    async def run_groups(self) -> None:
        """Accepts the publisher's streams until the connection ends."""
        await self._receiver.run()

    async def run_datagrams(self) -> None:
        """Takes the publisher's datagrams until the connection ends."""
        await self._receiver.run_datagrams()

    # PROBE

    async def probe(self) -> AsyncGenerator[int | None, None]:
        """Asks the publisher what the path carries, in bits per second, and yields its reports."""
        try:
            send, recv = await self._transport.open_bi()
            try:
                await send.write(varint(BiType.PROBE))
                decoder = ProbeDecoder(self._version, self._limits.message_bytes)
                messages = MessageReader(recv, decoder, self._limits)
                while reports := await messages.next():
                    for report in reports:
                        yield report.bitrate
            finally:
                send.reset(ErrorCode.CANCEL)
                recv.stop(ErrorCode.CANCEL)
        except (StreamReset, StreamStopped) as error:
            raise MoqError(canonical(error.code), "the peer does not answer a probe") from error
        except ConnectionLost as error:
            raise SessionClosed(error.error) from error

    def lost(self, error: SessionClosed, *, replaced: bool = False) -> None:
        """The connection has ended. So have the broadcasts and the tracks that were being received, unless
        another will follow; ``replaced`` says that it is there."""
        if self._over:
            return
        self._over = True
        kept = self._kept.enabled and (replaced or self._kept.keeps(error.error))
        self._receiver.arrivals.lost(kept=kept)
        if kept:
            self._kept.park(self._announced, dict(self._asked), error.error)
            for subscription in self._receiver.subscriptions.values():
                self._park(subscription)
            return
        for broadcast in [*self._origin.active.values(), *self._asked.values()]:
            broadcast.end(error)
        self._origin.close(error)
        for subscription in self._receiver.subscriptions.values():
            subscription.track.fail(error, discard=False)


class _Source:
    """The peer, as the source of one broadcast."""

    __slots__ = ("_broadcast", "_path", "_subscriber")

    def __init__(self, subscriber: Subscriber, path: str, broadcast: BroadcastState) -> None:
        self._subscriber = subscriber
        self._path = path
        self._broadcast = broadcast

    def subscribe(self, track: TrackState) -> None:
        self._subscriber.subscribe(self._path, self._broadcast, track)

    async def track_info(self, name: str) -> TrackInfo:
        return await self._subscriber.track_info(self._path, name)

    async def fetch_group(self, name: str, sequence: int, priority: int) -> GroupConsumer:
        return await self._subscriber.fetch_group(self._path, name, sequence, priority)


def _unread(track: TrackState) -> MoqError:
    return MoqError(ErrorCode.CANCEL, f"track {track.name!r} is read by nobody")


async def _look(consumer: TrackConsumer, progress: Progress) -> tuple[int, int | None] | None:
    """The latest group of a track, and the hash of its first frame if that is needed to tell what it is."""
    group = await consumer.recv_group()
    if group is None:
        return None
    frame = await group.read_frame() if group.sequence + progress.offset < progress.through else None
    return group.sequence, None if frame is None else hash(frame)

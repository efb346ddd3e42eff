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
from functools import partial

from ..aio import TaskScope, reap
from ..errors import Error, ErrorCode, MoqError, SessionClosed, canonical
from ..log import fields
from ..model.broadcast import BroadcastState
from ..model.cache import DEFAULT_CACHE
from ..model.origin import OriginState
from ..model.track import TrackState
from ..transport import ConnectionLost, RecvStream, SendStream, StreamReset, StreamStopped, Transport
from .decoders import AnnounceDecoder, ProbeDecoder, SubscribeReplyDecoder
from .messages import Announce, AnnounceRequest, BiType, Subscribe, SubscribeDrop, SubscribeUpdate
from .policy import Policy
from .priority import CONTROL_PRIORITY
from .receiving import Receiver, Receiving
from .wire import varint

__all__ = ["MAX_ANNOUNCED", "Subscriber"]

logger = logging.getLogger("iroh_moq.lite.subscriber")

MAX_ANNOUNCED = 100_000
"""How many broadcasts a peer may have announced at a time."""


class Subscriber:
    """Brings one peer's broadcasts into an origin."""

    def __init__(self, transport: Transport, origin: OriginState, tasks: TaskScope, policy: Policy) -> None:
        self._transport = transport
        self._origin = origin
        self._tasks = tasks
        self._policy = policy
        self._receiver = Receiver(transport, tasks, policy)
        self._next_id = 0
        self._asked: dict[str, BroadcastState] = {}
        """The broadcasts that were asked for by name, without an announcement."""

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
                    for announce in decoder.feed(bytes(data)):
                        self._announced(announce, announced)
                    if decoder.error is not None:
                        raise decoder.error
                decoder.finish()
                if decoder.error is not None:
                    raise decoder.error
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
        if not self._policy.may_announce(path, logger):
            return
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

    def ask(self, path: str) -> BroadcastState:
        """A broadcast that need not be announced: whether it is there shows when a track of it is read."""
        broadcast = self._origin.active.get(path) or self._asked.get(path)
        if broadcast is None:
            broadcast = self._asked[path] = BroadcastState(DEFAULT_CACHE)
            broadcast.serve = partial(self._subscribe, path, broadcast)
        return broadcast

    def _subscribe(self, path: str, broadcast: BroadcastState, track: TrackState) -> None:
        if self._transport.close_error is not None:
            track.fail(SessionClosed(self._transport.close_error), discard=False)
            return
        subscription = Receiving(self._next_id, path, broadcast, track, self._transport)
        self._next_id += 1
        about = fields(peer=self._policy.peer, broadcast=path, track=track.name)
        logger.debug("subscribing to %r of %r at %s", track.name, path, self._policy.peer, extra=about)
        # Before the request is on its way, as its groups may come faster than its answer.
        self._receiver.subscriptions[subscription.id] = subscription
        self._tasks.spawn(self._run_subscription(subscription), f"subscribe {path} {track.name}")

    async def _run_subscription(self, subscription: Receiving) -> None:
        track, counters = subscription.track, self._policy.counters
        counters.own_subscriptions += 1
        counters.own_subscriptions_opened += 1
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
            track.fail(SessionClosed(error.error), discard=False)
        finally:
            counters.own_subscriptions -= 1
            subscription.broadcast.remove_track(track)
            del self._receiver.subscriptions[subscription.id]
            await subscription.aclose()
            if not track.closed:
                track.fail(MoqError(ErrorCode.CANCEL, f"track {track.name!r} is read by nobody"), discard=True)

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
        send.finish()
        recv.stop(ErrorCode.CANCEL)

    @staticmethod
    async def _read_replies(recv: RecvStream) -> None:
        """Reads to the publisher's FIN. Its answers confirm what we asked; drops need no action, as
        a reader in order never waits for a group it has not seen."""
        decoder = SubscribeReplyDecoder()
        while data := await recv.read():
            for reply in decoder.feed(bytes(data)):
                if isinstance(reply, SubscribeDrop):
                    logger.debug("groups %d to %d were dropped, code %d", reply.start, reply.end, reply.error)
            if decoder.error is not None:
                raise decoder.error
        decoder.finish()
        if decoder.error is not None:
            raise decoder.error

    async def _last_group(self, subscription: Receiving, recv: RecvStream) -> None:
        """Waits for the end of the track, and for its last groups.

        The publisher ends a subscription after its groups were acknowledged, so their bytes are
        here; but they may still wait to be accepted, or to be read.
        """
        await self._read_replies(recv)
        await self._receiver.settled()
        await subscription.drained()

    async def run_groups(self) -> None:
        """Accepts the publisher's streams until the connection ends."""
        await self._receiver.run()

    # PROBE

    async def probe(self) -> AsyncGenerator[int | None, None]:
        """Asks the publisher what the path carries, in bits per second, and yields its reports."""
        try:
            send, recv = await self._transport.open_bi()
            try:
                await send.write(varint(BiType.PROBE))
                decoder = ProbeDecoder()
                while data := await recv.read():
                    for report in decoder.feed(bytes(data)):
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
        for broadcast in [*self._origin.active.values(), *self._asked.values()]:
            broadcast.end(error)
        self._origin.close(error)
        for subscription in self._receiver.subscriptions.values():
            subscription.track.fail(error, discard=False)

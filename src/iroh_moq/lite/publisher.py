"""The publisher's side of a session: answers the streams that the subscriber opens.

One task per stream, as each is a transaction of its own; how groups are sent is in :mod:`.sending`.
What goes wrong on a stream resets that stream and is logged; nothing here can end the session.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque

from ..aio import Signal, TaskScope, reap
from ..errors import Error, ErrorCode, MoqError
from ..log import fields
from ..model.origin import OriginConsumer
from ..model.path import strip_prefix
from ..model.subscription import Subscription
from ..model.track import TrackConsumer
from ..transport import (
    ConnectionLost,
    RecvStream,
    SendStream,
    StreamReset,
    StreamStopped,
    Transport,
)
from .decoders import ProbeRequest, Request, RequestDecoder
from .messages import Announce, AnnounceRequest, Probe, Subscribe, SubscribeDrop, SubscribeOk, SubscribeUpdate
from .policy import Policy
from .priority import CONTROL_PRIORITY, group_priority
from .sending import GroupSender, reset_code
from .wire import varint

__all__ = ["Publisher"]

logger = logging.getLogger("iroh_moq.lite.publisher")

_DELIVERY_TIME = 1.0
"""Seconds beyond its latency that a group which was wholly handed to the connection may take to arrive;
it may long be on its way, but must not fill the connection's buffer for ever."""

_BATCH = 64
"""Groups that are begun in one turn of the loop at most, so that others have theirs."""

_PROBE_INTERVAL = 0.25
_PROBE_CHANGE = 0.1
"""How often the estimate is looked at, in seconds, and the change that is worth a report."""


class Publisher:
    """Serves an origin's broadcasts to one peer."""

    def __init__(self, transport: Transport, origin: OriginConsumer, tasks: TaskScope, policy: Policy) -> None:
        self._transport = transport
        self._origin = origin
        self._tasks = tasks
        self._policy = policy
        self._opened = asyncio.Event()
        self._subscriptions: set[int] = set()

    async def opened(self) -> None:
        """Waits for the subscriber's first stream, or the end of the connection."""
        await self._opened.wait()

    async def run(self) -> None:
        """Accepts the subscriber's streams until the connection ends."""
        while True:
            try:
                send, recv = await self._transport.accept_bi()
            except ConnectionLost:
                return
            finally:
                self._opened.set()
            self._tasks.spawn(self._serve(send, recv), "stream")

    async def _serve(self, send: SendStream, recv: RecvStream) -> None:
        """One stream from its request to its end, whatever that end is."""
        send.set_priority(CONTROL_PRIORITY)
        requests = _Requests(recv)
        subscribe: Subscribe | None = None
        try:
            request = await requests.next()
            if isinstance(request, AnnounceRequest):
                await self._announce(request, requests, send)
            elif isinstance(request, Subscribe):
                subscribe = request
                await self._subscription(request, requests, send)
            elif isinstance(request, ProbeRequest):
                await self._probe(requests, send)
            recv.stop(ErrorCode.CANCEL)
        except (StreamReset, StreamStopped):
            # The subscriber has lost interest, which is its right.
            send.reset(ErrorCode.CANCEL)
            recv.stop(ErrorCode.CANCEL)
        except ConnectionLost:
            return
        except asyncio.CancelledError:
            send.reset(ErrorCode.CANCEL)
            recv.stop(ErrorCode.CANCEL)
            raise
        except MoqError as error:
            about = (subscribe.broadcast, subscribe.track) if subscribe else None
            self._policy.refused(logger, "stream", error, about=about)
            send.reset(error.code)
            recv.stop(error.code)
        except Error as error:
            # What we serve has ended for a reason of this side, such as a relay's own session.
            logger.info("stream of %s ended: %s", self._policy.peer, error, extra=fields(peer=self._policy.peer))
            send.reset(ErrorCode.DROPPED)
            recv.stop(ErrorCode.DROPPED)

    # SUBSCRIBE

    async def _subscription(self, request: Subscribe, requests: _Requests, send: SendStream) -> None:
        if request.id in self._subscriptions:
            # The groups of two could not be told apart.
            raise MoqError(ErrorCode.DUPLICATE, f"subscription {request.id} is under way already")
        self._subscriptions.add(request.id)
        try:
            await _Serving(self._transport, self._origin, self._tasks, self._policy, request, requests, send).run()
        finally:
            self._subscriptions.discard(request.id)

    # ANNOUNCE

    async def _announce(self, request: AnnounceRequest, requests: _Requests, send: SendStream) -> None:
        origin = self._origin.consume(request.prefix)
        news = self._tasks.spawn(self._send_news(origin, request.prefix, send), "announce")
        try:
            await requests.ended(beside=news)
        finally:
            news.cancel()
            origin.close()
        send.finish()

    async def _send_news(self, origin: OriginConsumer, prefix: str, send: SendStream) -> None:
        try:
            while batch := await origin.announced_batch():
                messages = []
                for path, broadcast in self._policy.learnable(batch):
                    hops = 0 if broadcast is None else broadcast.hops + 1
                    messages.append(Announce(broadcast is not None, strip_prefix(path, prefix), hops).encode())
                if messages:
                    await send.write(b"".join(messages))
        except (StreamStopped, ConnectionLost):
            return

    # PROBE

    async def _probe(self, requests: _Requests, send: SendStream) -> None:
        reports = self._tasks.spawn(self._send_reports(send), "probe")
        try:
            await requests.ended(beside=reports)
        finally:
            reports.cancel()
        send.finish()

    async def _send_reports(self, send: SendStream) -> None:
        last: int | None = None
        try:
            while True:
                rate = self._transport.stats().send_rate
                if rate is not None and (last is None or abs(rate - last) > last * _PROBE_CHANGE):
                    await send.write(Probe(rate).encode())
                    last = rate
                # No transport tells of a change in its estimate, so it has to be looked at.
                await asyncio.sleep(_PROBE_INTERVAL)
        except (StreamStopped, ConnectionLost):
            return


class _Requests:
    """The requests that arrive on a stream."""

    def __init__(self, recv: RecvStream) -> None:
        self._recv = recv
        self._decoder = RequestDecoder()
        self._queue: deque[Request] = deque()

    async def next(self) -> Request | None:
        """The next request, or None once the subscriber has finished.

        Raises:
            MoqError: the bytes mean nothing.
            TransportError: the stream or the connection is gone.
        """
        while not self._queue:
            if self._decoder.error is not None:
                raise self._decoder.error
            data = await self._recv.read()
            if data:
                self._queue.extend(self._decoder.feed(bytes(data)))
            else:
                self._decoder.finish()
                if self._decoder.error is None:
                    return None
        return self._queue.popleft()

    async def ended(self, *, beside: asyncio.Task[None]) -> None:
        """Waits until the subscriber has finished, or the task that answers it has."""
        reading = asyncio.ensure_future(self.next())
        try:
            await asyncio.wait((reading, beside), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            await reap(reading)


class _Serving:
    """One subscription of the peer: its groups, and the changes it asks for."""

    def __init__(
        self,
        transport: Transport,
        origin: OriginConsumer,
        tasks: TaskScope,
        policy: Policy,
        request: Subscribe,
        requests: _Requests,
        send: SendStream,
    ) -> None:
        broadcast = policy.find(origin, request.broadcast)
        about = fields(peer=policy.peer, broadcast=request.broadcast, track=request.track)
        logger.debug("%s subscribes to %r of %r", policy.peer, request.track, request.broadcast, extra=about)
        if not request.track:
            raise MoqError(ErrorCode.NOT_FOUND, f"no track of {request.broadcast!r} is named")
        self._transport = transport
        self._tasks = tasks
        self._counters = policy.counters
        self._id = request.id
        self._requests = requests
        self._send = send
        self._wishes = request.wishes
        self._consumer = TrackConsumer(broadcast._state.subscribe(request.track, request.wishes), request.wishes)
        self._track = self._consumer._state
        self._sending: dict[int, GroupSender] = {}
        self._sent = Signal()
        self._failure: Error | None = None
        self._groups = TaskScope(f"subscription {request.id}")
        self._expiry: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        serving = self._tasks.spawn(self._outcome_of_groups(), f"subscription {self._id}")
        self._counters.peer_subscriptions += 1
        self._counters.peer_subscriptions_opened += 1
        try:
            while not serving.done():
                update = await self._next_update(serving)
                if update is None:
                    break
                self._apply(update)
            if serving.done():
                if self._failure is not None:
                    raise self._failure
                self._send.finish()
                await self._send.acknowledged()
                # What the connection has acknowledged may not have been read there yet, and would be lost
                # with it. So the track is in use until the subscriber ends its side, having all of it.
                while await self._requests.next() is not None:
                    pass
        finally:
            if self._expiry is not None:
                self._expiry.cancel()
            self._counters.peer_subscriptions -= 1
            serving.cancel()
            self._consumer.close()
            for sender in list(self._sending.values()):
                sender.give_up(reset_code(self._failure))
            await self._groups.aclose()
        self._send.finish()

    # The subscriber's side

    async def _next_update(self, serving: asyncio.Task[None]) -> SubscribeUpdate | None:
        reading = asyncio.ensure_future(self._requests.next())
        try:
            await asyncio.wait((reading, serving), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            update = reading.result()
        finally:
            await reap(reading)
        return update if isinstance(update, SubscribeUpdate) else None

    def _apply(self, update: SubscribeUpdate) -> None:
        wishes = self._wishes = update.wishes
        self._consumer.update(
            priority=wishes.priority,
            ordered=wishes.ordered,
            max_latency=wishes.max_latency,
            start_group=wishes.start_group,
            end_group=wishes.end_group,
        )
        for sender in self._sending.values():
            sender.set_priority(group_priority(wishes, self._track.priority, sender.state.sequence))
        self._expire()

    # The groups

    async def _outcome_of_groups(self) -> None:
        try:
            await self._serve_groups()
        except ConnectionLost:
            return
        except Error as error:
            self._failure = error

    async def _serve_groups(self) -> None:
        wishes = self._wishes
        ok = Subscription(wishes.priority, wishes.ordered, wishes.max_latency, wishes.start_group, wishes.end_group)
        if self._track.error is not None and not self._track.groups:
            raise self._track.error
        await self._send.write(SubscribeOk(ok).encode())
        following = wishes.start_group
        begun, encoded_id = 0, varint(self._id)
        while (group := await self._consumer.recv_group()) is not None:
            sequence = group.sequence
            if following is not None and sequence > following:
                await self._report_dropped(following, sequence - 1)
            following = max(following or 0, sequence + 1)
            stream = self._transport.open_uni_nowait() or await self._transport.open_uni()
            stream.set_priority(group_priority(self._wishes, self._track.priority, sequence))
            sender = self._sending[sequence] = GroupSender(stream, group, self._done, self._counters)
            sender.start(encoded_id, len(self._track.readers) > 1, self._groups)
            self._keep_up()
            begun += 1
            if begun % _BATCH == 0:
                await asyncio.sleep(0)
        while self._sending:
            await self._sent.wait()

    async def _report_dropped(self, start: int, end: int) -> None:
        """Says which groups will not come, as far as that is certain: the cache has let them go."""
        end = min(end, self._track.dropped_through)
        if start <= end:
            await self._send.write(SubscribeDrop(start, end, ErrorCode.OLD).encode())

    def _done(self, sender: GroupSender) -> None:
        if self._sending.get(sender.state.sequence) is sender:
            del self._sending[sender.state.sequence]
            self._sent.notify()

    def _keep_up(self) -> None:
        """Looks for groups to give up, after another one has begun."""
        if len(self._groups):
            for sender in [sender for sender in self._sending.values() if sender.task is not None]:
                error = sender.state.error
                if isinstance(error, MoqError) and not sender.written:
                    # It has left the cache while its stream was blocked.
                    sender.give_up(error.code)
        if self._expiry is None and self._wishes.max_latency is not None:
            # Else the next to expire has begun before.
            self._expire()

    def _expire(self) -> None:
        """Gives up groups that are past the subscription's latency."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        limit = self._wishes.max_latency
        if limit is None:
            return
        now, earliest = time.monotonic(), math.inf
        for sender in list(self._sending.values()):
            if sender.state.superseded is not None:
                left = sender.state.superseded + limit - now
                if sender.written:
                    left += _DELIVERY_TIME
                if left <= 0:
                    sender.give_up(ErrorCode.OLD)
                else:
                    earliest = min(earliest, left)
        if earliest < math.inf:
            self._expiry = asyncio.get_running_loop().call_later(earliest, self._expire)

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
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from ..aio import Signal, TaskScope, reap
from ..errors import Error, ErrorCode, MoqError
from ..log import fields
from ..model.broadcast import BroadcastConsumer, BroadcastState
from ..model.group import GroupState
from ..model.info import TrackInfo
from ..model.origin import OriginConsumer
from ..model.path import strip_prefix
from ..model.subscription import MAX_GROUP, Subscription
from ..model.track import TrackConsumer
from ..transport import (
    ConnectionLost,
    RecvStream,
    SendStream,
    StreamReset,
    StreamStopped,
    Transport,
    TransportError,
)
from .decoders import ProbeRequest, Request, RequestDecoder
from .messages import (
    Announce,
    AnnounceOk,
    AnnounceRequest,
    Datagram,
    Fetch,
    Goaway,
    Probe,
    Subscribe,
    SubscribeDrop,
    SubscribeEnd,
    SubscribeOk,
    SubscribeStart,
    SubscribeUpdate,
    TrackReply,
    TrackRequest,
)
from .policy import Policy, exceeded
from .priority import CONTROL_PRIORITY, group_priority, level
from .reading import MessageReader
from .sending import GroupSender, blocked, reset_code, send_frames
from .version import MAX_HOPS, Reply, Version
from .window import Window
from .wire import varint

__all__ = ["Publisher"]

logger = logging.getLogger("iroh_moq.lite.publisher")

_DELIVERY_TIME = 1.0
"""Seconds beyond its latency that a group which was wholly handed to the connection may take to arrive;
it may long be on its way, but must not fill the connection's buffer for ever."""

_BATCH = 64
"""Groups that are begun in one turn of the loop at most, so that others have theirs."""

_ALL = 1 << 30
"""No limit to how much news is told at first."""

_NUMBER = 8
"""Bytes that a number takes at most."""

_PROBE_INTERVAL = 0.25
_PROBE_CHANGE = 0.1
"""How often the estimate is looked at, in seconds, and the change that is worth a report."""


class Publisher:
    """Serves an origin's broadcasts to one peer."""

    def __init__(
        self,
        transport: Transport,
        version: Version,
        origin: OriginConsumer,
        origin_id: int,
        tasks: TaskScope,
        policy: Policy,
        first: tuple[SendStream, RecvStream] | None = None,
    ) -> None:
        self._first = first
        self._transport = transport
        self._version = version
        self._origin = origin
        self._origin_id = origin_id
        self._tasks = tasks
        self._policy = policy
        self._window = Window(transport)
        self._opened = asyncio.Event()
        self._open = 0
        self._closed = Signal()
        self._subscriptions: set[int] = set()
        self._served: dict[tuple[str, str], _Serving] = {}
        """By broadcast and track, the latest subscription that is under way."""
        self._kinds = {"announce_streams": 0, "probe_streams": 0}
        """How many streams there are of the kinds that have a limit, by its name."""

    @property
    def is_opened(self) -> bool:
        """Whether the subscriber has opened a stream, or the connection has ended."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Waits for the subscriber's first stream, or the end of the connection."""
        await self._opened.wait()

    async def run(self) -> None:
        """Accepts the subscriber's streams until the connection ends."""
        stream = self._first
        try:
            while True:
                if stream is None:
                    stream = await self._transport.accept_bi()
                self._opened.set()
                await self._may_ask()
                self._policy.pace.requests.take()
                self._open += 1
                self._tasks.spawn(self._serve(*stream), "stream").add_done_callback(self._ended)
                stream = None
                # So that what it asks is known before the next one comes.
                await asyncio.sleep(0)
        except ConnectionLost:
            return
        finally:
            self._opened.set()

    async def _may_ask(self) -> None:
        """Waits while the subscriber has asked for too much, or too fast."""
        most = self._policy.limits.bi_streams
        if self._open >= most:
            self._policy.held(logger, "bi_streams", f"has {most} requests open")
            while self._open >= most:
                await self._closed.wait()
        await self._policy.pace.before_request(logger)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._open -= 1
        self._closed.notify()

    async def _serve(self, send: SendStream, recv: RecvStream) -> None:
        """One stream from its request to its end, whatever that end is."""
        send.set_priority(CONTROL_PRIORITY)
        requests = _Requests(recv, self._version, self._policy)
        request: Request | None = None
        try:
            request = await requests.next()
            if isinstance(request, AnnounceRequest):
                await self._announce(request, requests, send)
            elif isinstance(request, Subscribe):
                await self._subscription(request, requests, send)
            elif isinstance(request, Fetch):
                await self._fetch(request, requests, send)
            elif isinstance(request, TrackRequest):
                await self._track(request, requests, send)
            elif isinstance(request, ProbeRequest):
                await self._probe(requests, send)
            elif isinstance(request, Goaway):
                logger.info("%s asks to be left soon, for %r", self._transport.remote_id, request.uri)
                send.finish()
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
            about = None
            if isinstance(request, (Subscribe, Fetch, TrackRequest)):
                about = request.broadcast, request.track
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
        if len(self._subscriptions) >= (most := self._policy.limits.subscriptions):
            raise exceeded("subscriptions", f"{most} subscriptions are under way")
        self._subscriptions.add(request.id)
        try:
            broadcast = self._broadcast(request.broadcast, request.track)
            serving = _Serving(
                self._transport,
                self._version,
                self._window,
                broadcast,
                self._tasks,
                self._policy,
                request,
                requests,
                send,
            )
            what = request.broadcast, request.track
            self._served[what] = serving
            try:
                await serving.run()
            finally:
                if self._served.get(what) is serving:
                    del self._served[what]
        finally:
            self._subscriptions.discard(request.id)

    def _broadcast(self, path: str, track: str) -> BroadcastState:
        """The broadcast that a request for one of its tracks is about."""
        broadcast = self._policy.find(self._origin, path)
        if not track:
            raise MoqError(ErrorCode.NOT_FOUND, f"no track of {path!r} is named")
        return broadcast._state

    # FETCH

    async def _fetch(self, request: Fetch, requests: _Requests, send: SendStream) -> None:
        broadcast = self._broadcast(request.broadcast, request.track)
        if request.group > MAX_GROUP:
            raise MoqError(ErrorCode.NOT_FOUND, f"group {request.group}")
        await requests.answered_by(self._send_group(broadcast, request, send))

    async def _send_group(self, broadcast: BroadcastState, request: Fetch, send: SendStream) -> None:
        group = await broadcast.fetch_group(request.track, request.group, request.priority)
        try:
            send.set_priority(group_priority(Subscription(request.priority), 0, request.group))
            await send_frames(send, group, self._version, self._policy.limits.blocked_seconds)
        finally:
            group.close()

    # TRACK

    async def _track(self, request: TrackRequest, requests: _Requests, send: SendStream) -> None:
        try:
            broadcast = self._broadcast(request.broadcast, request.track)
        except MoqError:
            # Whoever reads a track may know what it is, also when its broadcast has just ended.
            serving = self._served.get((request.broadcast, request.track))
            if serving is None or (known := serving.info) is None:
                raise
        else:
            known = broadcast.known_info(request.track)
        if known is None:
            await requests.answered_by(self._send_info(broadcast, request.track, send))
        else:
            await send.write(TrackReply(known).encode())
            send.finish()

    @staticmethod
    async def _send_info(broadcast: BroadcastState, track: str, send: SendStream) -> None:
        await send.write(TrackReply(await broadcast.track_info(track)).encode())
        send.finish()

    # ANNOUNCE

    async def _announce(self, request: AnnounceRequest, requests: _Requests, send: SendStream) -> None:
        with self._counted("announce_streams"):
            origin = self._origin.consume_routes(request.prefix)
            news = self._tasks.spawn(self._send_news(origin, request, send), "announce")
            try:
                await requests.ended(beside=news)
            finally:
                news.cancel()
                origin.close()
        send.finish()

    @contextmanager
    def _counted(self, limit: str) -> Iterator[None]:
        """One more stream of a kind, by the name of its limit, for as long as the block lasts."""
        if self._kinds[limit] >= (most := getattr(self._policy.limits, limit)):
            raise exceeded(limit, f"{most} such streams are open")
        self._kinds[limit] += 1
        try:
            yield
        finally:
            self._kinds[limit] -= 1

    async def _send_news(self, origin: OriginConsumer, request: AnnounceRequest, send: SendStream) -> None:
        news = _News(request, self._version, self._origin_id, self._policy)
        try:
            if self._version.announce_ok:
                first = news.encode(origin.announced_nowait(_ALL))
                await send.write(AnnounceOk(self._origin_id, len(first)).encode(), *first)
            while batch := await origin.announced_batch():
                if messages := news.encode(batch):
                    await send.write(b"".join(messages))
        except (StreamStopped, ConnectionLost):
            return

    # PROBE

    async def _probe(self, requests: _Requests, send: SendStream) -> None:
        with self._counted("probe_streams"):
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
                    rtt = self._transport.stats().rtt
                    milliseconds = None if rtt is None else max(round(rtt * 1000), 1)
                    await send.write(Probe(rate, milliseconds).encode(self._version))
                    last = rate
                # No transport tells of a change in its estimate, so it has to be looked at.
                await asyncio.sleep(_PROBE_INTERVAL)
        except (StreamStopped, ConnectionLost):
            return


class _News:
    """What one subscriber is told of broadcasts that come and go, and of the ways they take."""

    def __init__(self, request: AnnounceRequest, version: Version, origin_id: int, policy: Policy) -> None:
        self._request = request
        self._version = version
        self._origin_id = origin_id
        self._policy = policy
        self._told: dict[str, tuple[int, ...]] = {}
        """The broadcasts that it knows of, with their routes."""

    def encode(self, batch: list[tuple[str, BroadcastConsumer | None]]) -> list[bytes]:
        """The messages that say so."""
        version, messages = self._version, []
        for path, broadcast in self._policy.learnable(batch):
            suffix = strip_prefix(path, self._request.prefix)
            state = None if broadcast is None else broadcast._state
            if state is None or not self._passes(state):
                if self._told.pop(path, None) is not None:
                    messages.append(Announce(False, suffix).encode(version))
                continue
            # Where the subscriber adds our id to the list itself, the list ends before us.
            route = state.route if version.announce_ok else (*state.route, self._origin_id)
            if path in self._told and (not version.reannounce or self._told[path] == route):
                continue
            self._told[path] = route
            messages.append(Announce(True, suffix, state.hops + 1, route).encode(version))
        return messages

    def _passes(self, broadcast: BroadcastState) -> bool:
        """Whether the subscriber is to hear of it: not if it has come from there, or by too many hops."""
        if self._version.hop_ids and broadcast.hops >= MAX_HOPS:
            logger.warning("a broadcast has passed %d origins, which is a loop or too far", broadcast.hops)
            return False
        return not self._request.exclude or self._request.exclude not in broadcast.route


class _Requests:
    """The requests that arrive on a stream."""

    def __init__(self, recv: RecvStream, version: Version, policy: Policy) -> None:
        limits = policy.limits
        self._messages = MessageReader(recv, RequestDecoder(version, limits.message_bytes), limits)
        self._pace = policy.pace
        self._begun = False
        self._queue: deque[Request] = deque()

    async def next(self) -> Request | None:
        """The next request, or None once the subscriber has finished.

        Raises:
            MoqError: the bytes mean nothing.
            TransportError: the stream or the connection is gone.
        """
        if self._begun:
            # The first was counted with its stream.
            await self._pace.before_request(logger)
        if not self._queue:
            self._queue.extend(await self._messages.next())
            if not self._queue:
                return None
        if self._begun:
            self._pace.requests.take()
        self._begun = True
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

    async def answered_by(self, answer: Coroutine[Any, Any, None]) -> None:
        """Answers the request, unless the subscriber resets its side or says more.

        Raises:
            Error: as :meth:`next`, or whatever the answer fails with.
        """
        reading, answering = asyncio.ensure_future(self.next()), asyncio.ensure_future(answer)
        try:
            await asyncio.wait((reading, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                # The subscriber may have no more to say, which is no reason not to answer.
                reading.result()
            await answering
        finally:
            await reap(reading)
            await reap(answering)


class _Serving:
    """One subscription of the peer: its groups, and the changes it asks for."""

    def __init__(
        self,
        transport: Transport,
        version: Version,
        window: Window,
        broadcast: BroadcastState,
        tasks: TaskScope,
        policy: Policy,
        request: Subscribe,
        requests: _Requests,
        send: SendStream,
    ) -> None:
        about = fields(peer=policy.peer, broadcast=request.broadcast, track=request.track)
        logger.debug("%s subscribes to %r of %r", policy.peer, request.track, request.broadcast, extra=about)
        self._transport = transport
        self._version = version
        self._window = window
        self._tasks = tasks
        self._policy = policy
        self._counters = policy.counters
        self._patience = policy.limits.blocked_seconds
        self._id = request.id
        self._requests = requests
        self._send = send
        self._wishes = request.wishes
        self._consumer = TrackConsumer(broadcast.subscribe(request.track, request.wishes), request.wishes)
        self._track = self._consumer._state
        self._waiting: dict[GroupSender, None] = {}
        """Whole groups that there was no room to commit, in the order of arrival."""
        self._sending: dict[GroupSender, None] = {}
        """Those that are under way: by themselves, as a number can be given again once its group has left the cache."""
        self._sent = Signal()
        self._is_whole = False
        """Whether all groups of the track, from the first on or that which was asked for, have been delivered."""
        self._gave_up = False
        self._failure: Error | None = None
        self._groups = TaskScope(f"subscription {request.id}")
        self._serving: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def info(self) -> TrackInfo | None:
        """What the track is, where nobody has to be asked."""
        return self._track.told_info

    async def run(self) -> None:
        serving = self._serving = self._tasks.spawn(self._outcome_of_groups(), f"subscription {self._id}")
        self._counters.peer_subscriptions += 1
        self._counters.peer_subscriptions_opened += 1
        if self._version.datagrams and self._transport.max_datagram_size:
            self._track.datagram_sinks[self._send_datagram] = self._datagram_limit
        try:
            while not serving.done():
                update = await self._next_update(serving)
                if update is None:
                    break
                self._apply(update)
            if serving.done():
                if self._failure is not None:
                    raise self._failure
                self._track.delivered += self._is_whole
                self._send.finish()
                await self._send.acknowledged()
                # What the connection has acknowledged may not have been read there yet, and would be lost
                # with it. So the track is in use until the subscriber ends its side, having all of it.
                while await self._requests.next() is not None:
                    pass
        finally:
            if self._expiry is not None:
                self._expiry.cancel()
            self._track.datagram_sinks.pop(self._send_datagram, None)
            self._counters.peer_subscriptions -= 1
            serving.cancel()
            self._consumer.close()
            self._window.leave(self)
            for sender in list(self._sending):
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
        for sender in self._sending:
            if sender not in self._waiting:
                self._rank(sender)
        while wishes.reliable and self.send_next():
            pass
        self._expire()

    # The groups

    async def _outcome_of_groups(self) -> None:
        try:
            await self._serve_groups()
        except ConnectionLost:
            return
        except Error as error:
            self._failure = error
        except Exception:
            # A defect of ours, which the owner of the task logs; the track must not seem to have ended well.
            self._failure = MoqError(ErrorCode.DROPPED, "the groups could not be served")
            raise

    async def _serve_groups(self) -> None:
        wishes = self._wishes
        ok = Subscription(wishes.priority, wishes.ordered, wishes.max_latency, wishes.start_group, wishes.end_group)
        if self._track.error is not None and not self._track.groups:
            # A copy: each time that an error is raised adds to its traceback.
            raise copy(self._track.error)
        replies = self._version.replies
        if Reply.OK in replies:
            await self._send.write(SubscribeOk(ok).encode(self._version))
        unstarted = Reply.START in replies
        following = wishes.start_group
        begun, encoded_id = 0, varint(self._id)
        while (group := await self._consumer.recv_group()) is not None:
            sequence = group.sequence
            if unstarted:
                unstarted = False
                await self._send.write(SubscribeStart(sequence).encode(self._version))
            if following is not None and sequence > following:
                await self._report_dropped(following, sequence - 1)
            following = max(following or 0, sequence + 1)
            stream = self._transport.open_uni_nowait() or await self._allowed_stream()
            sender = GroupSender(stream, group, self._version, self._done, self._counters, self._patience)
            self._sending[sender] = None
            if self._must_wait(sender.state):
                # What it is goes ahead, so that the subscriber knows what is to come.
                stream.set_priority(group_priority(self._wishes, self._track.priority, sequence, 0))
                if sender.announce(encoded_id):
                    self._waiting[sender] = None
                    self._window.wait(self)
            else:
                if sender.state.finished:
                    self._commit(sender)
                self._rank(sender)
                sender.start(encoded_id, self._is_shared, self._groups)
            self._keep_up()
            begun += 1
            if begun % _BATCH == 0:
                await asyncio.sleep(0)
        while self._sending:
            await self._sent.wait()
        self._is_whole = not self._gave_up and begun == self._track.next_sequence() - (wishes.start_group or 0)
        if Reply.END in replies:
            # A Rust relay that knows the end goes by it as soon as the last group is there, and those
            # that the last has overtaken are lost.
            await self._send.write(SubscribeEnd(self._track.next_sequence()).encode(self._version))

    async def _allowed_stream(self) -> SendStream:
        """A stream for the next group, once the subscriber allows one more."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._transport.open_uni()
        except TimeoutError:
            raise blocked(self._patience) from None

    async def _report_dropped(self, start: int, end: int) -> None:
        """Says which groups will not come, as far as that is certain: the cache has let them go."""
        end = min(end, self._track.dropped_through)
        if start <= end:
            await self._send.write(SubscribeDrop(start, end, ErrorCode.OLD).encode(self._version))

    # Groups that there is no room for

    def _must_wait(self, group: GroupState) -> bool:
        """Whether a group has to wait for room: only one that is whole, as others are sent as they grow."""
        if not group.finished or self._wishes.reliable:
            return False
        return bool(self._waiting) or not self._window.has_room(self.level)

    @property
    def level(self) -> int:
        """What counts of this subscription's groups before they do themselves."""
        return level(self._wishes, self._track.priority)

    def send_next(self) -> bool:
        """There is room for a group of those that wait: the newest, or the oldest of an ordered subscription.
        Whether others still wait."""
        waiting = self._waiting
        if waiting:
            sender = next(iter(waiting)) if self._wishes.ordered else next(reversed(waiting))
            del waiting[sender]
            self._commit(sender)
            self._rank(sender)
            sender.send(self._is_shared, self._groups)
        return bool(waiting)

    def _commit(self, sender: GroupSender) -> None:
        """Counts a group that is handed over as a whole, until it has arrived."""
        if not self._wishes.reliable:
            sender.committed = self.level, sender.state.size
            sender.commitment = self._window.take(*sender.committed)

    def _rank(self, sender: GroupSender) -> None:
        sender.set_priority(
            group_priority(self._wishes, self._track.priority, sender.state.sequence, sender.commitment)
        )

    @property
    def _is_shared(self) -> bool:
        return len(self._track.readers) > 1

    # Datagrams

    def _datagram_limit(self) -> int:
        """How many bytes fit beside what says whose they are."""
        header = len(varint(self._id)) + _NUMBER + _NUMBER
        return max(self._transport.max_datagram_size - header, 0)

    def _send_datagram(self, sequence: int, time: int | None, data: bytes) -> None:
        try:
            self._transport.send_datagram(Datagram(self._id, sequence, time or 0, data).encode())
        except TransportError as error:
            # One that a relay's own peer could send, but that is too large for this one; or the end of all.
            logger.debug("a datagram for %s is lost: %s", self._transport.remote_id, error)

    def _done(self, sender: GroupSender) -> None:
        self._gave_up = self._gave_up or sender.given_up
        if sender in self._sending:
            del self._sending[sender]
            self._waiting.pop(sender, None)
            self._sent.notify()
            if sender.commitment is not None:
                self._window.give_back(*sender.committed)
        if sender.stuck:
            self._stuck()

    def _stuck(self) -> None:
        """The subscriber has read nothing of a group for too long."""
        if self._wishes.reliable and self._serving is not None:
            # What it wanted is all of them.
            self._failure = self._failure or blocked(self._patience)
            self._serving.cancel()
        else:
            self._policy.held(logger, "blocked_seconds", f"has read nothing for {self._patience:g} seconds")

    def _keep_up(self) -> None:
        """Looks for groups to give up, after another one has begun."""
        if len(self._groups):
            for sender in [sender for sender in self._sending if sender.task is not None]:
                error = sender.state.error
                if isinstance(error, MoqError) and not sender.written:
                    # It has left the cache while its stream was blocked.
                    sender.give_up(error.code)
        while self._waiting:
            sender = next(iter(self._waiting))
            if not isinstance(sender.state.error, MoqError):
                break
            # It has left the cache while it waited, as the oldest do first.
            sender.give_up(sender.state.error.code)
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
        for sender in list(self._sending):
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

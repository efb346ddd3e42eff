"""The event loop of a `Moq`: one inbox, one loop, and a short method for every kind of event.

It holds the table of sessions by peer, and that of broadcasts (`Published`), and nothing else changes either.

**One connection per peer.** A peer may dial us while we dial it. The connection that the endpoint
with the smaller id dialled survives, and each side can tell by itself which that is:

- Dialling, with the smaller id: what the peer dialled is held, unused, until our own dial has
  come through, and closed then; were our dial to fail, it is taken.
- Dialling, with the larger id: what the peer dialled is taken at once, and our own dial given up.

A dial has come through when the peer has opened a stream on it (`MoqSession._confirmed`), not
with the handshake alone, for only then has the peer taken it. Nothing is announced on a connection
before it is taken, and nobody is given a session that may turn out to be the other one.

A peer that dials although there is a session with it either dialled before it took ours, and will
give that dial up in a moment, or has lost the session and does not expect us to know. So its
connection is held for `_HOLD`, and takes the session's place if it is still there. If the session
is one that the peer dialled itself, only the second can be, and there is nothing to wait for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

from iroh import Connection, Endpoint, EndpointAddr

from .access import EVERYTHING, Access, Audience
from .address import Dialer
from .aio import TaskScope, reap
from .errors import ConnectError, Error, ErrorCode, InternalConsistencyError, ServerError, SessionError
from .limits import DEFAULT_LIMITS, Limits
from .lite import ALPNS, new_origin_id
from .lite.policy import Policy
from .log import fields
from .metrics import Counters, Metrics
from .model import BroadcastProducer
from .published import Published
from .reconnect import Reconnect
from .refusals import Refusals
from .session import IncomingSessionStream, MoqSession
from .transport import ConnectionLost, RecvStream, SendStream
from .transport.iroh import IrohTransport, iroh_transport

__all__ = ["Actor", "Connect", "GetPublished", "Incoming", "Publish", "Unpublish", "shut_down_error"]

logger = logging.getLogger("iroh_moq.actor")

_DUPLICATE = "duplicate"
_REPLACED = "replaced"
_SHUTDOWN = "shutdown"

_TOO_MANY = {"sessions": "sessions", "connections_per_peer": "connections"}
"""What there are too many of, for the peer's eyes, by the limit's name."""

_CONFIRM = 3.0
"""Seconds that a dialled peer has for its first stream. One that opens none, as it publishes and
subscribes to nothing, is taken to have accepted."""

_HOLD = 1.0
"""Seconds that a second connection is held before it takes the place of the first."""

_PATIENCE = 10.0
"""Seconds to wait for the peer's own dial after it has turned ours down in favour of that."""


def shut_down_error() -> InternalConsistencyError:
    """What every call gets after the shutdown."""
    return InternalConsistencyError("this Moq was shut down; make a new one")


@dataclass(slots=True)
class Connect:
    """Somebody wants a session with a peer."""

    remote: EndpointAddr
    access: Access
    reconnect: Reconnect | None
    reply: asyncio.Future[MoqSession]


@dataclass(slots=True)
class Incoming:
    """A peer has dialled, and is authorized."""

    connection: Connection
    access: Access


@dataclass(slots=True)
class Publish:
    """A broadcast is to be announced."""

    name: str
    producer: BroadcastProducer
    audience: Audience
    reply: asyncio.Future[None]


@dataclass(slots=True)
class Unpublish:
    """A broadcast is to be announced no more."""

    name: str
    reply: asyncio.Future[None]


@dataclass(slots=True)
class GetPublished:
    """Somebody wants the names of the broadcasts."""

    reply: asyncio.Future[list[str]]


@dataclass(slots=True)
class _Arrived:
    """A connection for a session that is away, and the stream by which the peer has taken it, if it opened one."""

    transport: IrohTransport
    first: tuple[SendStream, RecvStream] | None = None


@dataclass(slots=True)
class _Dialled:
    """A dial has come through or failed."""

    peer: str
    dial: asyncio.Task[None] | None
    result: MoqSession | _Arrived | Error


@dataclass(slots=True)
class _Abandoned:
    """Somebody who waited for a session waits no more."""

    peer: str


@dataclass(slots=True)
class _HoldOver:
    """A held connection has been held long enough."""

    peer: str
    held: IrohTransport


@dataclass(slots=True)
class _Lost:
    """A session that comes back has lost its connection."""

    peer: str
    session: MoqSession


@dataclass(slots=True)
class _Retry:
    """It is time to dial again for a session that is away."""

    peer: str
    session: MoqSession


@dataclass(slots=True)
class _SessionEnded:
    """A session has ended, and nothing of it is left."""

    peer: str
    session: MoqSession
    error: SessionError


@dataclass(slots=True)
class _BroadcastEnded:
    """A published broadcast's producer has ended it."""

    name: str
    producer: BroadcastProducer


@dataclass(slots=True)
class _Stop:
    """The end of the loop."""


Answer = TypeVar("Answer")
Message = Connect | Incoming | Publish | Unpublish | GetPublished
_Event = Message | _Dialled | _Abandoned | _HoldOver | _Lost | _Retry | _SessionEnded | _BroadcastEnded | _Stop


@dataclass(slots=True)
class _Peer:
    """What there is with one peer. `session` is the live one, or one that is away and comes back; `waiting`
    are those who want one.

    `access` is what all of those allow the peer, `held_access` what it may do on the held connection.
    `reconnect` is how the session comes back, if it does; `remote` is where to dial for it, `delays` are the
    pauses before its next attempts, and `retry` the one that is under way.
    """

    session: MoqSession | None = None
    we_dialled: bool = False
    dialling: asyncio.Task[None] | None = None
    waiting: list[asyncio.Future[MoqSession]] = field(default_factory=list)
    held: IrohTransport | None = None
    held_access: Access = EVERYTHING
    access: Access = EVERYTHING
    patience: asyncio.TimerHandle | None = None
    remote: EndpointAddr | None = None
    reconnect: Reconnect | None = None
    delays: Iterator[float] = field(default_factory=lambda: iter(()))
    retry: asyncio.TimerHandle | None = None

    @property
    def away(self) -> bool:
        """Whether there is a session whose connection is lost."""
        return self.session is not None and self.session._is_away

    @property
    def live(self) -> bool:
        """Whether there is a session with a connection."""
        return self.session is not None and not self.session.is_closed and not self.session._is_away

    @property
    def dialled(self) -> int:
        """How many connections that it has dialled there are."""
        return (self.session is not None and not self.we_dialled) + (self.held is not None)

    def stop_retrying(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None

    def end_patience(self) -> None:
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None

    def take_waiting(self) -> list[asyncio.Future[MoqSession]]:
        """Those who want a session, of whom none waits any more."""
        self.end_patience()
        self.access = EVERYTHING
        waiting, self.waiting = self.waiting, []
        return waiting

    @property
    def unused(self) -> bool:
        return self.session is None and self.dialling is None and not self.waiting and self.held is None


class Actor:
    """Owns every session and every task of a `Moq`, from its first event to its shutdown."""

    def __init__(self, endpoint: Endpoint, alpns: tuple[bytes, ...] = ALPNS, limits: Limits = DEFAULT_LIMITS) -> None:
        self._dialer = Dialer(endpoint, alpns)
        self._own_id = str(endpoint.id())
        self._origin_id = new_origin_id()
        self._inbox: asyncio.Queue[_Event] = asyncio.Queue()
        self._peers: dict[str, _Peer] = {}
        self._published = Published(self._sessions, lambda *ended: self._post(_BroadcastEnded(*ended)))
        self._streams: WeakSet[IncomingSessionStream] = WeakSet()
        self._limits = limits
        self._deciding: dict[str, int] = {}
        """By peer, how many of its connections wait to be authorized."""
        self._decisions: set[asyncio.Future[Access | None]] = set()
        self.counters = Counters()
        self.refusals = Refusals()
        self._tasks = TaskScope("moq")
        self._owner = TaskScope("moq")
        self._closed = False
        self._run_task = self._owner.spawn(self._run(), "actor")

    # From outside

    @property
    def closed(self) -> bool:
        return self._closed

    def send(self, message: Message) -> None:
        """Puts a message into the inbox.

        Raises:
            InternalConsistencyError: the actor was shut down.
        """
        if self._closed:
            raise shut_down_error()
        self._inbox.put_nowait(message)

    def begin_deciding(self, connection: Connection) -> bool:
        """A peer has dialled, and is about to be authorized; whether it may be. If not, it has been refused."""
        name = str(connection.remote_id())
        peer = self._peers.get(name)
        known = peer is not None and peer.session is not None
        count = self._deciding.get(name, 0)
        had = count + (0 if peer is None else peer.dialled)
        if had >= self._limits.connections_per_peer:
            self._turn_away(connection, name, "connections_per_peer", f"{name} has dialled {had} times")
            return False
        if not known and not count and len(self._deciding) >= self._limits.sessions:
            self._turn_away(connection, name, "sessions", f"there is no room for a session with {name}")
            return False
        self._deciding[name] = count + 1
        return True

    async def decide(self, decision: Coroutine[Any, Any, Access | None]) -> Access | None:
        """What has been decided on a peer, once that is.

        Raises:
            InternalConsistencyError: the actor was shut down before.
        """
        deciding = asyncio.ensure_future(decision)
        self._decisions.add(deciding)
        try:
            await asyncio.wait((deciding,))
            if self._closed or deciding.cancelled():
                raise shut_down_error()
            return deciding.result()
        finally:
            self._decisions.discard(deciding)
            await reap(deciding)

    def end_deciding(self, connection: Connection) -> None:
        """It is decided."""
        name = str(connection.remote_id())
        self._deciding[name] -= 1
        if not self._deciding[name]:
            del self._deciding[name]

    def _turn_away(self, connection: Connection | IrohTransport, name: str, limit: str, text: str) -> None:
        """Refuses a connection because of a limit, by the limit's name."""
        self.refusals.add(logger, logging.WARNING, name, limit, text)
        reason = f"too many {_TOO_MANY[limit]}"
        if isinstance(connection, Connection):
            connection.close(ErrorCode.BOUNDS_EXCEEDED, reason.encode())
        else:
            self._tasks.spawn(_close_transport(connection, reason, ErrorCode.BOUNDS_EXCEEDED), limit)

    def incoming_sessions(self) -> IncomingSessionStream:
        if self._closed:
            raise shut_down_error()
        stream = IncomingSessionStream()
        self._streams.add(stream)
        return stream

    def metrics(self) -> Metrics:
        return Metrics.of(self.counters, self.refusals.counts, len(self._published))

    async def shutdown(self) -> None:
        """Ends every session and task. A second call waits for the first."""
        if not self._closed:
            self._closed = True
            self._inbox.put_nowait(_Stop())
        if not self._run_task.done():
            await asyncio.wait((self._run_task,))

    # The loop

    async def _run(self) -> None:
        try:
            while not isinstance(event := await self._inbox.get(), _Stop):
                self._handle(event)
                # What it is about may end long before the next one comes.
                del event
        finally:
            self._closed = True
            await self._shut_down()

    def _handle(self, event: _Event) -> None:
        match event:
            case Connect(remote, access, reconnect, reply):
                self._connect(remote, access, reconnect, reply)
            case Incoming(connection, access):
                self._incoming(self._transport(connection), access)
            case Publish(name, producer, audience, reply):
                self._published.publish(name, producer, audience)
                _answer(reply, None)
            case Unpublish(name, reply):
                self._published.unpublish(name)
                _answer(reply, None)
            case GetPublished(reply):
                _answer(reply, self._published.names())
            case _Dialled(peer, dial, result):
                self._dialled(peer, dial, result)
            case _Abandoned(peer):
                self._abandoned(peer)
            case _HoldOver(peer, held):
                self._hold_over(peer, held)
            case _Lost(peer, session):
                self._lost(peer, session)
            case _Retry(peer, session):
                self._retry_now(peer, session)
            case _SessionEnded(peer, session, error):
                self._session_ended(peer, session, error)
            case _BroadcastEnded(name, producer):
                self._published.end(name, producer)

    def _post(self, event: _Event) -> None:
        if not self._closed:
            self._inbox.put_nowait(event)

    # Sessions

    def _sessions(self) -> Iterable[MoqSession]:
        return [peer.session for peer in self._peers.values() if peer.session is not None]

    def _connect(
        self, remote: EndpointAddr, access: Access, reconnect: Reconnect | None, reply: asyncio.Future[MoqSession]
    ) -> None:
        name = str(remote.id())
        # Whoever waited before and does not any more may not have been heard of yet.
        self._abandoned(name)
        peer = self._peers.setdefault(name, _Peer())
        if reconnect is not None:
            peer.remote, peer.reconnect = remote, reconnect
            if peer.session is not None:
                peer.session._come_back(reconnect)
        if peer.live:
            assert peer.session is not None
            _answer(reply, peer.session)
            return
        peer.access &= access
        peer.waiting.append(reply)
        reply.add_done_callback(lambda reply: self._post(_Abandoned(name)) if reply.cancelled() else None)
        if peer.dialling is None and peer.patience is None:
            # For a session that is away as well: somebody wants it now.
            peer.stop_retrying()
            self._begin_dial(name, peer, remote)

    def _begin_dial(self, name: str, peer: _Peer, remote: EndpointAddr) -> None:
        peer.dialling = self._tasks.spawn(self._dial(name, peer, remote), "dial")

    async def _dial(self, name: str, peer: _Peer, remote: EndpointAddr) -> None:
        """Dials, and waits until the peer has taken the connection."""
        dial, started = asyncio.current_task(), time.monotonic()
        try:
            transport = self._transport(await self._reached(name, peer, remote))
            result = await (self._until_taken(name, transport) if peer.away else self._confirmed(name, peer, transport))
        except Error as error:
            self._post(_Dialled(name, dial, error))
            return
        except Exception as error:
            # A defect of ours, which the owner of the task logs; those who wait must hear of it.
            self._post(_Dialled(name, dial, ConnectError(f"peer {name[:10]} could not be dialled: {error!r}")))
            raise
        if self._closed:
            await self._abandon(result, _SHUTDOWN)
        self.counters.connect_time.add(time.monotonic() - started)
        self._post(_Dialled(name, dial, result))

    async def _reached(self, name: str, peer: _Peer, remote: EndpointAddr) -> Connection:
        """A connection; an attempt to bring a session back may take only so long."""
        try:
            async with asyncio.timeout(peer.reconnect.timeout if peer.away and peer.reconnect else None):
                return await self._dialer.dial(remote)
        except TimeoutError:
            raise ConnectError(f"peer {name[:10]} did not answer in time") from None

    async def _confirmed(self, name: str, peer: _Peer, transport: IrohTransport) -> MoqSession:
        """A new session on a connection, once the peer has taken that."""
        session = self._session(transport, peer.access)
        try:
            async with asyncio.timeout(_CONFIRM):
                await session._confirmed()
        except TimeoutError:
            self._untold(name)
        except asyncio.CancelledError:
            await self._abandon(session, _DUPLICATE)
            raise
        if session.is_closed:
            raise _refused(name, await session.closed())
        return session

    async def _until_taken(self, name: str, transport: IrohTransport) -> _Arrived:
        """A connection for the session that is away, once the peer has taken it."""
        arrived = _Arrived(transport)
        try:
            async with asyncio.timeout(_CONFIRM):
                arrived.first = await transport.accept_bi()
        except TimeoutError:
            self._untold(name)
        except asyncio.CancelledError:
            await self._abandon(arrived, _DUPLICATE)
            raise
        except ConnectionLost as error:
            await transport.aclose()
            raise _refused(name, error.error) from error
        return arrived

    @staticmethod
    def _untold(name: str) -> None:
        logger.debug("%s has opened no stream; it is taken to have accepted", name, extra=fields(peer=name))

    @staticmethod
    async def _abandon(dialled: MoqSession | _Arrived, reason: str) -> None:
        """Closes what a dial has brought, to the end."""
        if isinstance(dialled, _Arrived):
            await _close_transport(dialled.transport, reason)
        else:
            dialled.close(0, reason)
            await dialled.closed()

    def _dialled(self, name: str, dial: asyncio.Task[None] | None, result: MoqSession | _Arrived | Error) -> None:
        peer = self._peers.get(name)
        if peer is None or peer.dialling is not dial:
            # It was given up just when it had come to its end.
            if not isinstance(result, Error):
                self._discard(result)
            return
        peer.dialling = None
        if not isinstance(result, Error):
            if peer.live:
                self._discard(result)
                return
            self._release(peer)
            if isinstance(result, MoqSession):
                self._take(name, peer, result, we_dialled=True)
            elif peer.away:
                self._take_back(name, peer, result, we_dialled=True)
            else:
                # The session it was made for was closed meanwhile. Who came since wants a new one.
                self._discard(result)
                if peer.waiting:
                    assert peer.remote is not None
                    self._begin_dial(name, peer, peer.remote)
                else:
                    self._tidy(name)
        elif self._take_held(name, peer):
            return
        elif peer.away:
            self._missed(name, peer, result)
        elif isinstance(result, ServerError) and result.code == 0 and result.reason == _DUPLICATE:
            # The peer prefers its own dial, which must be on its way.
            error = ConnectError(f"peer {name[:10]} turned the connection down in favour of one that never came")
            peer.patience = asyncio.get_running_loop().call_later(_PATIENCE, self._give_up, name, error)
        else:
            self._give_up(name, result)

    # Sessions that come back

    def _lost(self, name: str, session: MoqSession) -> None:
        peer = self._peers.get(name)
        if peer is None or peer.session is not session or not peer.away:
            return
        error = session._kept.loss
        logger.info("session with %s is away: %s", name, error, extra=fields(peer=name))
        assert peer.reconnect is not None
        peer.delays = peer.reconnect.delays()
        if peer.dialling is None and not self._take_held(name, peer):
            self._schedule(name, peer, ConnectError(f"peer {name[:10]} was lost: {error}"))

    def _missed(self, name: str, peer: _Peer, error: Error) -> None:
        """An attempt to bring a session back has failed."""
        logger.info("%s cannot be reached again yet: %s", name, error, extra=fields(peer=name))
        if isinstance(error, ServerError) and error.code and error.code != ErrorCode.BOUNDS_EXCEEDED:
            # The peer is there, and wants no session; were it only full, it would have one later.
            self._stay_away(name, peer, SessionError(error.code, error.reason), error)
        else:
            self._schedule(name, peer, error)

    def _schedule(self, name: str, peer: _Peer, error: Error) -> None:
        """Plans the next attempt, if there is to be one."""
        delay = next(peer.delays, None)
        if delay is None:
            self._stay_away(name, peer, SessionError(None, f"it did not come back: {error}"), error)
        else:
            session = peer.session
            assert session is not None
            peer.retry = asyncio.get_running_loop().call_later(delay, self._post, _Retry(name, session))

    def _retry_now(self, name: str, session: MoqSession) -> None:
        peer = self._peers.get(name)
        if peer is None or peer.session is not session or not peer.away or peer.dialling is not None:
            return
        peer.retry = None
        assert peer.remote is not None
        self._begin_dial(name, peer, peer.remote)

    def _stay_away(self, name: str, peer: _Peer, reason: SessionError, error: Error) -> None:
        """Ends a session that cannot be brought back, with those who wait for it."""
        assert peer.session is not None
        peer.session._finish(reason)
        self._give_up(name, error)

    def _take_back(self, name: str, peer: _Peer, arrived: _Arrived, *, we_dialled: bool) -> None:
        """Gives a session that was away, or is about to be, its next connection."""
        session = peer.session
        assert session is not None
        peer.stop_retrying()
        peer.we_dialled = we_dialled
        session._attach(arrived.transport, arrived.first)
        self.counters.reconnects += 1
        logger.info("session with %s is back", name, extra=fields(peer=name))
        self._answer_waiting(peer, session)

    def _answer_waiting(self, peer: _Peer, session: MoqSession) -> None:
        for reply in peer.take_waiting():
            _answer(reply, session)

    def _give_up(self, name: str, error: Error) -> None:
        peer = self._peers.get(name)
        if peer is not None:
            self.counters.handshakes_failed["outgoing"] += 1
            for reply in peer.take_waiting():
                if not reply.done():
                    reply.set_exception(error)
            self._tidy(name)

    def _abandoned(self, name: str) -> None:
        peer = self._peers.get(name)
        if peer is not None:
            peer.waiting = [reply for reply in peer.waiting if not reply.done()]
            if not peer.waiting:
                peer.end_patience()
                peer.access = EVERYTHING
                if peer.dialling is not None and not peer.away:
                    peer.dialling.cancel()
                    peer.dialling = None
                    # What the peer has dialled waited for our own dial.
                    self._take_held(name, peer)
            self._tidy(name)

    def _incoming(self, transport: IrohTransport, access: Access) -> None:
        name = str(transport.remote_id)
        peer = self._peers.get(name)
        new = peer is None or (peer.session is None and peer.dialling is None)
        if new and self._sessions_count() >= self._limits.sessions:
            self._turn_away(transport, name, "sessions", f"there is no room for a session with {name}")
            return
        if peer is None:
            peer = self._peers[name] = _Peer()
        if peer.dialling is not None and self._own_id < name:
            self._hold(name, peer, transport, access)
        elif peer.live and peer.we_dialled:
            self._hold(name, peer, transport, access)
            asyncio.get_running_loop().call_later(_HOLD, self._post, _HoldOver(name, transport))
        else:
            if peer.dialling is not None:
                peer.dialling.cancel()
                peer.dialling = None
            self._welcome(name, peer, transport, access)

    def _welcome(self, name: str, peer: _Peer, transport: IrohTransport, access: Access) -> None:
        """Takes a connection that the peer has dialled."""
        session = peer.session
        if session is not None and not session.is_closed and session._kept.enabled:
            session._lite.policy.access &= access
            self._take_back(name, peer, _Arrived(transport), we_dialled=False)
        else:
            self._take(name, peer, self._session(transport, access & peer.access), we_dialled=False)

    def _take_held(self, name: str, peer: _Peer) -> bool:
        """Takes the connection that is held; whether there was one that still lives."""
        held = peer.held
        if held is None:
            return False
        if held.close_error is not None:
            self._release(peer)
            return False
        peer.held = None
        self._welcome(name, peer, held, peer.held_access)
        return True

    def _hold(self, name: str, peer: _Peer, transport: IrohTransport, access: Access) -> None:
        self._release(peer)
        logger.debug("%s dialled while there is another connection with it", name, extra=fields(peer=name))
        peer.held, peer.held_access = transport, access

    def _release(self, peer: _Peer) -> None:
        """Closes what is held, as something else has been taken."""
        if peer.held is not None:
            self._tasks.spawn(_close_transport(peer.held, _DUPLICATE), "duplicate")
            peer.held = None

    def _hold_over(self, name: str, held: IrohTransport) -> None:
        peer = self._peers.get(name)
        if peer is not None and peer.held is held:
            self._take_held(name, peer)

    def _transport(self, connection: Connection) -> IrohTransport:
        return iroh_transport(connection, self._limits.bi_streams, self._limits.uni_streams)

    def _sessions_count(self) -> int:
        return sum(peer.session is not None for peer in self._peers.values())

    def _session(self, transport: IrohTransport, access: Access) -> MoqSession:
        peer = str(transport.remote_id)
        policy = Policy(peer, access, self._published.offers, self.counters, self.refusals, self._limits)
        return MoqSession(transport, policy, origin_id=self._origin_id)

    def _take(self, name: str, peer: _Peer, session: MoqSession, *, we_dialled: bool) -> None:
        """Makes a session the one with its peer."""
        if peer.session is not None:
            peer.session.close(0, _REPLACED)
        peer.stop_retrying()
        peer.session, peer.we_dialled = session, we_dialled
        if peer.reconnect is not None:
            session._come_back(peer.reconnect)
        self.counters.session_opened(incoming=not we_dialled)
        logger.info("session with %s, dialled by %s", name, "us" if we_dialled else "the peer", extra=fields(peer=name))
        self._published.offer_all(session)
        self._answer_waiting(peer, session)
        self._tasks.spawn(self._watch(name, session), "watch")
        if not we_dialled:
            for stream in list(self._streams):
                stream._push(session)

    def _discard(self, dialled: MoqSession | _Arrived) -> None:
        self._tasks.spawn(self._abandon(dialled, _DUPLICATE), "duplicate")

    async def _watch(self, name: str, session: MoqSession) -> None:
        while not await session._ended_or_away():
            self._post(_Lost(name, session))
            await session._attached()
        error = await session.closed()
        self.counters.session_closed(error.code)
        self._post(_SessionEnded(name, session, error))

    def _session_ended(self, name: str, session: MoqSession, error: SessionError) -> None:
        logger.info("session with %s: %s", name, error, extra=fields(peer=name))
        peer = self._peers.get(name)
        if peer is None or peer.session is not session:
            return
        peer.session = None
        peer.stop_retrying()
        if peer.dialling is not None and not peer.waiting:
            # It was to bring back what is not wanted back.
            peer.dialling.cancel()
            peer.dialling = None
        if peer.dialling is None and not peer.waiting:
            peer.reconnect = peer.remote = None
        if peer.dialling is None:
            self._take_held(name, peer)
        self._tidy(name)

    def _tidy(self, name: str) -> None:
        if self._peers[name].unused:
            del self._peers[name]

    # The end

    async def _shut_down(self) -> None:
        while not self._inbox.empty():
            event = self._inbox.get_nowait()
            match event:
                case Connect() | Publish() | Unpublish() | GetPublished():
                    _refuse(event.reply)
                case Incoming(connection=connection):
                    connection.close(0, _SHUTDOWN.encode())
                case _Dialled(result=MoqSession() | _Arrived() as dialled):
                    self._discard(dialled)
        self._published.clear()
        for stream in list(self._streams):
            stream._end()
        ending: list[MoqSession] = []
        for peer in self._peers.values():
            peer.stop_retrying()
            for reply in peer.take_waiting():
                _refuse(reply)
            if peer.held is not None:
                self._tasks.spawn(_close_transport(peer.held, _SHUTDOWN), "held")
            if peer.dialling is not None:
                peer.dialling.cancel()
            if peer.session is not None:
                peer.session.close(0, _SHUTDOWN)
                ending.append(peer.session)
        self._peers.clear()
        for deciding in self._decisions:
            deciding.cancel()
        if self._decisions:
            await asyncio.wait(self._decisions)
        for session in ending:
            await session.closed()
        await self._tasks.join()
        self.refusals.close()


def _refused(name: str, error: SessionError) -> ServerError:
    return ServerError(f"peer {name[:10]} refused: {error}", error.code, error.reason)


async def _close_transport(transport: IrohTransport, reason: str, code: int = 0) -> None:
    transport.close(code, reason)
    await transport.closed()
    await transport.aclose()


def _answer(reply: asyncio.Future[Answer], value: Answer) -> None:
    if not reply.done():
        reply.set_result(value)


def _refuse(reply: asyncio.Future[Any]) -> None:
    if not reply.done():
        reply.set_exception(shut_down_error())

"""A session with one peer: what it offers, what it is offered, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Any, Literal

from iroh import Connection, Endpoint

from .access import Access
from .address import EndpointLike, check_alpns, dial_first, parse_remote
from .aio import Signal, reap
from .endpoint import check_endpoint
from .errors import ErrorCode, InvalidType, MoqError, SessionClosed, SessionError
from .limits import Limits, check_limits
from .lite import ALPNS, LiteSession
from .lite.keeping import Kept
from .lite.policy import Policy
from .log import fields
from .model import BroadcastConsumer, OriginConsumer, OriginProducer, normalize_path
from .model.checks import check_code
from .reconnect import Reconnect
from .transport import RecvStream, SendStream, Transport, TransportStats
from .transport.iroh import iroh_transport

__all__ = ["REJECTED", "IncomingSession", "IncomingSessionStream", "MoqSession", "Status"]

logger = logging.getLogger("iroh_moq.session")

REJECTED = 1
"""The code that a rejected session is closed with."""

_INCOMING_CAPACITY = 64

_PATIENT = Reconnect(silence=None)

Status = Literal["connecting", "connected", "reconnecting", "closed"]


class MoqSession:
    """A live connection to one peer, on which both sides can publish and subscribe.

    Made by `Moq.connect` and by `IncomingSession.accept`; or, without a `Moq`, by the class
    methods here. As a context manager it closes itself with code 0.
    """

    def __init__(self, transport: Transport, policy: Policy | None = None, *, origin_id: int | None = None) -> None:
        self._publish = OriginProducer()
        self._subscribe = OriginProducer()
        self._announced = self._subscribe.consume()
        self._kept = Kept()
        self._changed = Signal()
        self._end: SessionError | None = None
        self._silence: float | None = None
        self._lite = LiteSession(transport, self._publish.consume(), self._subscribe, policy, origin_id, self._kept)
        self._lite.when_over(self._over)

    @classmethod
    async def connect(
        cls,
        endpoint: Endpoint,
        remote: EndpointLike,
        *,
        alpn: bytes | Iterable[bytes] = ALPNS,
        limits: Limits | None = None,
    ) -> MoqSession:
        """Dials a peer, with no regard to other sessions with it (`Moq.connect` has that).

        Args:
            endpoint: the local endpoint.
            remote: the peer's EndpointAddr, EndpointId, ticket, or id as text.
            alpn: the version of the protocol to speak, or several: the first that the peer takes.
            limits: how much the peer may take of this side; the defaults, without it.

        Raises:
            InvalidArgument, InvalidType: ``endpoint`` is no endpoint, ``remote`` is none of these, ``alpn``
                names no protocol, or ``limits`` is no Limits.
            ConnectError: the peer cannot be reached, or does not speak the protocol.
        """
        check_limits(limits)
        connection = await dial_first(check_endpoint(endpoint), parse_remote(remote), check_alpns(alpn))
        return await cls.session_connect(connection, limits)

    @classmethod
    async def session_connect(cls, transport: Transport | Connection, limits: Limits | None = None) -> MoqSession:
        """Starts a session, as the side that dialled, on a connection with one of `ALPNS`.

        Under any other name it speaks moq-lite-03.
        """
        return cls._on(transport, limits)

    @classmethod
    async def session_accept(cls, transport: Transport | Connection, limits: Limits | None = None) -> MoqSession:
        """Starts a session, as the side that was dialled, on a connection with one of `ALPNS`.

        Under any other name it speaks moq-lite-03. The protocol knows no difference between the two sides.
        """
        return cls._on(transport, limits)

    @classmethod
    def _on(cls, transport: Transport | Connection, limits: Limits | None) -> MoqSession:
        limits = check_limits(limits)
        carrier = _as_transport(transport, limits)
        return cls(carrier, Policy(str(carrier.remote_id), limits=limits))

    async def subscribe(self, name: str, *, announced: bool = True) -> BroadcastConsumer:
        """The peer's broadcast of that name, as soon as the peer has announced it.

        For a limit in time, use `asyncio.timeout`.

        Args:
            name: the broadcast's name.
            announced: False for one that the peer may have without announcing it here: this returns
                at once, and whether the broadcast is there shows when a track of it is read.

        Raises:
            InvalidArgument, InvalidType: the name cannot be one.
            MoqError: the peer may not publish it here (code 6; only with ``announced=False``).
            Closed: it was announced and taken back before this could return it.
            NotAnnounced: the peer has stopped announcing, so it never will be.
            SessionClosed: the session has ended.
        """
        name = normalize_path(name)
        if (error := self._error) is not None:
            raise SessionClosed(error)
        if not announced:
            if not self.access.may_publish(name):
                raise MoqError(ErrorCode.UNAUTHORIZED, f"the peer may not publish {name!r} here")
            return self._lite.ask(name)
        return await self._announced.wait_broadcast(name)

    def publish(self, name: str, consumer: BroadcastConsumer) -> None:
        """Offers a broadcast to this peer alone; one of the same name is replaced.

        Does nothing in a session that has ended, and with a broadcast that has.

        Raises:
            InvalidArgument, InvalidType: the name or the consumer cannot be used.
        """
        self._publish.publish_broadcast(name, consumer)

    def conn(self) -> Any:
        """The connection underneath: an `iroh.Connection`, with its own statistics and paths."""
        return self._lite.transport.connection

    def remote_id(self) -> Any:
        """Who the peer is: its `iroh.EndpointId`, which its key has proved."""
        return self._lite.transport.remote_id

    @property
    def alpn(self) -> bytes:
        """The version of the protocol that is spoken: one of `ALPNS`."""
        return self._lite.version.alpn

    @property
    def version(self) -> str:
        """The same as text, such as ``moq-lite-05``."""
        return self._lite.version.name

    @property
    def access(self) -> Access:
        """What the peer may do."""
        return self._lite.policy.access

    def stats(self) -> TransportStats:
        """What the connection has carried, its loss, its paths and their round trips.

        They are those of the connection that it has now, or had last. For rates, keep earlier ones:
        ``session.stats().rates_since(earlier)``.
        """
        return self._lite.transport.stats()

    def bandwidth(self) -> AsyncGenerator[int | None, None]:
        """The peer's estimates of what it can send here, in bits per second, as they change.

        Raises (while iterating):
            MoqError: the peer does not answer.
            SessionClosed: the session has ended.
        """
        return self._lite.probe()

    def close(self, code: int = 0, reason: str | bytes = "") -> None:
        """Closes the session at once; the peer sees the code and the reason.

        Closing a closed session does nothing. `closed` waits until nothing of it is left.

        Raises:
            InvalidType, InvalidArgument: the code is not a number from 0 to 2**32 - 1, or the reason neither
                text nor bytes.
        """
        check_code(code)
        text = _text_of(reason)
        self._kept.enabled = False
        if self._end is None and self._kept.loss is not None and self._lite.transport.close_error is not None:
            # There is no connection to close, and there will be none.
            self._finish(SessionError(code, text, local=True))
        self._lite.close(code, text)

    @property
    def is_closed(self) -> bool:
        """Whether the session has ended. One that comes back has not while it is away."""
        return self._error is not None

    async def closed(self) -> SessionError:
        """Waits until either side has closed the session or it was lost, and says why.

        One that comes back (`Moq.connect` with ``reconnect``) is closed once nothing brings it back.
        """
        while self._end is None:
            lite = self._lite
            error = await lite.closed()
            if self._lite is lite and self._end is None:
                if not self._kept.keeps(error):
                    return error
                await self._changed.wait()
        await self._lite.closed()
        return self._end

    def status(self) -> Status:
        """Where the session is.

        ``"connecting"``: the peer has yet to take the connection. ``"connected"``: it has.
        ``"reconnecting"``: the connection was lost, and another is being made. ``"closed"``: for good.
        """
        if self._error is not None:
            return "closed"
        if self._lite.transport.close_error is not None:
            return "reconnecting"
        return "connected" if self._lite.is_confirmed else "connecting"

    async def status_changes(self) -> AsyncGenerator[Status, None]:
        """Where the session is now, and then each time that changes, up to ``"closed"``.

        One who looks rarely misses what lay between.
        """
        last: Status | None = None
        while last != "closed":
            status = self.status()
            if status != last:
                last = status
                yield status
            elif status == "connecting":
                await self._lite.confirmed()
            else:
                await self._status_changed()

    async def _status_changed(self) -> None:
        """Waits until the connection has ended, or another has taken its place."""
        changed = self._changed.future()
        closing = asyncio.ensure_future(self._lite.transport.closed())
        # A connection that has ended stays so, and only the next one changes anything.
        waiting = (changed,) if self._lite.transport.close_error is not None else (changed, closing)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._changed.forget(changed)
            await reap(closing)

    def origin_producer(self) -> OriginProducer:
        """What is offered to this peer."""
        return self._publish

    def origin_consumer(self) -> OriginConsumer:
        """What this peer offers. Each call gives a consumer that starts with all there is."""
        return self._subscribe.consume()

    async def _confirmed(self) -> None:
        await self._lite.confirmed()

    # Coming back, which is the actor's doing

    @property
    def _error(self) -> SessionError | None:
        """Why the session has ended, or None if it has not."""
        if self._end is not None:
            return self._end
        error = self._lite.transport.close_error
        return None if error is None or self._kept.keeps(error) else error

    @property
    def _is_away(self) -> bool:
        """Whether the connection is lost, and another will follow."""
        return self._end is None and self._lite.transport.close_error is not None and not self.is_closed

    async def _ended_or_away(self) -> bool:
        """Waits for the end of the connection; whether that is the session's as well."""
        lite = self._lite
        await lite.closed()
        return self.is_closed

    async def _attached(self) -> None:
        """While away: waits for another connection, or the session's end."""
        while self._is_away:
            await self._changed.wait()

    def _come_back(self, policy: Reconnect = _PATIENT) -> None:
        """From now on, a loss does not end the session."""
        if not self.is_closed:
            self._kept.enabled = True
            self._kept.grace = policy.grace
            self._silence = policy.silence
            self._lite.give_up_after(policy.silence)

    def _attach(self, transport: Transport, first: tuple[SendStream, RecvStream] | None = None) -> None:
        """Goes on with another connection."""
        before = self._lite
        before.replaced(0, "replaced")
        self._lite = LiteSession(
            transport,
            self._publish.consume(),
            self._subscribe,
            before.policy,
            before.origin_id,
            self._kept,
            first,
        )
        self._lite.when_over(self._over)
        self._lite.give_up_after(self._silence)
        self._changed.notify()

    def _over(self) -> None:
        """Nothing of a connection is left. A broadcast outlives many sessions, and must not know of those that
        have ended."""
        if self.is_closed:
            self._publish._state.close(None)

    def _finish(self, error: SessionError) -> None:
        """Nothing brings the session back."""
        if self._end is None:
            self._end = error
            self._kept.end(self._subscribe._state, SessionClosed(error))
            self._publish._state.close(None)
            self._changed.notify()

    async def __aenter__(self) -> MoqSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.closed()

    def __repr__(self) -> str:
        return f"<MoqSession with {self.remote_id()}>"


def _text_of(reason: object) -> str:
    """A reason as it can be sent: without surrogates, as text that was decoded badly has them."""
    if isinstance(reason, str):
        return reason.encode(errors="replace").decode()
    if isinstance(reason, (bytes, bytearray, memoryview)):
        return bytes(reason).decode(errors="replace")
    raise InvalidType(f"reason must be str or bytes, not {type(reason).__name__}")


def _as_transport(transport: Transport | Connection, limits: Limits) -> Transport:
    if isinstance(transport, Transport):
        return transport
    if isinstance(transport, Connection):
        return iroh_transport(transport, limits.bi_streams, limits.uni_streams)
    raise InvalidType(f"a session runs on an iroh Connection or a Transport, not {type(transport).__name__}")


class IncomingSession:
    """A session that a peer has opened. It is live; the application can still turn it away."""

    def __init__(self, session: MoqSession) -> None:
        self._session = session

    def remote_id(self) -> Any:
        """Who the peer is."""
        return self._session.remote_id()

    def accept(self) -> MoqSession:
        """The session."""
        return self._session

    def reject(self) -> None:
        """Closes the session with code 1 and the reason ``rejected``."""
        policy = self._session._lite.policy
        text = f"{policy.peer} was rejected by the application"
        policy.refusals.add(logger, logging.INFO, policy.peer, "rejected", text)
        self._session.close(REJECTED, "rejected")


class IncomingSessionStream:
    """The sessions that peers open, from the making of this stream on.

    An asynchronous iterator, which ends when the `Moq` is shut down. A reader that falls behind
    by 64 sessions loses the oldest, with a line in the log; the sessions themselves live on.
    """

    def __init__(self) -> None:
        self._queue: deque[IncomingSession] = deque()
        self._changed = Signal()
        self._ended = False

    async def next(self) -> IncomingSession | None:
        """The next session, or None once the `Moq` is shut down."""
        while not self._queue:
            if self._ended:
                return None
            await self._changed.wait()
        return self._queue.popleft()

    def _push(self, session: MoqSession) -> None:
        if len(self._queue) >= _INCOMING_CAPACITY:
            lost = self._queue.popleft()
            peer = lost.remote_id()
            logger.warning(
                "a reader of incoming sessions is too slow: it misses the one of %s", peer, extra=fields(peer=peer)
            )
        self._queue.append(IncomingSession(session))
        self._changed.notify()

    def _end(self) -> None:
        self._ended = True
        self._changed.notify()

    def __aiter__(self) -> IncomingSessionStream:
        return self

    async def __anext__(self) -> IncomingSession:
        session = await self.next()
        if session is None:
            raise StopAsyncIteration
        return session

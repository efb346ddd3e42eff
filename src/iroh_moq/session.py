"""A session with one peer: what it offers, what it is offered, and how it ends."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator
from functools import partial
from types import TracebackType
from typing import Any

from iroh import Connection, Endpoint

from .address import EndpointLike, dial, parse_remote
from .aio import Signal
from .errors import InvalidArgument, InvalidType, SessionClosed, SessionError
from .lite import ALPN, LiteSession
from .model import BroadcastConsumer, OriginConsumer, OriginProducer, normalize_path
from .transport import Transport, TransportStats
from .transport.iroh import iroh_transport

__all__ = ["REJECTED", "IncomingSession", "IncomingSessionStream", "MoqSession"]

logger = logging.getLogger("iroh_moq.session")

REJECTED = 1
"""The code that a rejected session is closed with."""

_INCOMING_CAPACITY = 64


class MoqSession:
    """A live connection to one peer, on which both sides can publish and subscribe.

    Made by `Moq.connect` and by `IncomingSession.accept`; or, without a `Moq`, by the class
    methods here. As a context manager it closes itself with code 0.
    """

    def __init__(self, transport: Transport) -> None:
        self._publish = OriginProducer()
        self._subscribe = OriginProducer()
        self._announced = self._subscribe.consume()
        self._lite = LiteSession(transport, self._publish.consume(), self._subscribe)
        # A broadcast outlives many sessions, and must not know of those that have ended.
        self._lite.when_over(partial(self._publish._state.close, None))

    @classmethod
    async def connect(cls, endpoint: Endpoint, remote: EndpointLike) -> MoqSession:
        """Dials a peer, with no regard to other sessions with it (`Moq.connect` has that).

        Args:
            endpoint: the local endpoint.
            remote: the peer's EndpointAddr, EndpointId, ticket, or id as text.

        Raises:
            InvalidArgument, InvalidType: ``remote`` is none of these.
            ConnectError: the peer cannot be reached, or does not speak the protocol.
        """
        connection = await dial(endpoint, parse_remote(remote), ALPN)
        return await cls.session_connect(connection)

    @classmethod
    async def session_connect(cls, transport: Transport | Connection) -> MoqSession:
        """Starts a session, as the side that dialled, on a connection with ALPN ``moq-lite-03``."""
        return cls(_as_transport(transport))

    @classmethod
    async def session_accept(cls, transport: Transport | Connection) -> MoqSession:
        """Starts a session, as the side that was dialled, on a connection with ALPN ``moq-lite-03``.

        The protocol knows no difference between the two sides.
        """
        return cls(_as_transport(transport))

    async def subscribe(self, name: str) -> BroadcastConsumer:
        """The peer's broadcast of that name, as soon as the peer has announced it.

        For a limit in time, use `asyncio.timeout`.

        Raises:
            InvalidArgument, InvalidType: the name cannot be one.
            Closed: it was announced and taken back before this could return it.
            NotAnnounced: the peer has stopped announcing, so it never will be.
            SessionClosed: the session has ended.
        """
        name = normalize_path(name)
        if (error := self._lite.transport.close_error) is not None:
            raise SessionClosed(error)
        return await self._announced.wait_broadcast(name)

    def publish(self, name: str, consumer: BroadcastConsumer) -> None:
        """Offers a broadcast to this peer alone; one of the same name is replaced.

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

    def stats(self) -> TransportStats:
        """What the connection has carried, and the state of its paths."""
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
            InvalidArgument: the code is not a number from 0 to 2**32 - 1.
        """
        if not isinstance(code, int):
            raise InvalidType(f"code must be an int, not {type(code).__name__}")
        if not 0 <= code < 1 << 32:
            raise InvalidArgument(f"code must be between 0 and 2**32 - 1, not {code}")
        # A surrogate, as text that was decoded badly has them, could not be sent.
        data = reason.encode(errors="replace") if isinstance(reason, str) else bytes(reason)
        self._lite.close(code, data.decode(errors="replace"))

    @property
    def is_closed(self) -> bool:
        """Whether the session has ended."""
        return self._lite.transport.close_error is not None

    async def closed(self) -> SessionError:
        """Waits until either side has closed the session or it was lost, and says why."""
        return await self._lite.closed()

    def origin_producer(self) -> OriginProducer:
        """What is offered to this peer."""
        return self._publish

    def origin_consumer(self) -> OriginConsumer:
        """What this peer offers. Each call gives a consumer that starts with all there is."""
        return self._subscribe.consume()

    async def _confirmed(self) -> None:
        await self._lite.confirmed()

    async def __aenter__(self) -> MoqSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self.closed()

    def __repr__(self) -> str:
        return f"<MoqSession with {self.remote_id()}>"


def _as_transport(transport: Transport | Connection) -> Transport:
    if isinstance(transport, Transport):
        return transport
    if isinstance(transport, Connection):
        return iroh_transport(transport)
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
            logger.warning("a reader of incoming sessions is too slow: it misses the one of %s", lost.remote_id())
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

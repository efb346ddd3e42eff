"""`Moq`: sessions with any number of peers, and the broadcasts that all of them are offered."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Literal

import iroh
from iroh import Connection, Endpoint, EndpointId

from .actor import Actor, Connect, GetPublished, Incoming, Publish, Unpublish
from .address import EndpointLike, parse_remote, ticket_of
from .endpoint import bind_endpoint, load_or_create_key
from .errors import Error, ErrorCode, InvalidArgument, InvalidType, MoqError
from .lite import ALPN
from .model import BroadcastProducer, normalize_path
from .router import Router
from .session import IncomingSessionStream, MoqSession

__all__ = ["Authorize", "Moq", "MoqProtocolHandler"]

logger = logging.getLogger("iroh_moq")

Authorize = Callable[[EndpointId], bool | Awaitable[bool]]
"""Decides whether a peer may open a session, by its id, which its key has proved."""


class Moq:
    """The sessions and broadcasts of one endpoint. Needs a running loop.

    As an asynchronous context manager it shuts itself down.

    Args:
        endpoint: the local endpoint, which stays the caller's.
        authorize: asked for each peer that dials; one that is refused (or for whom the function
            raises) learns nothing but that. Everybody may, without it.

    Raises:
        InvalidType: ``endpoint`` is not an `iroh.Endpoint`.
        RuntimeError: no loop is running.
    """

    def __init__(self, endpoint: Endpoint, *, authorize: Authorize | None = None) -> None:
        if not isinstance(endpoint, Endpoint):
            raise InvalidType(f"endpoint must be an iroh Endpoint, not {type(endpoint).__name__}")
        if authorize is not None and not callable(authorize):
            raise InvalidType("authorize must be a function of the peer's id")
        asyncio.get_running_loop()
        self._endpoint = endpoint
        self._authorize = authorize
        self._actor = Actor(endpoint)
        self._router: Router | None = None
        self._ending: asyncio.Future[None] | None = None

    @classmethod
    async def bind(
        cls,
        *,
        network: Literal["internet", "lan", "loopback"] = "internet",
        key: bytes | None = None,
        key_file: str | os.PathLike[str] | None = None,
        addresses: Sequence[str] = (),
        relays: Sequence[str] | None = None,
        authorize: Authorize | None = None,
    ) -> Moq:
        """Makes an endpoint and a router as well, for those who have none.

        All three go together, with `shutdown`.

        Args:
            network: how far the endpoint reaches. ``"internet"`` uses n0's relays and discovery, so
                that peers anywhere can dial the bare id; ``"lan"`` talks to whoever has the ticket
                and can reach this machine's addresses; ``"loopback"`` never leaves this machine.
            key: the endpoint's secret key, 32 bytes. Without it or ``key_file``, a new one each time.
            key_file: a file that keeps the key, readable by its owner alone; made if it is missing.
            addresses: ``host:port`` pairs to bind to, at most one of each IP version, instead of those that
                ``network`` implies. A version without one gets what ``network`` implies.
            relays: URLs of relay servers to use instead of n0's. For ``"internet"`` only.
            authorize: as for `Moq`.

        Raises:
            InvalidArgument: an argument, or the key file, cannot be used.
            ConnectError: an address cannot be bound.
        """
        if key is not None and key_file is not None:
            raise InvalidArgument("give key or key_file, not both")
        if key_file is not None:
            key = load_or_create_key(key_file)
        endpoint = await bind_endpoint(network, key, addresses, relays)
        moq = cls(endpoint, authorize=authorize)
        moq._router = Router(endpoint).accept(ALPN, moq.protocol_handler()).spawn()
        return moq

    @property
    def endpoint(self) -> Endpoint:
        """The local endpoint."""
        return self._endpoint

    def id(self) -> EndpointId:
        """The local endpoint's id: the public key that peers dial."""
        return self._endpoint.id()

    def ticket(self) -> str:
        """A text by which peers can `connect`: the id, and where the endpoint can be reached now."""
        return ticket_of(self._endpoint)

    def protocol_handler(self) -> MoqProtocolHandler:
        """Accepts incoming connections, for a `Router` or for the `iroh` package's own."""
        return MoqProtocolHandler(self._actor, self._authorize)

    async def publish(self, name: str, producer: BroadcastProducer) -> None:
        """Offers a broadcast to every peer, now and later, until its producer ends it.

        A name that is taken is replaced: peers see the old broadcast end and the new one begin.

        Raises:
            InvalidType, InvalidArgument: the name or the producer cannot be used.
            MoqError: the broadcast has ended (code 25).
            InternalConsistencyError: this was shut down.
        """
        if not isinstance(producer, BroadcastProducer):
            raise InvalidType(f"producer must be a BroadcastProducer, not {type(producer).__name__}")
        name = normalize_path(name)
        if producer.is_closed:
            raise MoqError(ErrorCode.CLOSED, f"broadcast {name!r} has ended, so it cannot be published")
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._actor.send(Publish(name, producer, reply))
        await reply

    async def unpublish(self, name: str) -> None:
        """Takes an offer back; the broadcast itself goes on. A name that is not published is ignored.

        Raises:
            InvalidType, InvalidArgument: the name cannot be one.
            InternalConsistencyError: this was shut down.
        """
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._actor.send(Unpublish(normalize_path(name), reply))
        await reply

    async def published_broadcasts(self) -> list[str]:
        """The names of all that is published now, in the order of publishing.

        Raises:
            InternalConsistencyError: this was shut down.
        """
        reply: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._actor.send(GetPublished(reply))
        return await reply

    async def connect(self, remote: EndpointLike) -> MoqSession:
        """The session with a peer: the one there is, or a new one.

        Calls at the same time share one attempt, and its error. Returns once the peer has taken the
        connection. For a limit in time, use `asyncio.timeout`.

        Args:
            remote: the peer's EndpointAddr, EndpointId, ticket, or id as text.

        Raises:
            InvalidType, InvalidArgument: ``remote`` is none of these, or this endpoint itself.
            ConnectError: the peer cannot be reached, or does not speak the protocol.
            ServerError: the peer refused.
            InternalConsistencyError: this was shut down, perhaps while connecting.
        """
        address = parse_remote(remote)
        if address.id() == self._endpoint.id():
            raise InvalidArgument("remote is this endpoint itself")
        reply: asyncio.Future[MoqSession] = asyncio.get_running_loop().create_future()
        self._actor.send(Connect(address, reply))
        return await reply

    def incoming_sessions(self) -> IncomingSessionStream:
        """The sessions that peers open from now on; each stream gets all of them.

        Raises:
            InternalConsistencyError: this was shut down.
        """
        return self._actor.incoming_sessions()

    async def shutdown(self) -> None:
        """Closes every session with code 0 and waits until nothing is left. Can be called again.

        What is still on its way is lost: await `BroadcastProducer.unused` before, after `finish`.

        The endpoint is closed too if `bind` made it. Cancelling this await does not stop it half-way.
        """
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._shut_down())
        await asyncio.shield(self._ending)

    async def _shut_down(self) -> None:
        await self._actor.shutdown()
        if self._router is not None:
            await self._router.shutdown()
            await self._endpoint.close()

    async def __aenter__(self) -> Moq:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()


class MoqProtocolHandler(iroh.ProtocolHandler):
    """Makes sessions of incoming connections with ALPN ``moq-lite-03``.

    For a `Router`, or for the `iroh` package's own ``protocols={ALPN: creator}``, whose creator
    returns it (and which needs `iroh.iroh_ffi.uniffi_set_event_loop` to have been called).
    """

    def __init__(self, actor: Actor, authorize: Authorize | None) -> None:
        self._actor = actor
        self._authorize = authorize

    async def accept(self, conn: Connection) -> None:
        """Takes a connection over, if its peer is authorized and the `Moq` still runs."""
        if not await self._may_enter(conn):
            conn.close(ErrorCode.UNAUTHORIZED, b"unauthorized")
            return
        try:
            self._actor.send(Incoming(conn))
        except Error:
            conn.close(0, b"shutdown")

    async def shutdown(self) -> None:
        """The router stops. The sessions live on until the `Moq` is shut down."""

    async def _may_enter(self, conn: Connection) -> bool:
        if self._authorize is None:
            return True
        remote = conn.remote_id()
        try:
            verdict = self._authorize(remote)
            allowed = await verdict if inspect.isawaitable(verdict) else verdict
        except Exception:
            # The function is the application's, so anything can come out of it; nobody gets in by it.
            logger.exception("authorize failed for %s, which is refused", remote)
            return False
        if not isinstance(allowed, bool):
            # Anything else, such as the object of a method that was not called, would let everybody in.
            logger.error("authorize must say True or False, not %r; %s is refused", allowed, remote)
            return False
        if not allowed:
            logger.warning("%s is not authorized", remote)
        return allowed

"""`Moq`: sessions with any number of peers, and the broadcasts that all of them are offered."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from types import TracebackType
from typing import Literal

import iroh
from iroh import Connection, Endpoint, EndpointId

from .access import EVERYTHING, Access, Audience, check_access
from .actor import Actor, Connect, GetPublished, Incoming, Publish, Unpublish
from .address import EndpointLike, check_alpns, parse_remote, ticket_of
from .endpoint import bind_endpoint, check_endpoint, load_or_create_key
from .errors import ErrorCode, InternalConsistencyError, InvalidArgument, InvalidType, MoqError
from .limits import Limits, check_limits
from .lite import ALPNS
from .metrics import Metrics
from .model import BroadcastProducer, normalize_path
from .peers import parse_peers
from .reconnect import Reconnect, check_reconnect
from .router import Router
from .session import IncomingSessionStream, MoqSession

__all__ = ["Authorize", "Moq", "MoqProtocolHandler"]

logger = logging.getLogger("iroh_moq.moq")

Verdict = bool | Access

Authorize = Callable[[EndpointId], Verdict | Awaitable[Verdict]]
"""Decides whether a peer may open a session, by its id, which its key has proved: True or False, or
what the peer may do in it. Anything else, and any exception, is a no."""


class Moq:
    """The sessions and broadcasts of one endpoint. Needs a running loop.

    As an asynchronous context manager it shuts itself down.

    Args:
        endpoint: the local endpoint, which stays the caller's.
        authorize: asked for each peer that dials, by its id. It returns True or False, or an `Access`
            with what the peer may do. One that is refused learns nothing but that; so is one for whom
            the function raises, or returns anything else. Everybody may do everything, without it. A peer
            whose answer takes over three seconds takes that for a yes: its ``connect`` returns a session,
            which ends with code 6 if it was none.
        alpns: the versions of the protocol to dial with: the first that the peer takes. Which are
            accepted, the `Router` says.
        limits: how much peers may take of this side; the defaults, without it. Those for handshakes
            are the `Router`'s.

    Raises:
        InvalidType: ``endpoint`` is not an `iroh.Endpoint`, ``authorize`` no function, or ``limits`` no `Limits`.
        InvalidArgument: ``alpns`` names no protocol.
        RuntimeError: no loop is running.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        authorize: Authorize | None = None,
        alpns: bytes | Iterable[bytes] = ALPNS,
        limits: Limits | None = None,
    ) -> None:
        check_endpoint(endpoint)
        _check_authorize(authorize)
        asyncio.get_running_loop()
        self._endpoint = endpoint
        self._authorize = authorize
        self._actor = Actor(endpoint, check_alpns(alpns), check_limits(limits))
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
        alpns: bytes | Iterable[bytes] = ALPNS,
        limits: Limits | None = None,
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
                ``network`` implies. A version without one gets what ``network`` implies. In the same process
                one is free again when the endpoint was not only closed, but is garbage.
            relays: URLs of relay servers to use instead of n0's. For ``"internet"`` only.
            authorize: as for `Moq`.
            alpns: the versions of the protocol to dial with and to accept, the one wanted most first.
            limits: how much peers may take of this side; the defaults, without it.

        Raises:
            InvalidType: an argument has the wrong type.
            InvalidArgument: an argument, or the key file, cannot be used.
            ConnectError: an address cannot be bound.
        """
        if key is not None and key_file is not None:
            raise InvalidArgument("give key or key_file, not both")
        if key_file is not None:
            key = load_or_create_key(key_file)
        versions = check_alpns(alpns)
        check_limits(limits)
        _check_authorize(authorize)
        endpoint = await bind_endpoint(network, key, addresses, relays)
        moq = cls(endpoint, authorize=authorize, alpns=versions, limits=limits)
        moq._router = Router(endpoint, limits=limits).accept(versions, moq.protocol_handler()).spawn()
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

    async def publish(
        self,
        name: str,
        producer: BroadcastProducer,
        *,
        allow: Collection[EndpointLike] | None = None,
        announce_to: Collection[EndpointLike] | None = None,
    ) -> None:
        """Offers a broadcast to peers, now and later, until its producer ends it: to all, or to some.

        A name that is taken is replaced: peers see the old broadcast end and the new one begin.
        The lists hold for what is asked from then on: subscriptions that are under way go on.

        Args:
            name: the broadcast's name.
            producer: the broadcast.
            allow: who may subscribe: ids, or texts (ids or tickets). None for everybody, an empty
                collection for nobody.
            announce_to: who learns of it; the same as ``allow``, unless it is given. A peer in
                ``allow`` alone can subscribe by the exact name. One in ``announce_to`` alone sees
                the name and is refused (Unauthorized). For all others the broadcast does not exist.

        Raises:
            InvalidType, InvalidArgument: the name, the producer or a list cannot be used.
            MoqError: the broadcast has ended (code 25).
            InternalConsistencyError: this was shut down.
        """
        if not isinstance(producer, BroadcastProducer):
            raise InvalidType(f"producer must be a BroadcastProducer, not {type(producer).__name__}")
        name = normalize_path(name)
        audience = Audience.of(parse_peers(allow, "allow"), parse_peers(announce_to, "announce_to"))
        if producer.is_closed:
            raise MoqError(ErrorCode.CLOSED, f"broadcast {name!r} has ended, so it cannot be published")
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._actor.send(Publish(name, producer, audience, reply))
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

    async def connect(
        self, remote: EndpointLike, *, access: Access | None = None, reconnect: bool | Reconnect | None = None
    ) -> MoqSession:
        """The session with a peer: the one there is, or a new one.

        Calls at the same time share one attempt, and its error. Returns once the peer has taken the
        connection. For a limit in time, use `asyncio.timeout`.

        Args:
            remote: the peer's EndpointAddr, EndpointId, ticket, or id as text.
            access: what the peer may do in the session; everything, without it. Where the peer has
                dialled at the same time, what ``authorize`` allows it is a limit as well. What it
                may do in a session that it dials later is for ``authorize`` alone.
            reconnect: True or a `Reconnect` for a session that comes back when its connection is lost (or
                closed by the peer with code 0, as by one that is restarted). What is published in it is
                announced again, and what is read goes on with the next group: the readers notice nothing
                but the time it takes. See `MoqSession.status`. The first connection is made as without it.

        Raises:
            InvalidType, InvalidArgument: ``remote`` is none of these, or this endpoint itself; or
                there is a session already that allows the peer more than ``access`` does.
            ConnectError: the peer cannot be reached, or does not speak the protocol.
            ServerError: the peer refused.
            InternalConsistencyError: this was shut down, perhaps while connecting.
        """
        address = parse_remote(remote)
        if address.id() == self._endpoint.id():
            raise InvalidArgument("remote is this endpoint itself")
        reply: asyncio.Future[MoqSession] = asyncio.get_running_loop().create_future()
        allowed = check_access(access)
        self._actor.send(Connect(address, allowed, check_reconnect(reconnect), reply))
        session = await reply
        if not session.access.within(allowed):
            raise InvalidArgument("access is less than the live session with this peer allows it; close that first")
        return session

    def incoming_sessions(self) -> IncomingSessionStream:
        """The sessions that peers open from now on; each stream gets all of them.

        Raises:
            InternalConsistencyError: this was shut down.
        """
        return self._actor.incoming_sessions()

    def metrics(self) -> Metrics:
        """What was done so far, in numbers. Cheap, and can be called from any thread, also after the shutdown."""
        return self._actor.metrics()

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

    def __repr__(self) -> str:
        return f"<Moq {self._endpoint.id()}>"

    async def __aenter__(self) -> Moq:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()


class MoqProtocolHandler(iroh.ProtocolHandler):
    """Makes sessions of incoming connections, each of the version that its handshake has agreed on.

    For a `Router`, or for the `iroh` package's own ``protocols={ALPN: creator}`` with an entry for each of
    `ALPNS`, whose creator returns it (and which needs `iroh.iroh_ffi.uniffi_set_event_loop` to have been called).
    """

    def __init__(self, actor: Actor, authorize: Authorize | None) -> None:
        self._actor = actor
        self._authorize = authorize

    async def accept(self, conn: Connection) -> None:
        """Takes a connection over, if its peer is authorized, there is room for it, and the `Moq` still runs."""
        actor = self._actor
        if not actor.begin_deciding(conn):
            return
        try:
            access = await actor.decide(self._access_of(conn))
            if access is None:
                conn.close(ErrorCode.UNAUTHORIZED, b"unauthorized")
            else:
                actor.send(Incoming(conn, access))
        except InternalConsistencyError:
            conn.close(0, b"shutdown")
        except asyncio.CancelledError:
            conn.close(0, b"shutdown")
            raise
        finally:
            actor.end_deciding(conn)

    async def shutdown(self) -> None:
        """The router stops. The sessions live on until the `Moq` is shut down."""

    def handshake_failed(self) -> None:
        """For a `Router`: a connection that may have been for this has failed."""
        self._actor.counters.handshakes_failed["incoming"] += 1

    def handshakes_exceeded(self, most: int) -> None:
        """For a `Router`: it had to choose between connections, as too many were beginning."""
        text = f"{most} handshakes are under way, which is all there may be"
        # Who they are, only their ends would tell.
        self._actor.refusals.add(logger, logging.WARNING, "peers", "handshakes", text)

    async def _access_of(self, conn: Connection) -> Access | None:
        """What the peer may do, or None if it may not even enter."""
        if self._authorize is None:
            return EVERYTHING
        remote = conn.remote_id()
        peer, refusals = str(remote), self._actor.refusals
        try:
            verdict = self._authorize(remote)
            answer: object = await verdict if inspect.isawaitable(verdict) else verdict
        except Exception:
            # The function is the application's, so anything can come out of it; nobody gets in by it.
            text = f"authorize failed for {peer}, which is refused"
            refusals.add(logger, logging.ERROR, peer, "authorize_failed", text, exc_info=True)
            return None
        if answer is True:
            return EVERYTHING
        if isinstance(answer, Access):
            return answer
        if answer is False:
            refusals.add(logger, logging.WARNING, peer, "unauthorized", f"{peer} is not authorized")
        else:
            text = f"authorize returned {answer!r:.200} for {peer}, which is refused: it must be a bool or an Access"
            refusals.add(logger, logging.ERROR, peer, "authorize_failed", text)
        return None


def _check_authorize(authorize: object) -> None:
    if authorize is not None and not callable(authorize):
        raise InvalidType("authorize must be a function of the peer's id")

"""Hands incoming connections to the protocol they ask for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from iroh import Connection, Endpoint, Incoming, IrohError

from .address import check_alpns
from .aio import TaskScope
from .endpoint import check_endpoint
from .errors import Error, InvalidArgument, InvalidType
from .limits import Limits, check_limits
from .log import fields

__all__ = ["ConnectionHandler", "Router"]

logger = logging.getLogger("iroh_moq.router")

_FAILED = 1
"""The code with which a connection is closed whose handler has failed."""

_YOUNG = 1.0
"""Seconds for which a handshake does not have to make room for another: most take a few round trips."""


@runtime_checkable
class ConnectionHandler(Protocol):
    """What a router needs of a protocol; `iroh.ProtocolHandler` has the same shape."""

    async def accept(self, conn: Connection) -> None:
        """Takes over a connection."""

    async def shutdown(self) -> None:
        """The router stops; nothing more will come."""


@runtime_checkable
class HandshakeObserver(Protocol):
    """A handler that wants to hear of connections that never came to be."""

    def handshake_failed(self) -> None:
        """An incoming connection has failed before it said what protocol it is for."""

    def handshakes_exceeded(self, most: int) -> None:
        """As many as may be are under way, so that one is given up or not begun."""


class Router:
    """Accepts an endpoint's connections, each for the handler of its protocol.

        router = Router(endpoint).accept(ALPNS, moq.protocol_handler()).spawn()

    The endpoint stays the caller's: shutting the router down does not close it.

    Args:
        endpoint: the endpoint.
        limits: how many handshakes may be under way, and how long each may take; the defaults, without it.

    Raises:
        InvalidType: ``endpoint`` is not an `iroh.Endpoint`, or ``limits`` no `Limits`.
    """

    def __init__(self, endpoint: Endpoint, *, limits: Limits | None = None) -> None:
        self._endpoint = check_endpoint(endpoint)
        self._handlers: dict[bytes, ConnectionHandler] = {}
        self._tasks = TaskScope("router")
        self._spawned = False
        self._limits = check_limits(limits)
        self._handshakes: dict[asyncio.Task[None], float] = {}
        """Those under way, the oldest first, each with when it began."""

    def accept(self, alpn: bytes | Iterable[bytes], handler: ConnectionHandler) -> Router:
        """Adds a protocol. Returns the router, so that calls can follow one another.

        Args:
            alpn: its name, or several, such as `ALPNS`: a peer that takes more than one gets the one that
                was added first.
            handler: takes the connections over; ``conn.alpn()`` says which name was agreed on. If it fails,
                the connection is closed with code 1.

        Raises:
            InvalidType: ``alpn`` is not bytes, or ``handler`` cannot be one.
            InvalidArgument: the router has begun, or has a handler for this protocol.
        """
        names = check_alpns(alpn)
        if not isinstance(handler, ConnectionHandler):
            raise InvalidType(f"handler must have accept and shutdown; {type(handler).__name__} has not")
        if self._spawned:
            raise InvalidArgument("the router has begun: add protocols before spawn()")
        for name in names:
            if name in self._handlers:
                raise InvalidArgument(f"the router has a handler for {name!r} already")
        self._handlers.update(dict.fromkeys(names, handler))
        return self

    def spawn(self) -> Router:
        """Begins to accept. Needs a running loop. Returns the router."""
        if not self._spawned:
            self._spawned = True
            self._endpoint.set_alpns(list(self._handlers))
            self._tasks.spawn(self._run(), "accept")
        return self

    async def shutdown(self) -> None:
        """Accepts no more, and waits until nothing of the router is left. Sessions live on."""
        await self._tasks.aclose()
        for handler in {id(handler): handler for handler in self._handlers.values()}.values():
            await handler.shutdown()

    async def _run(self) -> None:
        while (incoming := await self._endpoint.accept_next()) is not None:
            try:
                if await self._has_room(incoming):
                    task = self._tasks.spawn(self._hand_over(incoming), "handshake")
                    self._handshakes[task] = asyncio.get_running_loop().time()
                    task.add_done_callback(self._over)
            except IrohError as error:
                # The connection's end, while it was looked at.
                logger.debug("an incoming connection is gone: %s", error.message())

    async def _has_room(self, incoming: Incoming) -> bool:
        """Whether a handshake may begin; if not, that has been seen to."""
        most, under_way = self._limits.handshakes, len(self._handshakes)
        if under_way * 2 >= most and not await incoming.remote_addr_validated():
            # Whoever comes back has shown its address, and until then it costs nothing.
            await incoming.retry()
            return False
        if under_way < most:
            return True
        self._tell_of("handshakes_exceeded", most)
        oldest, began = next(iter(self._handshakes.items()))
        if asyncio.get_running_loop().time() - began < _YOUNG:
            # Its sender tries again in a while.
            await incoming.ignore()
            return False
        oldest.cancel()
        self._over(oldest)
        return True

    def _over(self, task: asyncio.Task[None]) -> None:
        """A handshake is under way no more."""
        self._handshakes.pop(task, None)

    async def _hand_over(self, incoming: Incoming) -> None:
        try:
            async with asyncio.timeout(self._limits.handshake_seconds):
                accepting = await incoming.accept()
                alpn = await accepting.alpn()
                connection = await accepting.connect()
        except (IrohError, TimeoutError) as error:
            self._tell_of("handshake_failed")
            logger.info("a handshake failed: %s", error.message() if isinstance(error, IrohError) else "timed out")
            return
        except asyncio.CancelledError:
            self._tell_of("handshake_failed")
            raise
        current = asyncio.current_task()
        assert current is not None
        self._over(current)
        handler = self._handlers.get(alpn)
        if handler is None:
            peer = connection.remote_id()
            logger.info("%s asked for %r, which nobody serves", peer, alpn, extra=fields(peer=peer))
            connection.close(0, b"unknown protocol")
            return
        peer = connection.remote_id()
        try:
            await handler.accept(connection)
        except Error as error:
            logger.info("%s was not accepted: %s", peer, error, extra=fields(peer=peer))
            connection.close(_FAILED, b"not accepted")
        except Exception:
            # The handler may be the application's own, so anything can come out of it.
            logger.exception("the handler for %r failed, with %s", alpn, peer, extra=fields(peer=peer))
            connection.close(_FAILED, b"the handler failed")

    def _tell_of(self, event: Literal["handshake_failed", "handshakes_exceeded"], *details: int) -> None:
        # Whichever of them it was meant for, as that is what the handshake would have said.
        for handler in {id(handler): handler for handler in self._handlers.values()}.values():
            if isinstance(handler, HandshakeObserver):
                getattr(handler, event)(*details)

    async def __aenter__(self) -> Router:
        return self.spawn()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

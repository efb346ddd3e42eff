"""Hands incoming connections to the protocol they ask for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, runtime_checkable

from iroh import Connection, Endpoint, Incoming, IrohError

from .address import check_alpns
from .aio import TaskScope
from .errors import Error, InvalidArgument, InvalidType
from .log import fields

__all__ = ["ConnectionHandler", "Router"]

logger = logging.getLogger("iroh_moq.router")

_HANDSHAKE_TIMEOUT = 30.0


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


class Router:
    """Accepts an endpoint's connections, each for the handler of its protocol.

        router = Router(endpoint).accept(ALPNS, moq.protocol_handler()).spawn()

    The endpoint stays the caller's: shutting the router down does not close it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if not isinstance(endpoint, Endpoint):
            raise InvalidType(f"endpoint must be an iroh Endpoint, not {type(endpoint).__name__}")
        self._endpoint = endpoint
        self._handlers: dict[bytes, ConnectionHandler] = {}
        self._tasks = TaskScope("router")
        self._spawned = False

    def accept(self, alpn: bytes | Iterable[bytes], handler: ConnectionHandler) -> Router:
        """Adds a protocol. Returns the router, so that calls can follow one another.

        Args:
            alpn: its name, or several, such as `ALPNS`: a peer that takes more than one gets the one that
                was added first.
            handler: takes the connections over; ``conn.alpn()`` says which name was agreed on.

        Raises:
            InvalidType: ``alpn`` is not bytes.
            InvalidArgument: the router has begun, or has a handler for this protocol.
        """
        names = check_alpns(alpn)
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
            self._tasks.spawn(self._hand_over(incoming), "handshake")

    async def _hand_over(self, incoming: Incoming) -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT):
                accepting = await incoming.accept()
                alpn = await accepting.alpn()
                connection = await accepting.connect()
        except (IrohError, TimeoutError) as error:
            self._tell_of_failure()
            logger.info("a handshake failed: %s", error.message() if isinstance(error, IrohError) else "timed out")
            return
        handler = self._handlers.get(alpn)
        if handler is None:
            peer = connection.remote_id()
            logger.info("%s asked for %r, which nobody serves", peer, alpn, extra=fields(peer=peer))
            connection.close(0, b"unknown protocol")
            return
        try:
            await handler.accept(connection)
        except Error as error:
            peer = connection.remote_id()
            logger.info("%s was not accepted: %s", peer, error, extra=fields(peer=peer))

    def _tell_of_failure(self) -> None:
        # Whichever of them it was meant for, as that is what the handshake would have said.
        for handler in self._handlers.values():
            if isinstance(handler, HandshakeObserver):
                handler.handshake_failed()

    async def __aenter__(self) -> Router:
        return self.spawn()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

"""A moq-lite session over any transport: both sides at once, from the first stream to the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from ..aio import TaskScope
from ..errors import SessionClosed, SessionError
from ..model.origin import OriginConsumer, OriginProducer
from ..transport import Transport
from .publisher import Publisher
from .subscriber import Subscriber

__all__ = ["ALPN", "LiteSession"]

ALPN = b"moq-lite-03"
"""The protocol's name in the TLS handshake, which is all the negotiation there is."""


class LiteSession:
    """Runs the protocol on a transport, which it owns from here on.

    Args:
        transport: a connection on which `ALPN` was negotiated.
        publish: what the peer may subscribe to.
        subscribe: where the peer's broadcasts appear.
    """

    def __init__(self, transport: Transport, publish: OriginConsumer, subscribe: OriginProducer) -> None:
        self.transport = transport
        name = f"session {transport.remote_id!s:.10}"
        self._tasks = TaskScope(name)
        self._publisher = Publisher(transport, publish, self._tasks)
        self._subscriber = Subscriber(transport, subscribe._state, self._tasks)
        self._tasks.spawn(self._publisher.run(), "publisher")
        self._tasks.spawn(self._subscriber.run_announce(), "announcements")
        self._tasks.spawn(self._subscriber.run_groups(), "groups")
        self._owner = TaskScope(name)
        self._supervisor = self._owner.spawn(self._supervise(), "supervisor")

    async def _supervise(self) -> None:
        """Sees the session out: nothing of it is left once this task has ended."""
        try:
            error = await self.transport.closed()
        except asyncio.CancelledError:
            self.transport.close(0, "")
            raise
        finally:
            self._subscriber.lost(SessionClosed(self.transport.close_error or SessionError(None, "cancelled")))
            await self._tasks.aclose()
            await self.transport.aclose()
        del error

    async def confirmed(self) -> None:
        """Returns once the peer has opened a stream, or the session has ended.

        Until then a connection may be one that the peer is about to refuse: the handshake knows no
        such thing as an acceptance, and a peer that accepts asks for announcements at once.
        """
        await self._publisher.opened()

    def close(self, code: int, reason: str) -> None:
        """Closes the session with a code and a reason that the peer sees."""
        self.transport.close(code, reason)

    async def closed(self) -> SessionError:
        """Waits for the end of the session, until nothing of it is left, and says why it ended."""
        error = await self.transport.closed()
        if not self._supervisor.done():
            await asyncio.wait((self._supervisor,))
        return error

    def when_over(self, call: Callable[[], object]) -> None:
        """Calls something once nothing of the session is left."""
        self._supervisor.add_done_callback(lambda _: call())

    def probe(self) -> AsyncGenerator[int | None, None]:
        """The peer's reports of what the path carries towards us, in bits per second."""
        return self._subscriber.probe()

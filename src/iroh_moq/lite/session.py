"""A moq-lite session over any transport: both sides at once, from the first stream to the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from random import randrange

from ..aio import TaskScope
from ..errors import SessionClosed, SessionError
from ..model.broadcast import BroadcastConsumer
from ..model.origin import OriginConsumer, OriginProducer
from ..transport import RecvStream, SendStream, Transport, TransportError
from .keeping import Kept
from .messages import Setup
from .policy import Policy
from .priority import CONTROL_PRIORITY
from .publisher import Publisher
from .silence import fallen_silent
from .subscriber import Subscriber
from .version import version_of

__all__ = ["LiteSession", "new_origin_id"]

logger = logging.getLogger("iroh_moq.lite.session")

_REPORTS = 1
"""What we do on a PROBE stream: tell what the path carries."""


def new_origin_id() -> int:
    """An id for an origin: any number of 53 bits but 0, as some peers know no larger ones."""
    return randrange(1, 1 << 53)


class LiteSession:
    """Runs the protocol on a transport, which it owns from here on.

    Args:
        transport: a connection on which one of `ALPNS` was negotiated, which says what version is spoken.
        publish: what the peer may subscribe to.
        subscribe: where the peer's broadcasts appear.
        policy: what the peer may do; everything, without one.
        origin_id: who passes on what comes from elsewhere, the same for all sessions among which it is
            passed on; broadcasts that have been here are known by it.
        kept: what outlives the connection, where another may follow.
        first: a bidirectional stream of the peer's that was accepted before.
    """

    def __init__(
        self,
        transport: Transport,
        publish: OriginConsumer,
        subscribe: OriginProducer,
        policy: Policy | None = None,
        origin_id: int | None = None,
        kept: Kept | None = None,
        first: tuple[SendStream, RecvStream] | None = None,
    ) -> None:
        self.transport = transport
        self.version = version_of(transport.alpn)
        self.policy = policy or Policy(str(transport.remote_id))
        self.origin_id = new_origin_id() if origin_id is None else origin_id
        name = f"session {transport.remote_id!s:.10}"
        self._tasks = TaskScope(name)
        self._publisher = Publisher(transport, self.version, publish, self.origin_id, self._tasks, self.policy, first)
        self._subscriber = Subscriber(
            transport, self.version, subscribe._state, self.origin_id, self._tasks, self.policy, kept or Kept()
        )
        if self.version.setup:
            # The first stream of all: a peer may wait for it.
            self._tasks.spawn(self._set_up(), "setup")
        self._tasks.spawn(self._publisher.run(), "publisher")
        self._tasks.spawn(self._subscriber.run_announce(), "announcements")
        self._tasks.spawn(self._subscriber.run_groups(), "groups")
        if self.version.datagrams:
            self._tasks.spawn(self._subscriber.run_datagrams(), "datagrams")
        self._silence: float | None = None
        self._listening: asyncio.Task[None] | None = None
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

    async def _set_up(self) -> None:
        """Says what this side can do."""
        try:
            stream = self.transport.open_uni_nowait() or await self.transport.open_uni()
            stream.set_priority(CONTROL_PRIORITY)
            await stream.write(Setup(self.origin_id, _REPORTS).encode())
            stream.finish()
        except TransportError as error:
            logger.debug("%s has not heard what this side can do: %s", self.transport.remote_id, error)

    @property
    def is_confirmed(self) -> bool:
        """Whether the peer has opened a stream, or the session has ended."""
        return self._publisher.is_opened

    async def confirmed(self) -> None:
        """Returns once the peer has opened a stream, or the session has ended.

        Until then a connection may be one that the peer is about to refuse: the handshake knows no
        such thing as an acceptance, and a peer that accepts asks for announcements at once.
        """
        await self._publisher.opened()

    def give_up_after(self, silence: float | None) -> None:
        """From now on, a connection over which nothing has come for so many seconds counts as lost."""
        if silence == self._silence:
            # What has been heard so far counts.
            return
        self._silence = silence
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if silence is not None:
            self._listening = self._tasks.spawn(self._listen(silence), "silence")

    async def _listen(self, silence: float) -> None:
        await fallen_silent(self.transport, silence)
        self.transport.give_up(f"nothing has come for {silence:g} seconds")

    def ask(self, path: str) -> BroadcastConsumer:
        """The peer's broadcast of that name, whether or not it has announced it."""
        return BroadcastConsumer(self._subscriber.ask(path))

    def replaced(self, code: int, reason: str) -> None:
        """Another connection takes the place of this one, which is closed; what is kept is ready for it."""
        self._subscriber.lost(SessionClosed(SessionError(code, reason, local=True)), replaced=True)
        self.transport.close(code, reason)

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

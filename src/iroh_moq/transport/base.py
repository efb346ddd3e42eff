"""What the layers above need of a connection: sessions of independent, prioritised byte streams.

Two implementations come with the package, :mod:`.iroh` for real connections and :mod:`.memory`
for tests; any QUIC library can be a third. Nothing here knows MoQ: codes are plain integers as
the application means them, and how an implementation puts them on the wire is its own business.

What can be done at once need not involve the event loop: the methods named ``..._nowait`` do that
much, and say what is left to be awaited.

Cancelling any await is safe. A cancelled ``read`` or ``accept`` loses nothing. A cancelled
``write`` may have sent a part, so the stream can then only be reset.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import Error, InvalidArgument, InvalidType, SessionError

__all__ = [
    "Buffer",
    "ConnectionLost",
    "PathStats",
    "Received",
    "RecvStream",
    "SendStream",
    "StreamReset",
    "StreamStopped",
    "Transport",
    "TransportError",
    "TransportRates",
    "TransportStats",
]

Buffer = bytes | bytearray | memoryview
Received = bytes | memoryview

READ_SIZE = 256 * 1024
"""How many bytes a read asks for when the caller has no better number."""


class TransportError(Error):
    """A stream or connection failed."""


class StreamReset(TransportError):
    """The peer reset the stream we read, with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the peer reset the stream with code {code}")
        self.code = code


class StreamStopped(TransportError):
    """The peer stopped the stream we write, with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the peer stopped the stream with code {code}")
        self.code = code


class ConnectionLost(TransportError):
    """The connection is over; ``error`` says why."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class PathStats:
    """One network path of a connection.

    ``rtt`` is in seconds, ``congestion_window`` and ``mtu`` in bytes.
    """

    remote: str
    selected: bool
    relayed: bool
    rtt: float
    congestion_window: int
    mtu: int
    lost_packets: int
    sent_packets: int

    @property
    def loss(self) -> float:
        """The part of the packets sent here that was lost, from 0 to 1."""
        return _part(self.lost_packets, self.sent_packets)


@dataclass(frozen=True, slots=True)
class TransportRates:
    """What a connection has carried a second, between two looks at it.

    ``seconds`` is the time between them; the others are bytes and packets a second. ``loss`` is the
    part of the packets sent meanwhile that was lost, from 0 to 1.
    """

    seconds: float
    sent_bytes: float
    received_bytes: float
    sent_packets: float
    received_packets: float
    loss: float


@dataclass(frozen=True, slots=True)
class TransportStats:
    """What a connection has carried so far, in bytes and packets, and its paths now.

    ``taken`` is when, in seconds by `time.monotonic`.
    """

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    received_packets: int = 0
    lost_packets: int = 0
    paths: tuple[PathStats, ...] = ()
    taken: float = field(default_factory=time.monotonic, compare=False)

    @property
    def path(self) -> PathStats | None:
        """The path in use, or None where the transport does not know."""
        return next((path for path in self.paths if path.selected), None)

    @property
    def rtt(self) -> float | None:
        """The round-trip time of the path in use, in seconds."""
        return path.rtt if (path := self.path) else None

    @property
    def send_rate(self) -> int | None:
        """An estimate of what the path can carry, in bits per second: a window each round trip."""
        path = self.path
        if path is None or path.rtt <= 0:
            return None
        return int(path.congestion_window * 8 / path.rtt)

    @property
    def loss(self) -> float:
        """The part of all packets sent that was lost, from 0 to 1."""
        return _part(self.lost_packets, self.sent_packets)

    def rates_since(self, earlier: TransportStats) -> TransportRates:
        """What was carried a second since an earlier look; 0 if no time has passed.

        Of a session that has come back meanwhile: what its new connection has carried in that time.

        Raises:
            InvalidType: ``earlier`` is no TransportStats.
            InvalidArgument: it is not earlier.
        """
        if not isinstance(earlier, TransportStats):
            raise InvalidType(f"earlier must be a TransportStats, not {type(earlier).__name__}")
        seconds = self.taken - earlier.taken
        names = ("sent_bytes", "received_bytes", "sent_packets", "received_packets", "lost_packets")
        more = {name: getattr(self, name) - getattr(earlier, name) for name in names}
        if seconds < 0:
            raise InvalidArgument("these stats are no later ones")
        if any(more[name] < 0 for name in names[:-1]):
            more = {name: getattr(self, name) for name in names}
        # A packet that was taken for lost may turn up.
        loss = _part(max(more.pop("lost_packets"), 0), more["sent_packets"])
        rates = {name: count / seconds if seconds else 0.0 for name, count in more.items()}
        return TransportRates(seconds=seconds, loss=loss, **rates)


def _part(some: int, of: int) -> float:
    return min(some / of, 1.0) if of else 0.0


class SendStream(ABC):
    """The sending half of a stream."""

    @abstractmethod
    def write_nowait(self, *data: Buffer) -> bool:
        """Takes all of the buffers, one after another, and hands over what can be at once.

        Returns:
            Whether that was all. Else the rest follows by itself, or in :meth:`flushed`, which has
            to be awaited before anything else is written or the stream is finished.

        Raises:
            StreamStopped: the peer does not want it.
            ConnectionLost: the connection is over.
        """

    @abstractmethod
    async def flushed(self) -> None:
        """Returns once everything written is handed over.

        Raises:
            StreamStopped, ConnectionLost: as :meth:`write_nowait`.
        """

    async def write(self, *data: Buffer) -> None:
        """Hands all of the buffers to the connection, waiting for flow control.

        Raises:
            StreamStopped, ConnectionLost: as :meth:`write_nowait`.
        """
        if not self.write_nowait(*data):
            await self.flushed()

    @abstractmethod
    def finish(self) -> None:
        """Says that no more will come. What was written is still delivered."""

    @abstractmethod
    def acknowledged(self) -> asyncio.Future[None]:
        """After :meth:`finish`: is done once the peer has received everything.

        Raises (when awaited):
            StreamStopped: the peer stopped the stream instead, or this side has reset it.
            ConnectionLost: the connection is over.
        """

    def when_over(self, call: Callable[[], object]) -> None:
        """After :meth:`finish`: calls something once the peer has received everything, or never will."""
        self.acknowledged().add_done_callback(lambda _: call())

    @abstractmethod
    def reset(self, code: int) -> None:
        """Abandons the stream: what is not yet delivered may never be. Later calls do nothing."""

    @abstractmethod
    def set_priority(self, priority: int) -> None:
        """Streams of a higher priority (a signed 32-bit number) are sent first."""


class RecvStream(ABC):
    """The receiving half of a stream."""

    @abstractmethod
    def read_nowait(self, limit: int = READ_SIZE) -> Received | None:
        """As :meth:`read`, or None where it would have to wait.

        Raises:
            StreamReset, ConnectionLost: as :meth:`read`.
        """

    @abstractmethod
    async def read(self, limit: int = READ_SIZE) -> Received:
        """The next bytes, at most ``limit``; empty once the peer has finished.

        A large piece may come as a view of where it is, which keeps all of it alive.

        Raises:
            StreamReset: the peer abandoned the stream.
            ConnectionLost: the connection is over.
        """

    @abstractmethod
    def stop(self, code: int) -> None:
        """Says that no more is wanted. Later calls do nothing."""


class Transport(ABC):
    """A connection to one peer."""

    @property
    @abstractmethod
    def remote_id(self) -> Any:
        """Who is at the other end: a value that can be hashed and compared, and reads well as text."""

    @property
    def connection(self) -> Any:
        """The connection underneath, for what this interface does not offer."""
        return self

    @property
    def alpn(self) -> bytes:
        """The protocol that both ends agreed on in the handshake; empty where there was none."""
        return b""

    @abstractmethod
    async def open_bi(self) -> tuple[SendStream, RecvStream]:
        """Opens a bidirectional stream, waiting while the peer allows no more."""

    @abstractmethod
    async def open_uni(self) -> SendStream:
        """Opens a unidirectional stream, waiting while the peer allows no more."""

    @abstractmethod
    def open_uni_nowait(self) -> SendStream | None:
        """As :meth:`open_uni`, or None where it would have to wait."""

    @abstractmethod
    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        """The next bidirectional stream that the peer opened."""

    @abstractmethod
    async def accept_uni(self) -> RecvStream:
        """The next unidirectional stream that the peer opened, in the order of opening."""

    @abstractmethod
    def accept_uni_nowait(self) -> RecvStream | None:
        """As :meth:`accept_uni`, or None where it would have to wait."""

    @abstractmethod
    def allow_uni_streams(self, more: int) -> None:
        """Raises the number of unidirectional streams that the peer may have open, or lowers it again."""

    @abstractmethod
    async def uni_settled(self) -> None:
        """Returns once `accept_uni`, which somebody keeps calling, has returned every
        unidirectional stream whose data had reached this side before the call.

        This is how a receiver learns that it has seen everything sent before some event.
        """

    @property
    def max_datagram_size(self) -> int:
        """How many bytes a datagram can hold now; 0 where the peer takes none."""
        return 0

    @abstractmethod
    def send_datagram(self, data: Buffer) -> None:
        """Sends bytes that fit into one packet, which may be lost or overtaken.

        Raises:
            TransportError: they are too large, or the connection is over.
        """

    @abstractmethod
    async def read_datagram(self) -> bytes:
        """The next datagram that the peer sent."""

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Closes the connection at once, with a code and a reason that the peer sees."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """Ends the connection as one that is lost, because the peer has fallen silent. Should it still be there,
        it sees code 0 and the reason."""

    @abstractmethod
    async def closed(self) -> SessionError:
        """Waits for the end of the connection and says why it ended."""

    @property
    @abstractmethod
    def close_error(self) -> SessionError | None:
        """Why the connection ended, or None while it lives."""

    @abstractmethod
    def stats(self) -> TransportStats:
        """What the connection has carried and the state of its paths."""

    @abstractmethod
    async def aclose(self) -> None:
        """After :meth:`close`: waits until nothing of this transport is under way any more."""

"""The transport contract on `aioquic`: raw QUIC with the ALPNs of moq-lite, to reach the Rust stack.

For tests only. Reading does not hold the peer back (aioquic widens its windows as data arrives,
read or not) and nothing is prioritised: what `set_priority` was told is in `priorities`.

aioquic reports neither acknowledgements nor new stream limits, so this looks at its state after each
datagram and each timer, and wakes whoever waits for what has become true.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from socket import AF_INET, SO_RCVBUF, SOCK_DGRAM, SOL_SOCKET
from typing import Any
from weakref import WeakValueDictionary

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.quic.stream import QuicStreamSender
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from iroh_moq import ALPN
from iroh_moq.errors import ConnectError, SessionError
from iroh_moq.transport import codes
from iroh_moq.transport.base import (
    READ_SIZE,
    Buffer,
    ConnectionLost,
    PathStats,
    RecvStream,
    SendStream,
    StreamReset,
    StreamStopped,
    Transport,
    TransportError,
    TransportStats,
)

__all__ = ["QuicTransport", "Server", "connect", "serve"]

_DATAGRAM = 1200
"""The largest DATAGRAM frame that is taken in; one packet holds it."""
_PACKET, _FRAME = 60, 3
"""Bytes of a packet and of a DATAGRAM frame that are not data, at most."""

_UNACKNOWLEDGED = 512 * 1024
"""Bytes of a stream that aioquic holds, sent or not, before its writer waits."""

_WINDOW = 64 << 20
_MAX_STREAMS = 1024
"""Streams of each kind that the peer may have open; aioquic's own 128 starves many tracks."""


class _Send(SendStream):
    def __init__(self, transport: QuicTransport, stream_id: int, sender: QuicStreamSender) -> None:
        self.stream_id = stream_id
        self.stopped: int | None = None
        self._transport = transport
        # aioquic forgets a stream that is over, so its number does not lead to this any more.
        self._sender = sender
        self._rest: deque[memoryview] = deque()
        self._abandoned = False

    @property
    def _over(self) -> bool:
        return self._abandoned or self.stopped is not None or self._transport.close_error is not None

    def _raise_if_over(self) -> None:
        if not self._abandoned:
            if self.stopped is not None:
                raise StreamStopped(self.stopped)
            self._transport.raise_if_closed()

    def write_nowait(self, *data: Buffer) -> bool:
        self._raise_if_over()
        self._rest.extend(memoryview(each).cast("B") for each in data)
        return self._push()

    async def flushed(self) -> None:
        while not self._push():
            await self._transport.until(lambda: self._over or self._room() > 0)
            self._raise_if_over()

    def _room(self) -> int:
        return _UNACKNOWLEDGED - (self._sender._buffer_stop - self._sender._buffer_start)

    def _push(self) -> bool:
        """Hands over what there is room for; whether that was all."""
        while self._rest and not self._abandoned:
            room = self._room()
            if room <= 0:
                return False
            view = self._rest.popleft()
            self._transport.quic.send_stream_data(self.stream_id, bytes(view[:room]))
            self._transport.transmit_soon()
            if len(view) > room:
                self._rest.appendleft(view[room:])
        return True

    def finish(self) -> None:
        if not self._over and self._sender._buffer_fin is None:
            self._transport.quic.send_stream_data(self.stream_id, b"", end_stream=True)
            self._transport.transmit_soon()

    def acknowledged(self) -> asyncio.Future[None]:
        return self._transport.waits(self._acknowledged())

    async def _acknowledged(self) -> None:
        await self._transport.until(lambda: self._over or self._sender.is_finished)
        # Data and FIN that all arrived stay so, whatever came after; an acknowledged reset does not count.
        if not self._sender.is_finished or self._sender._reset_error_code is not None:
            self._raise_if_over()

    def reset(self, code: int) -> None:
        if not self._over:
            self._abandoned = True
            self._transport.quic.reset_stream(self.stream_id, codes.to_wire(code))
            self._transport.transmit_soon()
            self._transport.wake()

    def set_priority(self, priority: int) -> None:
        self._transport.priorities[self.stream_id] = priority


class _Recv(RecvStream):
    def __init__(self, transport: QuicTransport, stream_id: int) -> None:
        self.stream_id = stream_id
        self._transport = transport
        self._buffer = bytearray()
        self._finished = False
        self._reset: int | None = None

    def data_received(self, data: bytes, finished: bool) -> None:
        self._buffer += data
        self._finished = finished

    def reset_received(self, code: int) -> None:
        self._buffer.clear()
        self._reset = code

    def read_nowait(self, limit: int = READ_SIZE) -> bytes | None:
        if self._reset is not None:
            raise StreamReset(self._reset)
        if not self._buffer and not self._finished:
            self._transport.raise_if_closed()
            return None
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return data

    async def read(self, limit: int = READ_SIZE) -> bytes:
        await self._transport.until(
            lambda: (
                bool(self._buffer)
                or self._finished
                or self._reset is not None
                or self._transport.close_error is not None
            )
        )
        data = self.read_nowait(limit)
        assert data is not None
        return data

    def stop(self, code: int) -> None:
        if self._transport.forget(self):
            self._buffer.clear()
            self._finished = True
            self._transport.quic.stop_stream(self.stream_id, codes.to_wire(code))
            self._transport.transmit_soon()
            self._transport.wake()


class QuicTransport(Transport):
    """One connection; made by :func:`connect` and :meth:`Server.accept`."""

    def __init__(self, protocol: _Protocol) -> None:
        self.quic = protocol._quic
        self.priorities: dict[int, int] = {}
        """What each stream's `set_priority` was last told, by stream id."""

        self._protocol = protocol
        self._error: SessionError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._sending: WeakValueDictionary[int, _Send] = WeakValueDictionary()
        self._receiving: dict[int, _Recv] = {}
        self._bi: deque[tuple[_Send, _Recv]] = deque()
        self._uni: deque[_Recv] = deque()
        self._datagrams: deque[bytes] = deque(maxlen=1000)
        self._bi_opened = self._uni_opened = 0
        """How many streams the peer has opened."""

        self.received_packets = self.received_bytes = 0

    # What the streams and the protocol use.

    def waits(self, waiting: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that ends with the connection at the latest, for someone who may ask for its outcome."""
        task = asyncio.ensure_future(waiting)
        self._tasks.add(task)
        task.add_done_callback(self._waited)
        return task

    def _waited(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Waits until something that the peer or another task did makes `ready` true."""
        while not ready():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting[waiter] = ready
            try:
                await waiter
            finally:
                del self._waiting[waiter]

    def wake(self) -> None:
        """Wakes those whose condition has become true."""
        for waiter, ready in self._waiting.items():
            if not waiter.done() and ready():
                waiter.set_result(None)

    def transmit_soon(self) -> None:
        self._protocol._transmit_soon()

    def raise_if_closed(self) -> None:
        if self._error is not None:
            raise ConnectionLost(self._error)

    def forget(self, stream: _Recv) -> bool:
        """Takes a stream from those that still receive; False where it did not."""
        return self._error is None and self._receiving.pop(stream.stream_id, None) is not None

    def take_peer_streams(self) -> None:
        """Queues the streams that the peer has opened: a number in use opens all the lower ones."""
        theirs = 1 if self.quic.configuration.is_client else 0
        while self._bi_opened < self.quic._local_max_streams_bidi.used:
            self._bi.append(self._halves(self._bi_opened * 4 + theirs))
            self._bi_opened += 1
        while self._uni_opened < self.quic._local_max_streams_uni.used:
            self._uni.append(self._recv(self._uni_opened * 4 + 2 + theirs))
            self._uni_opened += 1

    def event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            if (stream := self._receiving.get(event.stream_id)) is not None:
                stream.data_received(event.data, event.end_stream)
                if event.end_stream:
                    self.forget(stream)
        elif isinstance(event, events.DatagramFrameReceived):
            self._datagrams.append(event.data)
        elif isinstance(event, events.StreamReset):
            if (stream := self._receiving.pop(event.stream_id, None)) is not None:
                stream.reset_received(codes.from_wire(event.error_code))
        elif (
            isinstance(event, events.StopSendingReceived)
            and (sending := self._sending.get(event.stream_id)) is not None
        ):
            sending.stopped = codes.from_wire(event.error_code)

    def settle(self) -> None:
        """Looks at what the last datagram or timer has changed."""
        # Not by aioquic's event for the end, which comes only after the draining period.
        end = self.quic._close_event
        if end is not None and self._error is None:
            code = end.error_code if end.frame_type is None else None
            self._error = SessionError(code, end.reason_phrase)
        self.wake()

    def _recv(self, stream_id: int) -> _Recv:
        stream = self._receiving[stream_id] = _Recv(self, stream_id)
        return stream

    def _send(self, stream_id: int) -> _Send:
        stream = self._sending[stream_id] = _Send(self, stream_id, self.quic._streams[stream_id].sender)
        return stream

    def _halves(self, stream_id: int) -> tuple[_Send, _Recv]:
        return self._send(stream_id), self._recv(stream_id)

    async def _open(self, uni: bool) -> int:
        quic = self.quic

        def allowed() -> bool:
            limit = quic._remote_max_streams_uni if uni else quic._remote_max_streams_bidi
            return quic.get_next_available_stream_id(uni) // 4 < limit

        await self.until(lambda: self._error is not None or allowed())
        self.raise_if_closed()
        stream_id = quic.get_next_available_stream_id(uni)
        # Takes the number; nothing travels yet.
        quic.send_stream_data(stream_id, b"")
        return stream_id

    # The contract.

    @property
    def alpn(self) -> bytes:
        return (self.quic.tls.alpn_negotiated or "").encode()

    @property
    def remote_id(self) -> str:
        host, port = (self.quic.get_peer_address() or ("?", 0))[:2]
        return f"{host}:{port}"

    async def open_bi(self) -> tuple[SendStream, RecvStream]:
        return self._halves(await self._open(uni=False))

    async def open_uni(self) -> SendStream:
        return self._send(await self._open(uni=True))

    def open_uni_nowait(self) -> SendStream | None:
        return None

    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        await self.until(lambda: bool(self._bi) or self._error is not None)
        if not self._bi:
            self.raise_if_closed()
        return self._bi.popleft()

    async def accept_uni(self) -> RecvStream:
        await self.until(lambda: bool(self._uni) or self._error is not None)
        stream = self.accept_uni_nowait()
        assert stream is not None
        return stream

    def accept_uni_nowait(self) -> RecvStream | None:
        if not self._uni:
            self.raise_if_closed()
            return None
        stream = self._uni.popleft()
        self.wake()
        return stream

    def allow_uni_streams(self, more: int) -> None:
        # The package raises the limit by itself, whenever half of it is used.
        return

    async def uni_settled(self) -> None:
        opened = self._uni_opened
        await self.until(lambda: self._uni_opened - len(self._uni) >= opened or self._error is not None)

    @property
    def max_datagram_size(self) -> int:
        # What the peer takes includes the header of the frame, and so does what a packet holds.
        limit = min(self.quic._remote_max_datagram_frame_size or 0, self.quic._max_datagram_size - _PACKET)
        return max(limit - _FRAME, 0)

    def send_datagram(self, data: Buffer) -> None:
        self.raise_if_closed()
        if len(data) > self.max_datagram_size:
            raise TransportError(f"a datagram of {len(data)} bytes; at most {self.max_datagram_size} fit")
        self.quic.send_datagram_frame(bytes(data))
        self.transmit_soon()

    async def read_datagram(self) -> bytes:
        await self.until(lambda: bool(self._datagrams) or self._error is not None)
        if not self._datagrams:
            self.raise_if_closed()
        return self._datagrams.popleft()

    def close(self, code: int, reason: str) -> None:
        if self._error is None:
            self._error = SessionError(code, reason, local=True)
            # It must fit one packet.
            self._protocol.close(code, reason.encode()[:1000].decode(errors="ignore"))
            self.wake()

    def give_up(self, reason: str) -> None:
        if self._error is None:
            self._error = SessionError(None, reason)
            self._protocol.close(0, reason)
            self.wake()

    async def closed(self) -> SessionError:
        await self.until(lambda: self._error is not None)
        assert self._error is not None
        return self._error

    @property
    def close_error(self) -> SessionError | None:
        return self._error

    def stats(self) -> TransportStats:
        quic, loss = self.quic, self.quic._loss
        network = quic._network_paths[0]
        path = PathStats(
            remote=self.remote_id,
            selected=True,
            relayed=False,
            rtt=loss._rtt_smoothed,
            congestion_window=loss.congestion_window,
            mtu=quic._max_datagram_size,
            lost_packets=0,
            sent_packets=quic._packet_number,
        )
        return TransportStats(
            sent_bytes=network.bytes_sent,
            received_bytes=self.received_bytes,
            sent_packets=quic._packet_number,
            received_packets=self.received_packets,
            paths=(path,),
        )

    async def aclose(self) -> None:
        await self.closed()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._protocol.dispose()


class _Protocol(QuicConnectionProtocol):
    """Ties aioquic's connection to the socket and to our transport.

    As a client it owns the socket, as a server it is one of several at the listener's.
    """

    def __init__(self, quic: QuicConnection, stream_handler: None = None) -> None:
        super().__init__(quic)
        self.handshaken: Callable[[QuicTransport], None] = lambda transport: None
        self.session = QuicTransport(self)
        self._disposed = False
        self._lost = asyncio.Event()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            self.handshaken(self.session)
        self.session.event_received(event)

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        self.session.received_packets += 1
        self.session.received_bytes += len(data)
        super().datagram_received(data, addr)

    def _process_events(self) -> None:
        self.session.take_peer_streams()
        super()._process_events()
        self.session.settle()

    def transmit(self) -> None:
        if not self._disposed:
            super().transmit()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()

    async def dispose(self) -> None:
        """Ends timers and, as a client, the socket.

        The rest of the closing period would be of no use: aioquic answers nothing in it.
        """
        self._disposed = True
        for handle in (self._timer, self._transmit_task):
            if handle is not None:
                handle.cancel()
        self._connection_terminated_handler()
        if self._quic.configuration.is_client and self._transport is not None:
            self._transport.close()
            await self._lost.wait()


class _Listener(QuicServer):
    """aioquic's server, which says when its socket is gone."""

    def __init__(self, configuration: QuicConfiguration, create_protocol: Callable[..., _Protocol]) -> None:
        super().__init__(configuration=configuration, create_protocol=create_protocol)
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class Server:
    """Accepts connections; made by :func:`serve`."""

    def __init__(self, port: int, incoming: asyncio.Queue[QuicTransport]) -> None:
        self.port = port
        self._incoming = incoming

    async def accept(self) -> QuicTransport:
        """The next connection whose handshake is complete."""
        return await self._incoming.get()


@asynccontextmanager
async def connect(host: str, port: int, alpn: bytes = ALPN) -> AsyncIterator[QuicTransport]:
    """A connection to an IPv4 server, whoever it says it is; closed with code 0 on leaving.

    Raises:
        ConnectError: the handshake failed.
    """
    loop = asyncio.get_running_loop()
    address = (await loop.getaddrinfo(host, port, family=AF_INET, type=SOCK_DGRAM))[0][4]
    configuration = _configuration([alpn], is_client=True)
    configuration.verify_mode = ssl.CERT_NONE
    # The Rust server refuses a raw connection that does not name its host.
    configuration.server_name = "localhost"
    quic = _allow_streams(QuicConnection(configuration=configuration))
    endpoint, protocol = await loop.create_datagram_endpoint(lambda: _Protocol(quic), ("0.0.0.0", 0))
    _enlarge_buffer(endpoint)
    transport = protocol.session
    try:
        connected: list[QuicTransport] = []
        protocol.handshaken = connected.append
        protocol.connect((address[0], port))
        await transport.until(lambda: bool(connected) or transport.close_error is not None)
        if not connected:
            raise ConnectError(f"cannot connect to {host}:{port}: {transport.close_error}")
        yield transport
    finally:
        transport.close(0, "")
        await transport.aclose()


@asynccontextmanager
async def serve(host: str = "127.0.0.1", port: int = 0, alpns: Sequence[bytes] = (ALPN,)) -> AsyncIterator[Server]:
    """A server with a certificate of its own making; leaving closes its connections with code 0."""
    loop = asyncio.get_running_loop()
    configuration = _configuration(alpns, is_client=False)
    configuration.certificate, configuration.private_key = _certificate()
    incoming: asyncio.Queue[QuicTransport] = asyncio.Queue()
    transports: list[QuicTransport] = []

    def create_protocol(quic: QuicConnection, stream_handler: None = None) -> _Protocol:
        protocol = _Protocol(_allow_streams(quic))
        protocol.handshaken = incoming.put_nowait
        transports.append(protocol.session)
        return protocol

    endpoint, listener = await loop.create_datagram_endpoint(
        lambda: _Listener(configuration, create_protocol), (host, port)
    )
    _enlarge_buffer(endpoint)
    try:
        yield Server(endpoint.get_extra_info("sockname")[1], incoming)
    finally:
        for transport in transports:
            transport.close(0, "")
            await transport.aclose()
        endpoint.close()
        await listener.lost.wait()


def _configuration(alpns: Sequence[bytes], *, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[alpn.decode() for alpn in alpns],
        idle_timeout=30,
        is_client=is_client,
        max_data=_WINDOW,
        max_datagram_frame_size=_DATAGRAM,
        max_stream_data=_WINDOW,
    )


def _allow_streams(quic: QuicConnection) -> QuicConnection:
    """Raises the stream limits, which are not in aioquic's configuration; before the handshake only."""
    for limit in (quic._local_max_streams_bidi, quic._local_max_streams_uni):
        limit.value = limit.sent = _MAX_STREAMS
    return quic


def _enlarge_buffer(endpoint: asyncio.DatagramTransport) -> None:
    """A burst from the Rust side must not overflow the socket while Python is busy with the last one."""
    endpoint.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, 4 << 20)


@cache
def _certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(key, SHA256()), key

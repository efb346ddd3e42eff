"""A transport between two objects of one process, for tests of the layers above.

It behaves as a connection does where that matters: writing waits for the reader's flow control,
opening waits for the peer's stream limit, a reset throws away what was not yet read.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..aio import Signal
from ..errors import SessionError
from .base import (
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

__all__ = ["MemoryTransport", "memory_pair"]


_MAX_DATAGRAM = 1200
_DATAGRAMS = 1000
"""How many unread datagrams are kept; the oldest are lost first."""


class _Pipe:
    """One direction of a stream: what both of its ends share."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.finished = False
        self.consumed = False
        self.reset: int | None = None
        self.stopped: int | None = None
        self.lost: SessionError | None = None
        self.changed = Signal()
        self.fates: list[asyncio.Future[None]] = []
        self.priority = 0

    def notify(self) -> None:
        self.changed.notify()
        self.fates = [future for future in self.fates if not self.settle(future)]

    def settle(self, future: asyncio.Future[None]) -> bool:
        """Whether a future of the stream's fate is done, now that something has changed."""
        if future.done():
            return True
        if self.finished and not self.chunks and self.stopped is None and self.reset is None:
            future.set_result(None)
            return True
        try:
            self.raise_for_writer()
        except TransportError as error:
            future.set_exception(error)
            # Whoever still wants to know can ask; nobody may.
            future.exception()
            return True
        return False

    @property
    def ended(self) -> bool:
        return self.consumed or self.reset is not None or self.stopped is not None or self.lost is not None

    def end(self, *, reset: int | None = None, stopped: int | None = None) -> bool:
        if self.ended:
            return False
        self.reset, self.stopped = reset, stopped
        self.chunks.clear()
        self.notify()
        return True

    def raise_for_writer(self) -> None:
        if self.reset is not None:
            # Ours, and abandoned by us: nobody wants what it carried.
            raise StreamStopped(0)
        if self.stopped is not None:
            raise StreamStopped(self.stopped)
        if self.lost is not None:
            raise ConnectionLost(self.lost)


class _MemorySend(SendStream):
    def __init__(self, pipe: _Pipe, transport: MemoryTransport) -> None:
        self._pipe = pipe
        self._transport = transport
        self._rest: deque[memoryview] = deque()

    def write_nowait(self, *data: Buffer) -> bool:
        if self._rest:
            raise RuntimeError("a write on this stream is under way: await flushed() first")
        self._pipe.raise_for_writer()
        self._rest.extend(memoryview(each).cast("B") for each in data)
        return self._push()

    async def flushed(self) -> None:
        while True:
            self._pipe.raise_for_writer()
            if self._push():
                return
            await self._pipe.changed.wait()

    def _push(self) -> bool:
        """Hands over what there is room for; whether that was all."""
        pipe = self._pipe
        while self._rest:
            view = self._rest.popleft()
            room = pipe.window - pipe.size
            if len(view) > room:
                self._rest.appendleft(view[max(room, 0) :])
                view = view[: max(room, 0)]
            if view:
                pipe.chunks.append(bytes(view))
                pipe.size += len(view)
                self._transport._carried(sent=len(view))
                pipe.changed.notify()
            if self._rest and pipe.size >= pipe.window:
                return False
        return True

    def finish(self) -> None:
        if not self._pipe.ended:
            self._pipe.finished = True
            self._pipe.notify()

    def acknowledged(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._pipe.settle(future):
            self._pipe.fates.append(future)
        return future

    def reset(self, code: int) -> None:
        if self._pipe.end(reset=code):
            self._transport._released(self._pipe)

    def set_priority(self, priority: int) -> None:
        self._pipe.priority = priority


class _MemoryRecv(RecvStream):
    def __init__(self, pipe: _Pipe, transport: MemoryTransport) -> None:
        self._pipe = pipe
        self._transport = transport

    def read_nowait(self, limit: int = READ_SIZE) -> bytes | None:
        pipe = self._pipe
        if not pipe.chunks:
            if pipe.reset is not None:
                raise StreamReset(pipe.reset)
            if pipe.stopped is not None or pipe.finished:
                pipe.consumed = True
                self._transport._released(pipe)
                return b""
            if pipe.lost is not None:
                raise ConnectionLost(pipe.lost)
            return None
        chunk = pipe.chunks.popleft()
        if len(chunk) > limit:
            pipe.chunks.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        pipe.size -= len(chunk)
        pipe.notify()
        return chunk

    async def read(self, limit: int = READ_SIZE) -> bytes:
        while (data := self.read_nowait(limit)) is None:
            await self._pipe.changed.wait()
        return data

    def stop(self, code: int) -> None:
        pipe = self._pipe
        if pipe.finished and not pipe.chunks and not pipe.ended:
            # All of it has come, so there is nothing to stop.
            pipe.consumed = True
            self._transport._released(pipe)
        elif pipe.end(stopped=code):
            self._transport._released(self._pipe)


class MemoryTransport(Transport):
    """One end of a pair; make both with :func:`memory_pair`."""

    def __init__(self, name: str, remote: str, window: int, max_streams: int, alpn: bytes) -> None:
        self.name = name
        self._alpn = alpn
        self._remote = remote
        self._window = window
        self._max_streams = max_streams
        self._peer: MemoryTransport = self
        self._error: SessionError | None = None
        self._bi: deque[tuple[SendStream, RecvStream]] = deque()
        self._uni: deque[RecvStream] = deque()
        self._datagrams: deque[bytes] = deque(maxlen=_DATAGRAMS)
        self._changed = Signal()
        self._outgoing: set[_Pipe] = set()
        self._sent = self._received = 0
        self.rtt = 0.01
        """What :meth:`stats` says, for tests to set."""
        self.congestion_window = 100_000

    @property
    def remote_id(self) -> str:
        return self._remote

    @property
    def alpn(self) -> bytes:
        return self._alpn

    @property
    def max_datagram_size(self) -> int:
        return _MAX_DATAGRAM

    @property
    def open_streams(self) -> int:
        """How many directions of streams, from either end, are not over yet."""
        return len(self._outgoing) + len(self._peer._outgoing)

    def _pipe(self) -> _Pipe:
        pipe = _Pipe(self._window)
        self._outgoing.add(pipe)
        return pipe

    def _carried(self, *, sent: int) -> None:
        self._sent += sent
        self._peer._received += sent

    def _released(self, pipe: _Pipe) -> None:
        for end in (self, self._peer):
            end._outgoing.discard(pipe)
            end._changed.notify()

    async def _room(self) -> None:
        self._raise_if_closed()
        while len(self._outgoing) >= self._max_streams:
            await self._changed.wait()
            self._raise_if_closed()

    def _raise_if_closed(self) -> None:
        if self._error is not None:
            raise ConnectionLost(self._error)

    async def open_bi(self) -> tuple[SendStream, RecvStream]:
        await self._room()
        there, back = self._pipe(), self._peer._pipe()
        self._peer._bi.append((_MemorySend(back, self._peer), _MemoryRecv(there, self._peer)))
        self._peer._changed.notify()
        return _MemorySend(there, self), _MemoryRecv(back, self)

    async def open_uni(self) -> SendStream:
        while (stream := self.open_uni_nowait()) is None:
            await self._changed.wait()
        return stream

    def open_uni_nowait(self) -> SendStream | None:
        self._raise_if_closed()
        if len(self._outgoing) >= self._max_streams:
            return None
        pipe = self._pipe()
        self._peer._uni.append(_MemoryRecv(pipe, self._peer))
        self._peer._changed.notify()
        return _MemorySend(pipe, self)

    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        while not self._bi:
            self._raise_if_closed()
            await self._changed.wait()
        return self._bi.popleft()

    async def accept_uni(self) -> RecvStream:
        while (stream := self.accept_uni_nowait()) is None:
            await self._changed.wait()
        return stream

    def accept_uni_nowait(self) -> RecvStream | None:
        if not self._uni:
            self._raise_if_closed()
            return None
        stream = self._uni.popleft()
        self._changed.notify()
        return stream

    def allow_uni_streams(self, more: int) -> None:
        self._peer._max_streams += more
        self._peer._changed.notify()

    async def uni_settled(self) -> None:
        while self._uni:
            await self._changed.wait()

    def send_datagram(self, data: Buffer) -> None:
        self._raise_if_closed()
        if len(data) > _MAX_DATAGRAM:
            raise TransportError(f"a datagram of {len(data)} bytes; at most {_MAX_DATAGRAM} fit")
        self._peer._datagrams.append(bytes(data))
        self._peer._changed.notify()

    async def read_datagram(self) -> bytes:
        while not self._datagrams:
            self._raise_if_closed()
            await self._changed.wait()
        return self._datagrams.popleft()

    def close(self, code: int, reason: str) -> None:
        self._end(SessionError(code, reason, local=True))
        self._peer._end(SessionError(code, reason))

    def give_up(self, reason: str) -> None:
        self._end(SessionError(None, reason))
        self._peer._end(SessionError(0, reason))

    def lose(self) -> None:
        """Ends the connection on both sides as if the network had gone."""
        self._end(SessionError(None, "timed out"))
        self._peer._end(SessionError(None, "timed out"))

    def _end(self, error: SessionError) -> None:
        if self._error is None:
            self._error = error
            self._bi.clear()
            self._uni.clear()
            for pipe in list(self._outgoing):
                pipe.lost = error
                pipe.notify()
            self._outgoing.clear()
            self._changed.notify()

    async def closed(self) -> SessionError:
        while self._error is None:
            await self._changed.wait()
        return self._error

    @property
    def close_error(self) -> SessionError | None:
        return self._error

    def stats(self) -> TransportStats:
        path = PathStats(self._remote, True, False, self.rtt, self.congestion_window, 1200, 0, 0)
        return TransportStats(sent_bytes=self._sent, received_bytes=self._received, paths=(path,))

    async def aclose(self) -> None:
        return


def memory_pair(
    *, window: int = 1 << 20, max_streams: int = 1000, names: tuple[str, str] = ("a", "b"), alpn: bytes = b""
) -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected transports.

    Args:
        window: bytes that a stream holds unread before its writer waits.
        max_streams: directions of streams that either end may have open.
        names: what each end is called, and so what the other sees as its `remote_id`.
        alpn: the protocol that was agreed on.
    """
    first = MemoryTransport(names[0], names[1], window, max_streams, alpn)
    second = MemoryTransport(names[1], names[0], window, max_streams, alpn)
    first._peer, second._peer = second, first
    return first, second

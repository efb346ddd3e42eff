"""A transport between two objects of one process, for tests of the layers above.

It behaves as a connection does where that matters: writing waits for the reader's flow control,
opening waits for the peer's stream limit, a reset throws away what was not yet read.
"""

from __future__ import annotations

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
    TransportStats,
)

__all__ = ["MemoryTransport", "memory_pair"]


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
        self.priority = 0

    @property
    def ended(self) -> bool:
        return self.consumed or self.reset is not None or self.stopped is not None or self.lost is not None

    def end(self, *, reset: int | None = None, stopped: int | None = None) -> bool:
        if self.ended:
            return False
        self.reset, self.stopped = reset, stopped
        self.chunks.clear()
        self.changed.notify()
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

    async def write(self, data: Buffer) -> None:
        pipe, view = self._pipe, memoryview(data).cast("B")
        pipe.raise_for_writer()
        while view:
            while pipe.size >= pipe.window:
                await pipe.changed.wait()
                pipe.raise_for_writer()
            piece, view = bytes(view[: pipe.window - pipe.size]), view[pipe.window - pipe.size :]
            pipe.chunks.append(piece)
            pipe.size += len(piece)
            self._transport._carried(sent=len(piece))
            pipe.changed.notify()

    async def finish(self) -> None:
        self._pipe.raise_for_writer()
        self._pipe.finished = True
        self._pipe.changed.notify()

    async def acknowledged(self) -> None:
        pipe = self._pipe
        while not (pipe.finished and not pipe.chunks) or pipe.stopped is not None:
            pipe.raise_for_writer()
            await pipe.changed.wait()

    def reset(self, code: int) -> None:
        if self._pipe.end(reset=code):
            self._transport._released(self._pipe)

    def set_priority(self, priority: int) -> None:
        self._pipe.priority = priority


class _MemoryRecv(RecvStream):
    def __init__(self, pipe: _Pipe, transport: MemoryTransport) -> None:
        self._pipe = pipe
        self._transport = transport

    async def read(self, limit: int = READ_SIZE) -> bytes:
        pipe = self._pipe
        while not pipe.chunks:
            if pipe.reset is not None:
                raise StreamReset(pipe.reset)
            if pipe.stopped is not None or pipe.finished:
                pipe.consumed = True
                self._transport._released(pipe)
                return b""
            if pipe.lost is not None:
                raise ConnectionLost(pipe.lost)
            await pipe.changed.wait()
        chunk = pipe.chunks.popleft()
        if len(chunk) > limit:
            pipe.chunks.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        pipe.size -= len(chunk)
        pipe.changed.notify()
        return chunk

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

    def __init__(self, name: str, remote: str, window: int, max_streams: int) -> None:
        self.name = name
        self._remote = remote
        self._window = window
        self._max_streams = max_streams
        self._peer: MemoryTransport = self
        self._error: SessionError | None = None
        self._bi: deque[tuple[SendStream, RecvStream]] = deque()
        self._uni: deque[RecvStream] = deque()
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
        await self._room()
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
        while not self._uni:
            self._raise_if_closed()
            await self._changed.wait()
        stream = self._uni.popleft()
        self._changed.notify()
        return stream

    def allow_uni_streams(self, more: int) -> None:
        self._peer._max_streams += more
        self._peer._changed.notify()

    async def uni_settled(self) -> None:
        while self._uni:
            await self._changed.wait()

    def close(self, code: int, reason: str) -> None:
        self._end(SessionError(code, reason, local=True))
        self._peer._end(SessionError(code, reason))

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
                pipe.changed.notify()
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
    *, window: int = 1 << 20, max_streams: int = 1000, names: tuple[str, str] = ("a", "b")
) -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected transports.

    Args:
        window: bytes that a stream holds unread before its writer waits.
        max_streams: directions of streams that either end may have open.
        names: what each end is called, and so what the other sees as its `remote_id`.
    """
    first = MemoryTransport(names[0], names[1], window, max_streams)
    second = MemoryTransport(names[1], names[0], window, max_streams)
    first._peer, second._peer = second, first
    return first, second

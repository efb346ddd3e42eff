"""A connection on which everything takes its time, and not the same: a `MemoryTransport` behind a seeded network.

What one end has sent arrives at the other after delays that the seed decides, in order within a
stream and in any order between streams; lost packets are long delays. Streams are accepted in the
order in which they were opened, as soon as anything has come of them or of a later one. When a
connection is cut, nothing arrives any more, and each end learns of it in its own time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

from iroh_moq.aio import Signal
from iroh_moq.errors import SessionError
from iroh_moq.transport import (
    READ_SIZE,
    Buffer,
    ConnectionLost,
    RecvStream,
    SendStream,
    StreamReset,
    Transport,
    TransportStats,
)
from iroh_moq.transport.memory import MemoryTransport, memory_pair

__all__ = ["LateTransport", "Weather", "late_pair"]


class Weather:
    """How long things take on one connection.

    Args:
        chance: where it comes from.
        badness: 0 for a network that only interleaves, 1 for one that loses and holds up a lot.
    """

    def __init__(self, chance: random.Random, badness: float) -> None:
        self._chance = chance
        self._badness = badness

    def delay(self) -> float:
        """Seconds until the next thing arrives."""
        chance, kind = self._chance, self._chance.random()
        if kind < 0.4:
            return 0.0
        if kind > 1 - 0.02 * self._badness:
            return chance.uniform(0.3, 3.0)
        if kind > 1 - 0.2 * self._badness:
            return chance.uniform(0.02, 0.3)
        return chance.uniform(0.0, 0.02)

    def piece(self) -> int:
        """How many bytes arrive together at most."""
        return self._chance.choice((1, 7, 64, 1200, READ_SIZE, READ_SIZE))


class _LateRecv(RecvStream):
    """The reading half: what has arrived of it, and a task that lets more arrive."""

    def __init__(self, inner: RecvStream, transport: LateTransport, arrived: Any) -> None:
        self._inner = inner
        self._pipe: Any = getattr(inner, "_pipe")  # noqa: B009 - to see whether anything is there without taking it
        self._transport = transport
        self._arrived = arrived
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._finished = False
        self._stopped = False
        self._reset: int | None = None
        self._changed = Signal()
        self._arriving = transport._spawn(self._arrive())

    @property
    def over(self) -> bool:
        """Whether nothing more can arrive."""
        return self._finished or self._stopped or self._reset is not None

    async def _arrive(self) -> None:
        pipe, transport = self._pipe, self._transport
        while not self.over:
            if not (pipe.chunks or pipe.finished or pipe.reset is not None):
                await pipe.changed.wait()
                continue
            await asyncio.sleep(transport.weather.delay())
            while self._size >= transport.window:
                await self._changed.wait()
            if transport.cut:
                return
            try:
                data = self._inner.read_nowait(transport.weather.piece())
                if data:
                    self._chunks.append(bytes(data))
                    self._size += len(data)
                    if pipe.finished and not pipe.chunks:
                        # The last bytes and the end of a stream travel together.
                        data = self._inner.read_nowait()
                if data == b"":
                    self._finished = True
                elif data is None:
                    continue
            except StreamReset as error:
                self._chunks.clear()
                self._reset = error.code
            except ConnectionLost:
                return
            self._changed.notify()
            self._arrived()

    def lost(self) -> None:
        """The connection has ended on this side."""
        self._arriving.cancel()
        self._changed.notify()

    def read_nowait(self, limit: int = READ_SIZE) -> bytes | None:
        if self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) > limit:
                self._chunks.appendleft(chunk[limit:])
                chunk = chunk[:limit]
            self._size -= len(chunk)
            self._changed.notify()
            return chunk
        if self._reset is not None:
            raise StreamReset(self._reset)
        if self._finished or self._stopped:
            return b""
        if self._transport.close_error is not None:
            raise ConnectionLost(self._transport.close_error)
        return None

    async def read(self, limit: int = READ_SIZE) -> bytes:
        while (data := self.read_nowait(limit)) is None:
            await self._changed.wait()
        return data

    def stop(self, code: int) -> None:
        if self.over:
            self._chunks.clear()
            self._stopped = True
            return
        self._stopped = True
        self._chunks.clear()
        self._arriving.cancel()
        self._changed.notify()
        self._transport._later(lambda: self._inner.stop(code))


class _Accepted:
    """Streams that the peer has opened, in their order; they show once anything of them has arrived."""

    def __init__(self) -> None:
        self.opened: list[Any] = []
        self.shown = 0
        self.taken = 0

    def arrived(self, number: int) -> None:
        self.shown = max(self.shown, number + 1)

    def take(self) -> Any:
        if self.taken == self.shown:
            return None
        stream, self.opened[self.taken] = self.opened[self.taken], None
        self.taken += 1
        return stream


class LateTransport(Transport):
    """One end of such a connection; make both with :func:`late_pair`."""

    def __init__(self, inner: MemoryTransport, weather: Weather, window: int) -> None:
        self.weather = weather
        self.window = window
        self.cut = False
        self.peer: LateTransport = self
        self._inner = inner
        self._error: SessionError | None = None
        self._changed = Signal()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: list[_LateRecv] = []
        self._uni, self._bi = _Accepted(), _Accepted()
        self._spawn(self._accept_uni())
        self._spawn(self._accept_bi())

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=f"network of {self.remote_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _later(self, call: Any) -> None:
        """Does something at the other end, which that takes its time to hear of."""

        def unless_cut() -> None:
            if not self.cut:
                call()

        asyncio.get_running_loop().call_later(self.weather.delay(), unless_cut)

    # Opening and accepting

    def _read_late(self, stream: RecvStream, arrived: Any) -> _LateRecv:
        late = _LateRecv(stream, self, arrived)
        self._reading = [other for other in self._reading if not other.over] + [late]
        return late

    async def _accept_uni(self) -> None:
        while True:
            try:
                stream = await self._inner.accept_uni()
            except ConnectionLost:
                return
            self._uni.opened.append(self._read_late(stream, self._showing(self._uni)))

    async def _accept_bi(self) -> None:
        while True:
            try:
                send, recv = await self._inner.accept_bi()
            except ConnectionLost:
                return
            self._bi.opened.append((send, self._read_late(recv, self._showing(self._bi))))

    def _showing(self, accepted: _Accepted) -> Any:
        number = len(accepted.opened)

        def arrived() -> None:
            accepted.arrived(number)
            self._changed.notify()

        return arrived

    @property
    def remote_id(self) -> Any:
        return self._inner.remote_id

    async def open_bi(self) -> tuple[SendStream, RecvStream]:
        self._raise_if_closed()
        send, recv = await self._inner.open_bi()
        return send, self._read_late(recv, lambda: None)

    async def open_uni(self) -> SendStream:
        self._raise_if_closed()
        return await self._inner.open_uni()

    def open_uni_nowait(self) -> SendStream | None:
        self._raise_if_closed()
        return self._inner.open_uni_nowait()

    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        while (stream := self._bi.take()) is None:
            self._raise_if_closed()
            await self._changed.wait()
        self._changed.notify()
        both: tuple[SendStream, RecvStream] = stream
        return both

    async def accept_uni(self) -> RecvStream:
        while (stream := self.accept_uni_nowait()) is None:
            await self._changed.wait()
        return stream

    def accept_uni_nowait(self) -> RecvStream | None:
        # What has arrived and was not accepted is lost with the connection.
        self._raise_if_closed()
        stream: RecvStream | None = self._uni.take()
        if stream is not None:
            self._changed.notify()
        return stream

    def allow_uni_streams(self, more: int) -> None:
        self._inner.allow_uni_streams(more)

    async def uni_settled(self) -> None:
        while self._uni.taken < self._uni.shown and self._error is None:
            await self._changed.wait()

    def send_datagram(self, data: Buffer) -> None:
        self._inner.send_datagram(data)

    async def read_datagram(self) -> bytes:
        return await self._inner.read_datagram()

    def stats(self) -> TransportStats:
        return self._inner.stats()

    # The end

    def _raise_if_closed(self) -> None:
        if self._error is not None:
            raise ConnectionLost(self._error)

    def close(self, code: int, reason: str) -> None:
        if self._error is None:
            self._later(lambda: self.peer.end(SessionError(code, reason)))
            self.end(SessionError(code, reason, local=True))

    def give_up(self, reason: str) -> None:
        if self._error is None:
            self._later(lambda: self.peer.end(SessionError(0, reason)))
            self.end(SessionError(None, reason))

    def lose(self, after: float, peer_after: float) -> None:
        """Cuts the connection; the ends notice after so many seconds."""
        loop = asyncio.get_running_loop()
        for end, seconds in ((self, after), (self.peer, peer_after)):
            end.cut = True
            loop.call_later(seconds, end.end, SessionError(None, "timed out"))

    def end(self, error: SessionError) -> None:
        """The connection has ended, as far as this side knows."""
        if self._error is None:
            self._error = error
            self._inner._end(error)
            for stream in self._reading:
                stream.lost()
            self._changed.notify()

    @property
    def open_streams(self) -> int:
        """Directions of streams that this side writes and that are not over."""
        return len(self._inner._outgoing)

    async def closed(self) -> SessionError:
        while self._error is None:
            await self._changed.wait()
        return self._error

    @property
    def close_error(self) -> SessionError | None:
        return self._error

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)


def late_pair(
    weather: Weather, *, window: int, max_streams: int, names: tuple[str, str]
) -> tuple[LateTransport, LateTransport]:
    """Two connected ends; the keywords are those of `memory_pair`."""
    inner = memory_pair(window=window, max_streams=max_streams, names=names)
    first, second = (LateTransport(end, weather, window) for end in inner)
    first.peer, second.peer = second, first
    return first, second

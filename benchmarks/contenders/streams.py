"""The same transfer over bare QUIC streams, without MoQ: what contenders have in common that show the limit.

A group is a unidirectional stream: the number of its track and its sequence, then each frame with its length
before it. There are no subscriptions: whoever connects gets all tracks, from the latest group on. Everything
that a reasonable program would do to be fast is done: frames that are there together leave in one write, a
group is encoded once for all subscribers, and several groups are under way at once.
"""

from __future__ import annotations

import asyncio
import struct
from abc import abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Protocol

from ..channel import Channel
from ..contender import (
    Contender,
    FrameSink,
    GroupSink,
    GroupWriter,
    Publisher,
    Subscriber,
    TrackReader,
    TrackWriter,
    Window,
)
from ..failed import Failed

__all__ = ["MAX_STREAMS", "Endpoint", "In", "Link", "Out", "StreamsContender"]

MAX_STREAMS = 1024
"""Streams that a publisher may have open, as many as this package allows."""

_HEADER = struct.Struct(">BQ")
_LENGTH = struct.Struct(">I")
_PIECE = 64 * 1024
"""Bytes that are gathered into one write."""

_UNDER_WAY = 16
"""Groups that are written to one subscriber at a time, where the window allows so many."""


class Out(Protocol):
    """A stream to write."""

    async def write(self, data: bytes) -> None:
        """Hands all of it over, waiting for flow control."""

    async def finish(self) -> None:
        """No more will come."""


class In(Protocol):
    """A stream to read."""

    async def read(self) -> bytes:
        """What is there, as much as is sensible; empty at the end."""

    def read_nowait(self) -> bytes | None:
        """The same, or None where it would wait. That is always, where there is no such call."""
        return None


class Link(Protocol):
    """A connection."""

    async def open(self) -> Out:
        """Opens a stream."""

    def send_nowait(self, pieces: Sequence[bytes]) -> bool:
        """Sends all of a stream at once, if that is possible. It never is, where there are no such calls."""
        return False

    async def accept(self) -> In:
        """The next stream that the peer opened; it may have `MAX_STREAMS` open."""


class Endpoint(Protocol):
    """Where connections come from."""

    @property
    def address(self) -> str:
        """What others `dial`."""

    async def accept(self) -> Link:
        """The next connection."""

    async def dial(self, address: str) -> Link:
        """Connects."""


class _Tasks:
    """Tasks that end with their owner. The first that fails is told to whoever looks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def check(self) -> None:
        if self._error is not None:
            raise Failed(f"a stream failed: {self._error}") from self._error

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()


class _Peer:
    """A subscriber, as the publisher sees it."""

    def __init__(self, link: Link, window: Window) -> None:
        self._link = link
        self.slots = asyncio.Semaphore(min(_UNDER_WAY, window.groups))

    def send_nowait(self, pieces: Sequence[bytes]) -> bool:
        """Writes a group, for which the caller has taken a slot, at once if that is possible."""
        if self._link.send_nowait(pieces):
            self.slots.release()
            return True
        return False

    async def send(self, pieces: Sequence[bytes]) -> None:
        """Writes a group, for which the caller has taken a slot."""
        try:
            out = await self._link.open()
            for piece in pieces:
                await out.write(piece)
            await out.finish()
        finally:
            self.slots.release()

    async def follow(self, header: bytes, coming: asyncio.Queue[bytes | None]) -> None:
        """Writes a group as it comes; what has come together leaves together."""
        out = await self._link.open()
        parts, going_on = [header], True
        while going_on:
            part = await coming.get()
            while part is not None:
                parts.append(part)
                if coming.empty():
                    break
                part = coming.get_nowait()
            going_on = part is not None
            if parts:
                await out.write(b"".join(parts))
                parts.clear()
        await out.finish()


class _GroupWriter(GroupWriter):
    def __init__(self, queues: Sequence[asyncio.Queue[bytes | None]]) -> None:
        self._queues = queues

    def write(self, frame: bytes) -> None:
        data = _LENGTH.pack(len(frame)) + frame
        for queue in self._queues:
            queue.put_nowait(data)

    def finish(self) -> None:
        for queue in self._queues:
            queue.put_nowait(None)


class _TrackWriter(TrackWriter):
    def __init__(self, track: int, peers: list[_Peer], tasks: _Tasks) -> None:
        self._track = track
        self._peers = peers
        self._tasks = tasks
        self._sequence = -1
        self._turn = 0
        self.latest: Sequence[bytes] = ()

    async def write_group(self, frames: Sequence[bytes]) -> None:
        self._tasks.check()
        self.latest = list(_encode(self._next_header(), frames))
        for peer in self._peers:
            await peer.slots.acquire()
            if peer.send_nowait(self.latest):
                await self._give_way()
            else:
                self._tasks.spawn(peer.send(self.latest))

    async def _give_way(self) -> None:
        """Lets the loop turn once in a while, where nothing else does."""
        self._turn += 1
        if self._turn % 64 == 0:
            await asyncio.sleep(0)

    def begin_group(self) -> GroupWriter:
        self._tasks.check()
        header, queues = self._next_header(), []
        for peer in self._peers:
            queue: asyncio.Queue[bytes | None] = asyncio.Queue()
            self._tasks.spawn(peer.follow(header, queue))
            queues.append(queue)
        return _GroupWriter(queues)

    def _next_header(self) -> bytes:
        self._sequence += 1
        return _HEADER.pack(self._track, self._sequence)


class _Publisher(Publisher):
    def __init__(self, endpoint: Endpoint, tasks: _Tasks) -> None:
        self._endpoint = endpoint
        self._tasks = tasks
        self._peers: list[_Peer] = []
        self._writers: list[_TrackWriter] = []
        self._order: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return " ".join((self._endpoint.address, *self._order))

    async def publish(self, tracks: Sequence[str], window: Window, readers: int = 1) -> list[TrackWriter]:
        self._order = tuple(tracks)
        self._writers = [_TrackWriter(index, self._peers, self._tasks) for index in range(len(tracks))]
        self._tasks.spawn(self._accept(window))
        return list(self._writers)

    async def _accept(self, window: Window) -> None:
        while True:
            peer = _Peer(await self._endpoint.accept(), window)
            self._peers.append(peer)
            for writer in self._writers:
                if writer.latest:
                    await peer.slots.acquire()
                    self._tasks.spawn(peer.send(writer.latest))


class _TrackReader(TrackReader):
    def __init__(self, tasks: _Tasks) -> None:
        self._tasks = tasks
        self._streams: asyncio.Queue[tuple[int, _Frames]] = asyncio.Queue()

    def put(self, sequence: int, frames: _Frames) -> None:
        self._streams.put_nowait((sequence, frames))

    async def groups(self, sink: GroupSink) -> None:
        async def read(sequence: int, frames: _Frames) -> None:
            group: list[bytes] = []
            while some := await frames.read():
                group += some
            sink(sequence, group)

        await self._each(read, sink)

    async def frames(self, sink: FrameSink) -> None:
        def all_at_once(sequence: int, group: list[bytes]) -> None:
            for frame in group:
                sink(sequence, frame)

        async def read(sequence: int, frames: _Frames) -> None:
            while some := await frames.read():
                all_at_once(sequence, some)

        await self._each(read, all_at_once)

    async def _each(self, read: Any, take: GroupSink) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                sequence, frames = await self._streams.get()
                if (whole := frames.whole()) is not None:
                    take(sequence, whole)
                else:
                    group.create_task(read(sequence, frames))


class _Subscriber(Subscriber):
    def __init__(self, endpoint: Endpoint, tasks: _Tasks) -> None:
        self._endpoint = endpoint
        self._tasks = tasks
        self._order: list[str] = []
        self._readers: defaultdict[int, _TrackReader] = defaultdict(lambda: _TrackReader(tasks))

    async def connect(self, address: str) -> None:
        address, *self._order = address.split(" ")
        self._tasks.spawn(self._accept(await self._endpoint.dial(address)))

    async def subscribe(self, track: str, window: Window | None = None) -> TrackReader:
        return self._readers[self._order.index(track)]

    async def _accept(self, link: Link) -> None:
        turn = 0
        while True:
            stream = await link.accept()
            data, ended = b"", False
            while not ended and (more := stream.read_nowait()) is not None:
                data, ended = data + more, not more
            if ended:
                self._put(stream, data, ended)
            else:
                self._tasks.spawn(self._begin(stream, data))
            turn += 1
            if turn % 64 == 0:
                await asyncio.sleep(0)

    async def _begin(self, stream: In, data: bytes) -> None:
        while len(data) < _HEADER.size:
            if not (more := await stream.read()):
                raise Failed("a stream without a header")
            data += more
        self._put(stream, data, ended=False)

    def _put(self, stream: In, data: bytes, ended: bool) -> None:
        track, sequence = _HEADER.unpack_from(data)
        self._readers[track].put(sequence, _Frames(stream, data[_HEADER.size :], ended))


class _Frames:
    """Cuts a stream into frames."""

    def __init__(self, stream: In, data: bytes, ended: bool) -> None:
        self._stream = stream
        self._ended = ended
        self._parts = [data]
        self._size = len(data)
        self._wanted = _LENGTH.size

    def whole(self) -> list[bytes] | None:
        """All frames, if the stream has ended already."""
        return self._cut() if self._ended else None

    async def read(self) -> list[bytes]:
        """All frames that are here, at least one; none at the end."""
        while True:
            if self._size >= self._wanted and (frames := self._cut()):
                return frames
            if not (data := await self._stream.read()):
                if self._size:
                    raise Failed("a stream ended within a frame")
                return []
            self._parts.append(data)
            self._size += len(data)

    def _cut(self) -> list[bytes]:
        # Joined only once the frame is complete, so that a large one is not copied again and again.
        data = b"".join(self._parts)
        frames, start, size = [], 0, len(data)
        self._wanted = _LENGTH.size
        while start + _LENGTH.size <= size:
            begin = start + _LENGTH.size
            end = begin + _LENGTH.unpack_from(data, start)[0]
            if end > size:
                self._wanted = end - start
                break
            frames.append(data[begin:end])
            start = end
        self._parts = [data[start:]]
        self._size = size - start
        return frames


def _encode(header: bytes, frames: Iterable[bytes]) -> Iterable[bytes]:
    parts, size = [header], len(header)
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
        size += len(frame)
        if size >= _PIECE:
            yield b"".join(parts)
            parts.clear()
            size = 0
    if parts:
        yield b"".join(parts)


class StreamsContender(Contender):
    """A contender that needs nothing but an endpoint."""

    cannot: ClassVar[frozenset[str]] = frozenset({"announcements"})

    @abstractmethod
    def endpoint(self) -> AbstractAsyncContextManager[Endpoint]:
        """An endpoint on loopback for the time of a block; leaving closes its connections."""

    @asynccontextmanager
    async def publisher(self, channel: Channel) -> AsyncIterator[Publisher]:
        async with self.endpoint() as endpoint:
            tasks = _Tasks()
            try:
                yield _Publisher(endpoint, tasks)
            finally:
                await tasks.aclose()

    @asynccontextmanager
    async def subscriber(self, channel: Channel) -> AsyncIterator[Subscriber]:
        async with self.endpoint() as endpoint:
            tasks = _Tasks()
            try:
                yield _Subscriber(endpoint, tasks)
            finally:
                await tasks.aclose()

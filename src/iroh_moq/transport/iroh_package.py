"""The transport over a connection of the `iroh` package, on the package's own calls.

The package keeps a lock per stream: a call waits while another on the same half is under way, so
`reset`, `stop` and a new priority take their turn behind a write that is blocked unless that write
was cancelled first. Writes therefore go out in pieces of `_PIECE` bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from iroh import BiStream, Connection, IrohError
from iroh import RecvStream as IrohRecv
from iroh import SendStream as IrohSend

from ..aio import TaskScope
from ..errors import SessionError
from . import codes
from .base import READ_SIZE, Buffer, RecvStream, SendStream, StreamStopped
from .iroh_base import IrohTransport
from .iroh_bytes import write_all

__all__ = ["PackageTransport"]

_PIECE = 256 * 1024

_AT_ONCE = 16 * 1024
"""Bytes that the connection nearly always takes at once."""

_FIRST_READ = 16 * 1024
"""Bytes that a read asks the package for, which sets so much memory aside for as long as the read waits.
Only where that was filled does the next one ask for more."""

_SETTLE_TURNS = 8
"""Turns of the loop after which a call that the package could answer at once has been answered.

It takes three: the callback is queued, it sets a future, that wakes the caller.
"""

_LOOK_AGAIN = 0.001
"""Seconds until it is looked at again whether somebody accepts."""

T = TypeVar("T")


class _Kept(Generic[T]):
    """A call of the package that outlives its caller: where that is cancelled, the next one gets the outcome.

    The package has taken bytes or a stream off the connection one turn of the loop before its call
    returns, and throws them away if the task is cancelled between the two.
    """

    __slots__ = ("_call", "_task")

    def __init__(self, call: Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]]) -> None:
        self._call = call
        self._task: asyncio.Task[T] | None = None

    async def outcome(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the call returns or raises, or the one that a cancelled caller has left behind."""
        task = self._task
        if task is None:
            task = self._task = self._call(call())
        if not task.done():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            task.add_done_callback(partial(_wake, waiter))
            await waiter
        self._task = None
        return task.result()

    def give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _wake(waiter: asyncio.Future[None], _: asyncio.Task[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Send(SendStream):
    def __init__(self, handle: IrohSend, transport: PackageTransport) -> None:
        self._handle = handle
        self._transport = transport
        self._priority: int | None = None
        self._rest: list[Buffer] = []
        self._written = False
        self._over = False
        self._fate: asyncio.Task[int | None] | None = None

    def write_nowait(self, *data: Buffer) -> bool:
        if self._rest:
            raise RuntimeError("a write on this stream is under way: await flushed() first")
        self._rest = [each for each in data if len(each)]
        return not self._rest

    async def flushed(self) -> None:
        try:
            if self._priority is not None:
                if sum(map(len, self._rest)) > _AT_ONCE:
                    await self._apply_priority()
                else:
                    # Behind the write, which it must not hold up; it is in time for what waits in the connection.
                    self._transport._later(self._apply_priority(), "priority")
            self._written = True
            for piece in _pieces(self._rest):
                await write_all(self._handle, piece)
        except IrohError as error:
            raise self._transport._error(error) from error
        self._rest = []

    async def _apply_priority(self) -> None:
        if self._priority is not None:
            priority, self._priority = self._priority, None
            await self._handle.set_priority(priority)

    def finish(self) -> None:
        if not self._over:
            self._fate = self._transport._call(self._finish())

    async def _finish(self) -> int | None:
        """Finishes the stream, and waits until all has arrived or the peer has stopped it, with what code."""
        await self._handle.finish()
        return await self._handle.stopped()

    def acknowledged(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._over and self._fate is None:
            self._settle(future, StreamStopped(0))
            return future
        if self._fate is None:
            self._fate = self._transport._call(self._handle.stopped())
        self._fate.add_done_callback(partial(self._decided, future))
        return future

    def _decided(self, future: asyncio.Future[None], fate: asyncio.Task[int | None]) -> None:
        self._over = True
        if fate.cancelled():
            self._settle(future, StreamStopped(0))
        elif isinstance(error := fate.exception(), IrohError):
            self._settle(future, self._transport._error(error))
        else:
            code = fate.result()
            self._settle(future, None if code is None else StreamStopped(codes.from_wire(code)))

    @staticmethod
    def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            # Whoever still wants to know can ask; nobody may.
            future.exception()

    def reset(self, code: int) -> None:
        if not self._over:
            self._over = True
            if self._fate is not None:
                # It would keep its lock on the stream.
                self._fate.cancel()
            self._transport._later(self._handle.reset(codes.to_wire(code)), "reset")

    def set_priority(self, priority: int) -> None:
        if not self._over:
            self._priority = priority
            if self._written:
                # No further write may come to carry it along.
                self._transport._later(self._apply_priority(), "priority")


def _pieces(data: list[Buffer]) -> Iterator[bytes]:
    """The buffers as few calls: small ones joined, large ones cut."""
    if sum(map(len, data)) <= _PIECE:
        yield data[0] if len(data) == 1 and type(data[0]) is bytes else b"".join(data)
        return
    for each in data:
        view = memoryview(each)
        for start in range(0, len(view), _PIECE):
            yield bytes(view[start : start + _PIECE])


class _Recv(RecvStream):
    def __init__(self, handle: IrohRecv, transport: PackageTransport) -> None:
        self._handle = handle
        self._transport = transport
        self._reading: _Kept[bytes] = _Kept(transport._call)
        self._rest = b""
        self._over = False
        self._asks = _FIRST_READ

    def read_nowait(self, limit: int = READ_SIZE) -> bytes | None:
        if self._over:
            return b""
        if self._rest:
            data, self._rest = self._rest[:limit], self._rest[limit:]
            return data
        return None

    async def read(self, limit: int = READ_SIZE) -> bytes:
        if self._over:
            return b""
        data = self._rest
        if not data:
            try:
                asks = min(limit, self._asks)
                data = await self._reading.outcome(lambda: self._handle.read(asks))
                self._asks = min(2 * self._asks, READ_SIZE) if len(data) >= asks else _FIRST_READ
            except IrohError as error:
                self._over = True
                raise self._transport._error(error) from error
            if not data:
                self._over = True
        # Over the limit only if the read is one that was left behind.
        data, self._rest = data[:limit], data[limit:]
        return data

    def stop(self, code: int) -> None:
        if not self._over:
            self._over = True
            self._rest = b""
            self._reading.give_up()
            self._transport._later(self._handle.stop(codes.to_wire(code)), "stop")


class PackageTransport(IrohTransport):
    """One iroh connection."""

    def __init__(self, connection: Connection, bi_streams: int | None = None, uni_streams: int | None = None) -> None:
        super().__init__(connection, bi_streams, uni_streams)
        self._tasks = TaskScope(f"iroh {self._remote.fmt_short()}")
        self._calls: set[asyncio.Future[Any]] = set()
        self._accepting_bi: _Kept[BiStream] = _Kept(self._call)
        self._accepting_uni: _Kept[IrohRecv] = _Kept(self._call)
        self._receiving: _Kept[bytes] = _Kept(self._call)
        self._accepting = False
        self._accepted = 0
        self._watch = self._tasks.spawn(self._watch_close(), "watch for the end")

    async def open_bi(self) -> tuple[SendStream, RecvStream]:
        try:
            return self._halves(await self._connection.open_bi())
        except IrohError as error:
            raise self._error(error) from error

    async def open_uni(self) -> SendStream:
        try:
            return _Send(await self._connection.open_uni(), self)
        except IrohError as error:
            raise self._error(error) from error

    def open_uni_nowait(self) -> SendStream | None:
        return None

    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        try:
            return self._halves(await self._accepting_bi.outcome(self._connection.accept_bi))
        except IrohError as error:
            raise self._error(error) from error

    async def accept_uni(self) -> RecvStream:
        self._accepting = True
        try:
            stream = _Recv(await self._accepting_uni.outcome(self._connection.accept_uni), self)
        except IrohError as error:
            raise self._error(error) from error
        finally:
            self._accepting = False
        self._accepted += 1
        return stream

    def accept_uni_nowait(self) -> RecvStream | None:
        return None

    async def uni_settled(self) -> None:
        # A stream that has arrived has woken the pending accept already. If that stays pending
        # for more turns of the loop than an answer takes, there was none.
        idle = busy = 0
        while idle < _SETTLE_TURNS and self._close_error is None:
            accepted = self._accepted
            # Whoever accepts may be holding the peer back, which takes longer than turns of the loop.
            await asyncio.sleep(0 if self._accepting or busy < _SETTLE_TURNS else _LOOK_AGAIN)
            busy = 0 if self._accepting else busy + 1
            idle = idle + 1 if self._accepting and accepted == self._accepted else 0

    def send_datagram(self, data: Buffer) -> None:
        try:
            self._connection.send_datagram(bytes(data))
        except IrohError as error:
            raise self._error(error) from error

    async def read_datagram(self) -> bytes:
        try:
            return await self._receiving.outcome(self._connection.read_datagram)
        except IrohError as error:
            raise self._error(error) from error

    def _close_connection(self, code: int, reason: bytes) -> None:
        self._connection.close(code, reason)

    async def closed(self) -> SessionError:
        if self._close_error is None:
            await asyncio.wait([self._watch])
        return self._close_error or SessionError(None, "closed", local=True)

    async def aclose(self) -> None:
        await self._tasks.join()
        while self._calls:
            await asyncio.wait(self._calls)

    def _halves(self, stream: BiStream) -> tuple[SendStream, RecvStream]:
        return _Send(stream.send(), self), _Recv(stream.recv(), self)

    async def _watch_close(self) -> None:
        self._lost(await self._connection.closed())

    def _call(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A call that ends with the connection at the latest, for someone who may ask for its outcome."""
        task = asyncio.get_running_loop().create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._called)
        return task

    def _called(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            # There may be nobody who asks.
            task.exception()

    def _later(self, call: Awaitable[None], name: str) -> None:
        """Runs a call whose outcome nobody waits for, such as a reset: it can only be too late."""
        self._tasks.spawn(_ignore_errors(call), name)


async def _ignore_errors(call: Awaitable[None]) -> None:
    try:
        await call
    except IrohError:
        return

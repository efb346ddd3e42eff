"""The transport over a connection of the `iroh` package, on the package's own calls.

The package keeps a lock per stream: a call waits while another on the same half is under way, so
`reset`, `stop` and a new priority take their turn behind a write that is blocked unless that write
was cancelled first. Writes therefore go out in pieces of `_PIECE` bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from iroh import BiStream, Connection, EndpointId, IrohError
from iroh import RecvStream as IrohRecv
from iroh import SendStream as IrohSend

from ..aio import TaskScope
from ..errors import SessionError
from . import codes
from .base import (
    READ_SIZE,
    Buffer,
    ConnectionLost,
    PathStats,
    RecvStream,
    SendStream,
    StreamStopped,
    Transport,
    TransportError,
    TransportStats,
)
from .iroh_bytes import write_all
from .iroh_errors import session_error, transport_error

__all__ = ["IrohTransport"]

_PIECE = 256 * 1024
_MAX_STREAMS = 1024
"""Streams a peer may have open in each direction; the package's default of 100 starves many tracks."""

_SETTLE_TURNS = 8
"""Turns of the loop after which a call that the package could answer at once has been answered.

It takes three: the callback is queued, it sets a future, that wakes the caller.
"""


T = TypeVar("T")


class _Kept(Generic[T]):
    """A call of the package that outlives its caller: where that is cancelled, the next one gets the outcome.

    The package has taken bytes or a stream off the connection one turn of the loop before its call
    returns, and throws them away if the task is cancelled between the two.
    """

    __slots__ = ("_calls", "_task")

    def __init__(self, calls: set[asyncio.Future[Any]]) -> None:
        self._calls = calls
        self._task: asyncio.Task[T] | None = None

    async def outcome(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the call returns or raises, or the one that a cancelled caller has left behind."""
        task = self._task
        if task is None:
            task = self._task = asyncio.get_running_loop().create_task(call())
            self._calls.add(task)
            task.add_done_callback(self._done)
        if not task.done():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            task.add_done_callback(partial(_wake, waiter))
            await waiter
        self._task = None
        return task.result()

    def give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _done(self, task: asyncio.Task[T]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            # There may be nobody who asks.
            task.exception()


def _wake(waiter: asyncio.Future[None], _: asyncio.Task[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Send(SendStream):
    def __init__(self, handle: IrohSend, transport: IrohTransport) -> None:
        self._handle = handle
        self._transport = transport
        self._priority: int | None = None
        self._written = False
        self._over = False

    async def write(self, data: Buffer) -> None:
        try:
            await self._apply_priority()
            self._written = True
            if len(data) <= _PIECE:
                await write_all(self._handle, data if type(data) is bytes else bytes(data))
            else:
                view = memoryview(data)
                for start in range(0, len(data), _PIECE):
                    await self._apply_priority()
                    await write_all(self._handle, bytes(view[start : start + _PIECE]))
        except IrohError as error:
            raise self._transport._error(error) from error

    async def _apply_priority(self) -> None:
        if self._priority is not None:
            priority, self._priority = self._priority, None
            await self._handle.set_priority(priority)

    async def finish(self) -> None:
        try:
            await self._handle.finish()
        except IrohError as error:
            raise self._transport._error(error) from error

    async def acknowledged(self) -> None:
        try:
            code = await self._handle.stopped()
        except IrohError as error:
            raise self._transport._error(error) from error
        self._over = True
        if code is not None:
            raise StreamStopped(codes.from_wire(code))

    def reset(self, code: int) -> None:
        if not self._over:
            self._over = True
            self._transport._later(self._handle.reset(codes.to_wire(code)), "reset")

    def set_priority(self, priority: int) -> None:
        if not self._over:
            self._priority = priority
            if self._written:
                # No further write may come to carry it along.
                self._transport._later(self._apply_priority(), "priority")


class _Recv(RecvStream):
    def __init__(self, handle: IrohRecv, transport: IrohTransport) -> None:
        self._handle = handle
        self._transport = transport
        self._reading: _Kept[bytes] = _Kept(transport._calls)
        self._rest = b""
        self._over = False

    async def read(self, limit: int = READ_SIZE) -> bytes:
        if self._over:
            return b""
        data = self._rest
        if not data:
            try:
                data = await self._reading.outcome(lambda: self._handle.read(limit))
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


class IrohTransport(Transport):
    """One iroh connection. Must be made while a loop runs, for it watches for the end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._remote = connection.remote_id()
        self._close_error: SessionError | None = None
        self._tasks = TaskScope(f"iroh {self._remote.fmt_short()}")
        self._calls: set[asyncio.Future[Any]] = set()
        self._accepting_bi: _Kept[BiStream] = _Kept(self._calls)
        self._accepting_uni: _Kept[IrohRecv] = _Kept(self._calls)
        self._accepting = False
        self._accepted = 0
        self._uni_streams = 0
        self.allow_uni_streams(_MAX_STREAMS)
        connection.set_max_concurrent_bi_streams(_MAX_STREAMS)
        self._watch = self._tasks.spawn(self._watch_close(), "watch for the end")

    @property
    def remote_id(self) -> EndpointId:
        return self._remote

    @property
    def connection(self) -> Connection:
        return self._connection

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

    def allow_uni_streams(self, more: int) -> None:
        self._uni_streams += more
        self._connection.set_max_concurrent_uni_streams(self._uni_streams)

    async def uni_settled(self) -> None:
        # A stream that has arrived has woken the pending accept already. If that stays pending
        # for more turns of the loop than an answer takes, there was none.
        idle = 0
        while idle < _SETTLE_TURNS and self._close_error is None:
            accepted = self._accepted
            await asyncio.sleep(0)
            idle = idle + 1 if self._accepting and accepted == self._accepted else 0

    def close(self, code: int, reason: str) -> None:
        if self._close_error is None:
            self._close_error = SessionError(code, reason, local=True)
            self._connection.close(code, reason.encode())

    async def closed(self) -> SessionError:
        if self._close_error is None:
            await asyncio.wait([self._watch])
        return self._close_error or SessionError(None, "closed", local=True)

    @property
    def close_error(self) -> SessionError | None:
        return self._close_error

    def stats(self) -> TransportStats:
        totals = self._connection.stats()
        return TransportStats(
            sent_bytes=totals.udp_tx_bytes,
            received_bytes=totals.udp_rx_bytes,
            sent_packets=totals.udp_tx_datagrams,
            received_packets=totals.udp_rx_datagrams,
            lost_packets=totals.lost_packets,
            paths=tuple(
                PathStats(
                    remote=path.remote_addr,
                    selected=path.is_selected,
                    relayed=path.is_relay,
                    # The package counts whole milliseconds; a path of less than one is not instant.
                    rtt=max(path.rtt_ms, 0.5) / 1000,
                    congestion_window=path.stats.cwnd,
                    mtu=path.stats.current_mtu,
                    lost_packets=path.stats.lost_packets,
                    sent_packets=path.stats.udp_tx_datagrams,
                )
                for path in self._connection.paths()
            ),
        )

    async def aclose(self) -> None:
        await self._tasks.join()
        while self._calls:
            await asyncio.wait(self._calls)

    def _halves(self, stream: BiStream) -> tuple[SendStream, RecvStream]:
        return _Send(stream.send(), self), _Recv(stream.recv(), self)

    async def _watch_close(self) -> None:
        text = await self._connection.closed()
        if self._close_error is None:
            self._close_error = session_error(text)

    def _error(self, error: IrohError) -> TransportError:
        result = transport_error(error, self._close_error)
        if isinstance(result, ConnectionLost) and self._close_error is None:
            self._close_error = result.error
        return result

    def _later(self, call: Awaitable[None], name: str) -> None:
        """Runs a call whose outcome nobody waits for, such as a reset: it can only be too late."""
        self._tasks.spawn(_ignore_errors(call), name)


async def _ignore_errors(call: Awaitable[None]) -> None:
    try:
        await call
    except IrohError:
        return

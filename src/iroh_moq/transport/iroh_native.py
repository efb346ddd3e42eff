"""The transport over a connection of the `iroh` package, on the native driver."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from iroh import Connection

from ..errors import SessionError
from . import codes
from .base import Buffer, RecvStream, SendStream, StreamStopped
from .iroh_base import IrohTransport

if TYPE_CHECKING:
    from . import _driver

__all__ = ["NativeTransport", "driver_of"]

_TURNS = 64
_LOOK_AGAIN = 0.001
"""After how many turns of the loop it is looked at only every so many seconds whether all has been accepted."""

_drivers: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Any]] = WeakKeyDictionary()
"""The loop itself keeps its driver; what waits in that knows the loop, which else would never go."""


def driver_of(loop: asyncio.AbstractEventLoop, module: ModuleType) -> _driver.Driver:
    """The one driver of a loop, which lives as long as that."""
    known = _drivers.get(loop)
    driver: _driver.Driver | None = None if known is None else known()
    if driver is None:
        driver = module.Driver(loop)
        _drivers[loop] = ref(driver)
        SendStream.register(module.SendStream)
        RecvStream.register(module.RecvStream)
    return driver


class NativeTransport(IrohTransport):
    """One iroh connection. Its streams are the driver's own."""

    def __init__(
        self,
        connection: Connection,
        module: ModuleType,
        bi_streams: int | None = None,
        uni_streams: int | None = None,
    ) -> None:
        super().__init__(connection, bi_streams, uni_streams)
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        handle: Any = connection
        self._native: _driver.Connection = module.Connection(
            driver_of(loop, module),
            handle._uniffi_clone_handle(),
            closed=self._ended,
            error=self._error_of,
            stopped=_stopped,
            abandoned=_abandoned,
            to_wire=codes.to_wire,
        )
        # The driver's own methods: nothing between the caller and them.
        self.open_uni_nowait = self._native.open_uni_nowait  # type: ignore[method-assign]
        self.accept_uni_nowait = self._native.accept_uni_nowait  # type: ignore[method-assign]

    def _ended(self, text: str) -> None:
        self._lost(text)
        if not self._over.done():
            self._over.set_result(None)

    async def open_bi(self) -> tuple[SendStream, RecvStream]:
        return await self._native.open_bi()

    async def open_uni(self) -> SendStream:
        return await self._native.open_uni()

    def open_uni_nowait(self) -> SendStream | None:
        return self._native.open_uni_nowait()

    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        return await self._native.accept_bi()

    async def accept_uni(self) -> RecvStream:
        return await self._native.accept_uni()

    def accept_uni_nowait(self) -> RecvStream | None:
        return self._native.accept_uni_nowait()

    async def uni_settled(self) -> None:
        # A stream that has arrived has woken the pending accept before anything that came after it.
        # Until that waits again, somebody is at work on what has come.
        turns = 0
        while not self._native.accept_is_idle and self._close_error is None:
            # Whoever accepts may be holding the peer back, which takes longer than turns of the loop.
            await asyncio.sleep(_LOOK_AGAIN if turns > _TURNS else 0)
            turns += 1

    def send_datagram(self, data: Buffer) -> None:
        self._native.send_datagram(data)

    async def read_datagram(self) -> bytes:
        return await self._native.read_datagram()

    def _close_connection(self, code: int, reason: bytes) -> None:
        self._native.close(code, reason)

    async def closed(self) -> SessionError:
        if self._close_error is None:
            await asyncio.wait((self._over,))
        return self._close_error or SessionError(None, "closed", local=True)

    async def aclose(self) -> None:
        if not self._over.done():
            await asyncio.wait((self._over,))
        self._native.give_up()


def _stopped(code: int) -> StreamStopped:
    return StreamStopped(codes.from_wire(code))


def _abandoned() -> StreamStopped:
    # Ours, and abandoned by us: nobody wants what it carried.
    return StreamStopped(0)

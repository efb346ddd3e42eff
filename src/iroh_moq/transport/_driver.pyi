"""What the native driver offers; see `_driver.pyx`."""

import asyncio
from collections.abc import Callable, Sequence

from . import base

FUNCTIONS: Sequence[str]
CHECKSUMS: dict[str, int]
CONTRACT: int
PROGRESS: int
"""The address of the function to which the library reports."""

def bind(addresses: Sequence[int]) -> None:
    """Takes the addresses of `FUNCTIONS`, in their order."""

def counted_calls() -> int:
    """How many operations of the library were ever started."""

def package_waits(loop: asyncio.AbstractEventLoop, future: asyncio.Future[int]) -> int:
    """Has a future told what the library will report to `PROGRESS` for one of the package's own calls, and returns the
    number that goes with that."""

class Driver:
    """The operations of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    @property
    def wakeups(self) -> int:
        """How often the loop was woken."""
    @property
    def reports(self) -> int:
        """How many reports of operations it was woken for."""
    def pending(self) -> int:
        """How many operations are under way."""

class SendStream(base.SendStream):
    """The sending half of a stream."""

    def write_nowait(self, *data: base.Buffer) -> bool: ...
    async def flushed(self) -> None: ...
    def finish(self) -> None: ...
    def acknowledged(self) -> asyncio.Future[None]: ...
    def when_over(self, call: Callable[[], object]) -> None: ...
    def reset(self, code: int) -> None: ...
    def set_priority(self, priority: int) -> None: ...

class RecvStream(base.RecvStream):
    """The receiving half of a stream."""

    def read_nowait(self, limit: int = ...) -> base.Received | None: ...
    async def read(self, limit: int = ...) -> base.Received: ...
    def stop(self, code: int) -> None: ...

class Connection:
    """The streams of one connection, for the loop that runs when it is made."""

    def __init__(
        self,
        driver: Driver,
        handle: int,
        *,
        closed: Callable[[str], None],
        error: Callable[[str], Exception],
        stopped: Callable[[int], Exception],
        abandoned: Callable[[], Exception],
        to_wire: Callable[[int], int],
    ) -> None: ...
    def open_uni_nowait(self) -> SendStream | None: ...
    async def open_uni(self) -> SendStream: ...
    async def open_bi(self) -> tuple[SendStream, RecvStream]: ...
    def accept_uni_nowait(self) -> RecvStream | None: ...
    async def accept_uni(self) -> RecvStream: ...
    async def accept_bi(self) -> tuple[SendStream, RecvStream]: ...
    @property
    def accept_is_idle(self) -> bool: ...
    def send_datagram(self, data: base.Buffer) -> None: ...
    async def read_datagram(self) -> bytes: ...
    def close(self, code: int, reason: bytes) -> None: ...
    def give_up(self) -> None: ...

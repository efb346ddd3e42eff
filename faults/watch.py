"""What a loop is told of that nobody handled, what tasks fail, and how long it stands still."""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType
from typing import Any

__all__ = ["Watch"]

_TICK = 0.02


class Watch(logging.Handler):
    """While this is open (``async with``), all of it is noted."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.unseen: list[str] = []
        self.failed: list[str] = []
        self.longest = 0.0
        """Seconds that the loop took at most for one turn."""
        self._ticking: asyncio.Task[None] | None = None

    def own(self) -> set[asyncio.Task[None] | None]:
        """The tasks that belong here: its own, and the one that asks."""
        return {self._ticking, asyncio.current_task()}

    def emit(self, record: logging.LogRecord) -> None:
        """A task of the library has failed."""
        error = record.exc_info[1] if record.exc_info else None
        self.failed.append(f"{record.getMessage()}: {error!r}")

    def _unseen(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unseen.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            self.longest = max(self.longest, time.monotonic() - due)

    async def __aenter__(self) -> Watch:
        asyncio.get_running_loop().set_exception_handler(self._unseen)
        logging.getLogger("iroh_moq.tasks").addHandler(self)
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().set_exception_handler(None)
        logging.getLogger("iroh_moq.tasks").removeHandler(self)
        if self._ticking is not None:
            self._ticking.cancel()

"""A process that was started here: what it says, and how it ends, which it always does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Process"]

_ROOT = Path(__file__).parents[1]
_PATIENCE = 20.0


class Process:
    """A module of this suite, run as a program that says JSON objects, one to a line.

    As a context manager it is gone when the block is.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], inside: Sequence[str] = ()) -> None:
        self.name = name
        self.said: list[dict[str, Any]] = []
        self.complaints = ""
        self._command = [*inside, sys.executable, "-m", module, *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Condition()
        self._readers: list[asyncio.Task[None]] = []
        self._silent = False

    async def start(self) -> Process:
        """Starts it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (_ROOT / "src", _ROOT)))},
            # Ctrl-C is for the one who has started it, who ends it tidily.
            start_new_session=True,
        )
        self._readers = [asyncio.create_task(self._listen()), asyncio.create_task(self._complain())]
        return self

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with suppress(ValueError):
                self.said.append(json.loads(line))
            async with self._changed:
                self._changed.notify_all()
        self._silent = True
        async with self._changed:
            self._changed.notify_all()

    async def _complain(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(65536):
            self.complaints = (self.complaints + data.decode(errors="replace"))[-4000:]

    def tell(self, **values: Any) -> None:
        """Tells it something, a JSON object."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(values) + "\n").encode())

    def events(self, event: str) -> list[dict[str, Any]]:
        """What it has said of one kind."""
        return [each for each in self.said if each.get("event") == event]

    async def until(self, condition: Callable[[dict[str, Any]], bool], patience: float) -> dict[str, Any]:
        """Waits until it has said something.

        Raises:
            TimeoutError: it has not, in that time, or has ended without.
        """
        seen = 0
        async with asyncio.timeout(patience), self._changed:
            while True:
                for each in self.said[seen:]:
                    seen += 1
                    if condition(each):
                        return each
                if self._silent:
                    raise TimeoutError(f"{self.name} has ended: {self.complaints[-500:]}")
                await self._changed.wait()

    async def until_event(self, event: str, patience: float) -> dict[str, Any]:
        """Waits until it has said something of that kind."""
        return await self.until(lambda each: each.get("event") == event, patience)

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        with suppress(ProcessLookupError):
            assert self._process is not None
            self._process.send_signal(number)

    async def kill(self) -> None:
        """Kills it."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, patience: float = _PATIENCE) -> int:
        """Waits for its end, kills it if that does not come, and returns its exit code."""
        assert self._process is not None
        try:
            async with asyncio.timeout(patience):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        await asyncio.wait(self._readers)
        return code

    async def __aenter__(self) -> Process:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self.ended()

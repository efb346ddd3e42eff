"""A peer as a process that is spoken to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any

from .lines import LIMIT

__all__ = ["PATIENCE", "PeerError", "PeerGone", "PeerProcess"]

PATIENCE = 30.0
"""Seconds that any command may take that does not say otherwise."""

ROOT = Path(__file__).parents[2]


class PeerError(Exception):
    """A peer could not do what it was told to."""

    def __init__(self, do: str, kind: str, code: int | None, text: str) -> None:
        super().__init__(f"{do}: {text}")
        self.kind = kind
        self.code = code
        self.text = text


class PeerGone(Exception):
    """The process has ended."""


class PeerProcess:
    """A running peer. Commands can be under way at the same time."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, command: list[str], environment: dict[str, str], name: str) -> PeerProcess:
        """Starts one."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LIMIT,
            cwd=ROOT,
            env=os.environ | environment,
        )
        return cls(process, name)

    @property
    def is_running(self) -> bool:
        """Whether it can still be spoken to."""
        return not self._listening.done()

    async def call(self, do: str, *, patience: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        """Has the peer carry out a command, and gives its answer.

        Raises:
            PeerError: the peer says that it went wrong.
            PeerGone: the process has ended.
            TimeoutError: no answer within the patience.
        """
        return await self.begin(do, patience=patience, **arguments)

    def begin(self, do: str, *, patience: float = PATIENCE, **arguments: Any) -> asyncio.Task[dict[str, Any]]:
        """The same, without waiting for the answer."""
        number = next(self._numbers)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if not self.is_running:
            raise PeerGone(self.name)
        self._waiting[number] = reply
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        return asyncio.get_running_loop().create_task(self._reply(do, number, reply, patience))

    async def _reply(
        self, do: str, number: int, reply: asyncio.Future[dict[str, Any]], patience: float
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(patience):
                answer = await reply
        except TimeoutError:
            raise TimeoutError(f"{self.name}: no answer to {do!r} within {patience:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise PeerError(f"{self.name}: {do}", **answer["error"])
        return dict(answer["ok"])

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            reply = self._waiting.get(answer["id"])
            if reply is not None and not reply.done():
                reply.set_result(answer)
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(PeerGone(self.name))

    def pause(self) -> None:
        """Stops the process where it is: it falls silent."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Ends it without a farewell, whatever its state."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._listening

    async def end(self) -> None:
        """Ends it in good order; kills it if that takes long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
                await self._listening
        except TimeoutError:
            await self.kill()

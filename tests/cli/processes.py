"""Runs the command as its users do: processes of its own, on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import termios
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner, Result
from iroh import SecretKey

from iroh_moq.cli import main
from tests.examples.programs import PATIENCE, interruptible

LOOPBACK = ("--network", "loopback")

STRANGER = str(SecretKey.generate().public())
"""The id of nobody."""


@dataclass(frozen=True)
class Ended:
    """How a process has ended, and what it said that nobody had read before."""

    code: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        return self.output.decode()

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON that a subscriber leaves on standard error, behind the stream."""
        summary: dict[str, Any] = json.loads(self.errors.splitlines()[0])
        return summary


class Process:
    """A command that runs."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        async with asyncio.timeout(PATIENCE):
            await self._process.stdin.drain()

    async def read(self, size: int) -> bytes:
        """So many bytes of its output."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return await self._process.stdout.readexactly(size)

    async def line(self) -> str:
        """The next line of its output."""
        assert self._process.stdout is not None
        return await self._read_line(self._process.stdout)

    async def error_line(self) -> str:
        """The next line that it says to people."""
        assert self._process.stderr is not None
        return await self._read_line(self._process.stderr)

    async def json(self) -> dict[str, Any]:
        """The next line of its output, as JSON."""
        event: dict[str, Any] = json.loads(await self.line())
        return event

    async def ends(self, data: bytes = b"") -> Ended:
        """Writes the rest of its input, reads the rest of its output, and waits for its end."""
        try:
            async with asyncio.timeout(PATIENCE):
                output, errors = await self._process.communicate(data if self._process.stdin else None)
        except TimeoutError:
            raise AssertionError(f"{self._name} does not end") from None
        said = (errors or b"").decode().splitlines(keepends=True)
        # On a busy machine anything may take long enough to be mentioned.
        said = [line for line in said if not line.startswith(("connecting to ", "waiting for broadcast "))]
        ended = Ended(self._process.returncode or 0, output or b"", "".join(said))
        assert "Traceback" not in ended.errors, ended.errors
        assert "Warning" not in ended.errors, ended.errors
        return ended

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    async def _read_line(self, stream: asyncio.StreamReader) -> str:
        async with asyncio.timeout(PATIENCE):
            line = await stream.readline()
        if not line:
            ended = await self.ends()
            raise AssertionError(f"{self._name} ended with {ended.code} and said no more than:\n{ended.errors}")
        return line.decode().rstrip("\n")


@asynccontextmanager
async def started(
    *arguments: str,
    stdin: int = PIPE,
    stdout: int = PIPE,
    stderr: int = PIPE,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Process]:
    """A command that runs until the end of the block at the latest."""
    with interruptible():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "default", "-m", "iroh_moq", *arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "TERM": "xterm", **(environment or {})},
        )
    running = Process(" ".join(arguments), process)
    try:
        yield running
    finally:
        await running.kill()


async def finished(*arguments: str, data: bytes = b"", environment: Mapping[str, str] | None = None) -> Ended:
    """The outcome of a command with that input."""
    async with started(*arguments, environment=environment) as process:
        return await process.ends(data)


@asynccontextmanager
async def publishing(
    *arguments: str, stdin: int = PIPE, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Process, str]]:
    """A publisher on loopback, and its ticket."""
    async with started("publish", *LOOPBACK, "--json", *arguments, stdin=stdin, environment=environment) as publisher:
        yield publisher, (await publisher.json())["ticket"]


def invoked(*arguments: str) -> Result:
    """The outcome of a command in this process: quicker, for what ends before anything runs."""
    return CliRunner().invoke(main, arguments, prog_name="iroh-moq")


def assert_wrong_usage(complaint: str, *arguments: str) -> None:
    """The command tells what is wrong with its arguments, and does nothing."""
    ended = invoked(*arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    # click wraps long lines.
    assert complaint in " ".join(ended.stderr.split())


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe, the first of which the block may close."""
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(write)
        with suppress(OSError):
            os.close(read)


class Terminal:
    """A terminal of 80 by 24 that programs can write to, and a person who reads it."""

    def __init__(self) -> None:
        self._master, self.descriptor = os.openpty()
        termios.tcsetwinsize(self.descriptor, (24, 80))
        self._shown = ""

    async def shows(self, pattern: str) -> re.Match[str]:
        """Reads on until what has come up since the last match matches."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (match := re.search(pattern, self._shown, re.DOTALL)) is None:
                    await self._readable()
                    self._shown += os.read(self._master, 65536).decode(errors="replace")
        except TimeoutError:
            raise AssertionError(f"{pattern!r} does not come up, only: {self._shown!r}") from None
        self._shown = self._shown[match.end() :]
        return match

    async def _readable(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._master, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._master)
        os.close(self.descriptor)


async def subscribed(ticket: str, *arguments: str) -> Ended:
    """The outcome of a subscriber on loopback."""
    return await finished("subscribe", *LOOPBACK, ticket, *arguments)

"""Runs an example as its users do: a process of its own, of which only the output is seen."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

PATIENCE = 15.0
"""Seconds that anything which must happen may take on a busy machine."""

_CLEAN_EXITS = (0, 128 + signal.SIGINT)


class Program:
    """A running example. What it says, on either stream, is read line by line."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._said: list[str] = []

    async def says(self, pattern: str) -> re.Match[str]:
        """Reads on until a line matches."""
        async with self._must(pattern):
            while True:
                if match := re.search(pattern, await self._line()):
                    return match

    async def has_said(self, *patterns: str) -> None:
        """Reads on until there has been a line for each of the patterns, at any time and in any order."""
        for pattern in patterns:
            if not re.search(pattern, self.output, re.MULTILINE):
                await self.says(pattern)

    async def ticket(self) -> str:
        """The ticket in the command that the example prints for the other side."""
        command = await self.says(r"--network loopback (?:NICK )?(?P<ticket>endpoint\w+)$")
        return command["ticket"]

    def type(self, line: str) -> None:
        """Types a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def end_input(self) -> None:
        """Types Ctrl-D."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    async def interrupt(self) -> None:
        """Types Ctrl-C, which ends it cleanly."""
        self.signal(signal.SIGINT)
        code = await self.ends()
        assert code in _CLEAN_EXITS, f"{self.name} ended with {code}:\n{self.output}"

    async def ends(self) -> int:
        """Waits for its end, which must leave nothing to complain about, and returns its exit code."""
        async with self._must("goodbye"):
            with suppress(EOFError):
                while True:
                    await self._line()
            code = await self._process.wait()
        assert not re.search("Traceback|Warning|Fatal", self.output), self.output
        return code

    async def kill(self) -> None:
        """Ends it the hard way, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        # Reads the pipe to its end, so that it gets closed.
        await self._process.communicate()

    @property
    def output(self) -> str:
        """Everything read so far."""
        return "\n".join(self._said)

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError
        self._said.append(line.decode().rstrip())
        return self._said[-1]

    @asynccontextmanager
    async def _must(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except (TimeoutError, EOFError) as error:
            fate = "ended" if isinstance(error, EOFError) else "goes on"
            raise AssertionError(f"{self.name} {fate} without {what!r}, it only said:\n{self.output}") from None


@asynccontextmanager
async def running(
    name: str, *arguments: str, network: str | None = "loopback", environment: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """An example that runs until the end of the block at the latest, with these changes to the environment."""
    with interruptible():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-X", "dev"),
            str(EXAMPLES / f"{name}.py"),
            *(("--network", network) if network else ()),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    program = Program(" ".join((name, *arguments)), process)
    try:
        yield program
    finally:
        await program.kill()


@contextmanager
def interruptible() -> Iterator[None]:
    """Processes started here hear of Ctrl-C, even where a shell started the tests in its background.

    Such a shell has its children ignore it, and theirs inherit that.
    """
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

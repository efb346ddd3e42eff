"""What the commands write: the bytes of streams, lines of text or JSON, and sums of what has passed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import click

from .blocking import Worker, write_all
from .text import duration, rate, size

__all__ = ["Meter", "Output", "progress", "say"]


def say(line: str) -> None:
    """A line for people, on standard error."""
    click.echo(line, err=True)


class Output:
    """Standard output, or a file that is written anew. A context manager.

    Nothing is buffered: what was written has been handed to the system.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            if sys.stdout is None:
                raise OSError("standard output is closed")
            self._descriptor = sys.stdout.fileno()
        else:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        self._owned = path is not None
        self._worker = Worker("output")

    async def write(self, data: bytes) -> None:
        """Writes everything, and waits as long as the reader takes.

        Raises:
            BrokenPipeError: the reader has gone.
            OSError: it cannot be written.
        """
        await self._worker.run(partial(write_all, self._descriptor, data))

    async def line(self, text: str) -> None:
        """Writes a line of text."""
        await self.write(f"{text}\n".encode(errors="replace"))

    async def json(self, **fields: Any) -> None:
        """Writes a JSON object on a line of its own."""
        await self.line(json.dumps(fields))

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees it."""
        return os.isatty(self._descriptor)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        if self._owned:
            os.close(self._descriptor)


class Meter:
    """Counts what passes."""

    def __init__(self) -> None:
        self.groups = self.frames = self.bytes = 0
        self.began: float | None = None
        self.latest: float | None = None

    def add(self, frames: int, size: int) -> None:
        """Counts frames, of so many bytes together."""
        self.latest = time.monotonic()
        if self.began is None:
            self.began = self.latest
        self.frames += frames
        self.bytes += size

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return 0.0 if self.began is None or self.latest is None else self.latest - self.began

    @property
    def counts(self) -> dict[str, int]:
        """The totals."""
        return {"groups": self.groups, "frames": self.frames, "bytes": self.bytes}

    def __str__(self) -> str:
        speed = rate(self.bytes, self.seconds)
        groups = "1 group" if self.groups == 1 else f"{self.groups} groups"
        return f"{size(self.bytes)} in {groups}, {duration(self.seconds)}{speed}"


def progress(text: Callable[[], str], *, beside: bool) -> AbstractContextManager[None]:
    """Shows a text that keeps changing on standard error, if that is a terminal, while a block runs.

    Not if the bytes of a stream go to a terminal, or come from one, ``beside`` it.
    """
    if beside or sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    # Only here, as it would double the time in which --help answers.
    from .live import line  # noqa: PLC0415

    return line(text)

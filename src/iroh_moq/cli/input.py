"""Where a published track comes from: a file, or standard input."""

from __future__ import annotations

import os
import stat
import sys
from functools import partial

from .blocking import Worker, read_some
from .run import Exit, Failure

__all__ = ["STDIN", "Input", "is_regular_file"]

STDIN = "-"
"""Standard input, where a file is named."""

_READ_SIZE = 256 * 1024


class Input:
    """A file, pipe or device to read to its end. A context manager."""

    def __init__(self, path: str) -> None:
        if path == STDIN:
            if sys.stdin is None:
                raise Failure(Exit.USAGE, "standard input is closed: name a file with --file")
            self._descriptor = sys.stdin.fileno()
        else:
            self._descriptor = -1
        self._path = path
        self._start = 0
        self._worker = Worker(f"input {path}")

    async def open(self) -> None:
        """Opens it, which for a named pipe lasts until somebody opens the other end."""
        if self._descriptor < 0:
            self._descriptor = await self._worker.run(
                partial(os.open, self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            )
        if is_regular_file(self._path):
            # Standard input may have been read before.
            self._start = os.lseek(self._descriptor, 0, os.SEEK_CUR)

    async def rewind(self) -> None:
        """Goes back to where a regular file began."""
        await self._worker.run(partial(os.lseek, self._descriptor, self._start, os.SEEK_SET))

    async def read(self) -> bytes:
        """What there is, once there is something; empty at the end."""
        return await self._worker.run(partial(read_some, self._descriptor, _READ_SIZE))

    def __enter__(self) -> Input:
        return self

    def __exit__(self, *_: object) -> None:
        # The descriptor stays open until the process ends: a read may be under way on it.
        self._worker.close()


def is_regular_file(path: str) -> bool:
    """Whether all of it is there already, unlike what a pipe or a device brings."""
    try:
        mode = (os.fstat(sys.stdin.fileno()) if path == STDIN else os.stat(path)).st_mode
    except (OSError, AttributeError):
        return False
    return stat.S_ISREG(mode)

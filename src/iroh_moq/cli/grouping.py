"""How a stream of bytes becomes groups of frames. No I/O: bytes in, frames and ends of groups out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Protocol

from ..model import MAX_FRAME_SIZE
from .run import Exit, Failure

__all__ = ["GROUPING_HELP", "Grouping", "GroupingFactory", "Piece", "parse_grouping"]

GROUPING_HELP = """\b
How the input becomes groups. Who joins late starts with the latest group, and
who is slow skips whole groups, so a group should be of use on its own:
  lines[:N]    N lines (1), a frame each: logs, JSON lines
  chunks       what arrives at once, as one frame: any other live source
  bytes:N      N bytes (K, M, G): files and byte streams
  frames:N[xM] M frames (1) of N bytes each: raw audio and video
  framed       frames that each come after their length, 4 bytes big-endian,
               and a length of 0 after a group: programs with frames of their own
"""

Piece = bytes | None
"""A frame, or None for the end of a group."""

_MAX_PIECE = 1024 * 1024
"""A line longer than this becomes several frames."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SPEC = re.compile(r"(?P<kind>[a-z]+)(?::(?P<size>\d{1,18})(?P<unit>[kmg]?)(?:x(?P<count>\d{1,18}))?)?", re.IGNORECASE)


class Grouping(Protocol):
    """Cuts one stream."""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The frames and ends of groups that these bytes complete."""

    def end(self) -> Iterator[Piece]:
        """What the end of the stream completes."""


GroupingFactory = Callable[[], Grouping]


class _Chunks:
    def feed(self, data: bytes) -> Iterator[Piece]:
        yield data
        yield None

    def end(self) -> Iterator[Piece]:
        yield from ()


class _Bytes:
    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def feed(self, data: bytes) -> Iterator[Piece]:
        start = 0
        while start < len(data):
            frame = data[start : start + self._left]
            start += len(frame)
            self._left -= len(frame)
            yield frame
            if not self._left:
                self._left = self._size
                yield None

    def end(self) -> Iterator[Piece]:
        yield from ()


class _Lines:
    def __init__(self, count: int) -> None:
        self._count = self._left = count
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Piece]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            yield self._rest + line + b"\n"
            self._rest = b""
            self._left -= 1
            if not self._left:
                self._left = self._count
                yield None
        self._rest += rest
        if len(self._rest) > _MAX_PIECE:
            yield from self.end()

    def end(self) -> Iterator[Piece]:
        rest, self._rest = self._rest, b""
        if rest:
            yield rest


class _Frames:
    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self._count = self._left = count
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Piece]:
        self._rest += data
        start = 0
        while start + self._size <= len(self._rest):
            yield bytes(self._rest[start : start + self._size])
            start += self._size
            self._left -= 1
            if not self._left:
                self._left = self._count
                yield None
        del self._rest[:start]

    def end(self) -> Iterator[Piece]:
        if self._rest:
            yield bytes(self._rest)


class _Framed:
    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Piece]:
        self._rest += data
        start = 0
        while start + 4 <= len(self._rest):
            size = int.from_bytes(self._rest[start : start + 4])
            if size > MAX_FRAME_SIZE:
                raise Failure(
                    Exit.USAGE,
                    f"the input has a frame of {size} bytes, over {MAX_FRAME_SIZE}: is it --group framed?",
                )
            if start + 4 + size > len(self._rest):
                break
            yield bytes(self._rest[start + 4 : start + 4 + size]) if size else None
            start += 4 + size
        del self._rest[:start]

    def end(self) -> Iterator[Piece]:
        if self._rest:
            raise Failure(Exit.USAGE, "the input ended in the middle of a frame of --group framed")
        yield from ()


def parse_grouping(text: str) -> GroupingFactory:
    """What makes the groupings that a value of ``--group`` means.

    Raises:
        Failure: it means none.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is not None:
        size = None if match["size"] is None else int(match["size"]) * _UNITS[match["unit"].lower()]
        count = None if match["count"] is None else int(match["count"])
        if 0 not in (size, count):
            match match["kind"].lower(), size, count:
                case "chunks", None, None:
                    return _Chunks
                case "framed", None, None:
                    return _Framed
                case "lines", _, None:
                    return lambda: _Lines(size or 1)
                case "bytes", int(), None:
                    return lambda: _Bytes(size)
                case "frames", int(), _ if size <= MAX_FRAME_SIZE:
                    return lambda: _Frames(size, count or 1)
    raise Failure(
        Exit.USAGE,
        f"--group cannot be {text!r}; it is lines[:N], chunks, bytes:N, frames:N[xM] (N to 32M) or framed",
    )

"""A reliable transfer: what is sent, by a publisher that can begin again, and received, by a subscriber that can.

The content is made up from a seed, so that a publisher that is started again needs nothing but its
arguments, and groups of a fixed size, so that a subscriber that is started again sees from its file
what it has.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from iroh_moq import BroadcastConsumer, BroadcastProducer, Cache

__all__ = ["FILE", "Content", "Gap", "Gate", "digest_of", "offer", "take", "write"]

FILE = "file"
_FRAMES = 4
_EVERYTHING = Cache(max_bytes=1 << 30, max_age=float("inf"))


@dataclass(frozen=True)
class Content:
    """So many groups of so many bytes."""

    seed: int
    groups: int
    size: int

    def group(self, number: int) -> bytes:
        """The bytes of one group."""
        return random.Random(f"{self.seed}/{number}").randbytes(self.size)

    def digest(self) -> str:
        """The SHA-256 of all of it."""
        whole = sha256()
        for number in range(self.groups):
            whole.update(self.group(number))
        return whole.hexdigest()


def offer() -> BroadcastProducer:
    """A broadcast that keeps all of it, for whoever begins again."""
    return BroadcastProducer(cache=_EVERYTHING)


class Gate:
    """How many groups may be written by now."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._raised = asyncio.Event()

    def open(self) -> None:
        """Lets all others pass."""
        self._raised.set()

    async def passed(self, number: int) -> None:
        """Waits until a group may be written."""
        if number >= self._limit:
            await self._raised.wait()


async def write(content: Content, broadcast: BroadcastProducer, begun: float, pace: float, gate: Gate) -> None:
    """Writes the groups at their times: those that are due already, at once."""
    track = broadcast.create_track(FILE)
    for number in range(content.groups):
        await gate.passed(number)
        due = begun + number * pace - time.time()
        if due > 0:
            await asyncio.sleep(due)
        elif number % 16 == 0:
            await asyncio.sleep(0)
        data = content.group(number)
        part = -(-len(data) // _FRAMES)
        with track.append_group() as group:
            for start in range(0, len(data), part):
                group.write_frame(data[start : start + part])
    track.finish()


def digest_of(file: Path) -> str:
    """The SHA-256 of what has been received."""
    return sha256(file.read_bytes()).hexdigest()


def _opened(file: Path) -> BinaryIO:
    return file.open("r+b" if file.exists() else "w+b")


class Gap(Exception):
    """A group came that was not the next one: a defect, as all of it is reliable."""


async def take(content: Content, broadcast: BroadcastConsumer, file: Path, taken: Callable[[int], None]) -> None:
    """Appends the groups that are missing to the file, up to the end of the track.

    Raises:
        Error: the session or the track has ended before.
        Gap: something was skipped or came twice, or the track ended well too early.
    """
    with _opened(file) as out:
        done = out.seek(0, os.SEEK_END) // content.size
        # A group that was half written when the process was killed is written again.
        out.truncate(done * content.size)
        out.seek(0, os.SEEK_END)
        async with broadcast.subscribe_track(FILE, ordered=True, start_group=done) as track:
            async for group in track:
                data = await group.read_all()
                if group.sequence != done or len(data) != content.size:
                    raise Gap(f"group {group.sequence} of {len(data)} bytes where {done} was due")
                out.write(data)
                out.flush()
                done += 1
                taken(done)
    if done != content.groups:
        raise Gap(f"the track ended well after {done} of {content.groups} groups")

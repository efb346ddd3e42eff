"""Contenders that do the work badly, or tell of themselves; named ``module:class`` on the command line."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.channel import Channel
from benchmarks.contender import Publisher, Subscriber, TrackWriter, Window
from benchmarks.contenders.iroh_moq import IrohMoq

PIDS = "BENCHMARK_TEST_PIDS"
"""The environment variable that names the folder in which `Recorded` leaves its process ids."""


class _LossyTrack:
    def __init__(self, track: TrackWriter) -> None:
        self._track = track
        self._groups = 0

    async def write_group(self, frames: Sequence[bytes]) -> None:
        self._groups += 1
        await self._track.write_group(frames[:-1] if self._groups == 3 else frames)


class Lossy(IrohMoq):
    """Loses one frame."""

    @asynccontextmanager
    async def publisher(self, channel: Channel) -> AsyncIterator[Publisher]:
        async with super().publisher(channel) as publisher:
            publish = publisher.publish

            async def lossy(tracks: Sequence[str], window: Window, readers: int = 1) -> list[_LossyTrack]:
                return [_LossyTrack(track) for track in await publish(tracks, window, readers)]

            setattr(publisher, "publish", lossy)  # noqa: B010 - a method, of which only one object is to have another
            yield publisher


class Recorded(IrohMoq):
    """Leaves a file named after each of its processes."""

    @asynccontextmanager
    async def publisher(self, channel: Channel) -> AsyncIterator[Publisher]:
        _record()
        async with super().publisher(channel) as publisher:
            yield publisher

    @asynccontextmanager
    async def subscriber(self, channel: Channel) -> AsyncIterator[Subscriber]:
        _record()
        async with super().subscriber(channel) as subscriber:
            yield subscriber


class Broken(IrohMoq):
    """Ends its process."""

    @asynccontextmanager
    async def subscriber(self, channel: Channel) -> AsyncIterator[Subscriber]:
        os._exit(9)
        yield


def _record() -> None:
    Path(os.environ[PIDS], str(os.getpid())).touch()

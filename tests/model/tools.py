"""What the tests of the model share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from iroh_moq.errors import MoqError
from iroh_moq.model import BroadcastConsumer, BroadcastProducer, Cache, TrackConsumer, TrackInfo, TrackProducer
from iroh_moq.model.group import GroupConsumer
from iroh_moq.model.track import TrackState
from tests.conftest import idle, within

T = TypeVar("T")

BAD_CODES: list[object] = [-1, 1 << 32, True, "5", 1.5, None]
"""Values that can be no code."""

BAD_NAMES: list[object] = ["", "x" * 1025, "é" * 513, "\ud800", None, b"video", 7]
"""Values that can be no name."""


def new_track(cache: Cache | None = None, name: str = "video") -> tuple[TrackProducer, BroadcastConsumer]:
    """A track and the broadcast to read it from."""
    broadcast = BroadcastProducer()
    return broadcast.create_track(name, cache=cache), broadcast.consume()


def write_group(track: TrackProducer, *frames: bytes, sequence: int | None = None) -> int:
    """Writes a whole group and returns its number."""
    with track.append_group() if sequence is None else track.create_group(sequence) as group:
        for frame in frames:
            group.write_frame(frame)
    return group.sequence


class Elsewhere:
    """Where a broadcast comes from, which tells what it was asked for."""

    def __init__(self) -> None:
        self.subscribed: list[TrackState] = []
        self.fetched: list[tuple[str, int, int]] = []

    def subscribe(self, track: TrackState) -> None:
        self.subscribed.append(track)

    async def track_info(self, name: str) -> TrackInfo:
        """What is known of a track: its priority is the length of its name."""
        return TrackInfo(len(name))

    async def fetch_group(self, name: str, sequence: int, priority: int) -> GroupConsumer:
        self.fetched.append((name, sequence, priority))
        return GroupConsumer(TrackState(name).create_group(sequence))


async def soon(awaitable: Awaitable[T]) -> T:
    """What must come at once, or within the patience of a test."""
    async with within():
        return await awaitable


async def fails(awaitable: Awaitable[object], code: int, match: str | None = None) -> None:
    """What must end with a code, and at once."""
    with pytest.raises(MoqError, match=match) as caught:
        await soon(awaitable)
    assert caught.value.code == code


async def waiting(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    """A call that has been started, and waits."""
    call = asyncio.ensure_future(awaitable)
    await idle()
    assert not call.done()
    return call


async def at_once(awaitable: Awaitable[T]) -> tuple[T] | None:
    """What a call returns without more input; None if it waits, and then it is cancelled."""
    call = asyncio.ensure_future(awaitable)
    await idle()
    if call.done():
        return (call.result(),)
    await cancel(call)
    return None


async def cancel(call: asyncio.Future[T]) -> None:
    """Cancels a call that waits."""
    call.cancel()
    async with within():
        await asyncio.wait((call,))
    assert call.cancelled()


async def next_number(consumer: TrackConsumer) -> int | None:
    """The number of the next group in order."""
    group = await soon(consumer.next_group())
    return None if group is None else group.sequence


async def next_arrival(consumer: TrackConsumer) -> int | None:
    """The number of the next group to arrive."""
    group = await soon(consumer.recv_group())
    return None if group is None else group.sequence


async def read_frames(consumer: TrackConsumer) -> list[bytes]:
    """All the frames to the end of the track."""
    frames = []
    async with within():
        while (frame := await consumer.read_frame()) is not None:
            frames.append(frame)
    return frames

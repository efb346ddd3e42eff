"""What only later versions of the protocol have. Everything that the peer needs of them is here."""

from __future__ import annotations

from typing import Any

from iroh_moq import BroadcastConsumer, BroadcastProducer, Cache, GroupConsumer, GroupProducer, TrackConsumer
from iroh_moq import TrackProducer as Track

from .failures import Usage

__all__ = ["create_track", "fetch_group", "read_datagrams", "read_frame", "write_datagrams", "write_frame"]


def create_track(broadcast: BroadcastProducer, name: str, priority: int, cache: Cache, timescale: int) -> Track:
    """A track whose timestamps have so many units a second."""
    if timescale != 1000:
        raise Usage("this package's tracks have no timescale")
    return broadcast.create_track(name, priority, cache=cache)


def write_frame(group: GroupProducer, data: bytes, timestamp: int | None) -> None:
    """A frame, with its time if one is given."""
    if timestamp is not None:
        raise Usage("this package's frames have no timestamps")
    group.write_frame(data)


async def read_frame(group: GroupConsumer) -> tuple[bytes, int | None] | None:
    """The next frame and its time, or None at the end."""
    data = await group.read_frame()
    return None if data is None else (data, None)


async def fetch_group(broadcast: BroadcastConsumer, track: str, group: int) -> GroupConsumer:
    """One past group, without a subscription."""
    raise Usage("this package cannot fetch")


def write_datagrams(track: Track, sizes: list[int], timestamp: int) -> dict[str, Any]:
    """One datagram of each size."""
    raise Usage("this package has no datagrams")


async def read_datagrams(track: TrackConsumer, count: int) -> dict[str, Any]:
    """So many datagrams."""
    raise Usage("this package has no datagrams")

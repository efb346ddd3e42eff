"""What only later versions of the protocol, and of this package, have: everything that the peer needs of it is here."""

from __future__ import annotations

import inspect
from typing import Any

from iroh import Endpoint

from iroh_moq import (
    BroadcastConsumer,
    BroadcastProducer,
    Cache,
    GroupConsumer,
    GroupProducer,
    Moq,
    TrackConsumer,
    TrackProducer,
)

from ..content import frame

__all__ = ["create_track", "fetch_group", "new_moq", "read_datagrams", "read_frame", "write_datagrams", "write_frame"]

_MILLISECONDS = 1000


def new_moq(endpoint: Endpoint, versions: list[str]) -> Moq:
    """A `Moq` that dials with these versions only, where the package has more than one."""
    several = "alpns" in inspect.signature(Moq.__init__).parameters
    options: dict[str, Any] = {"alpns": [version.encode() for version in versions]} if several else {}
    return Moq(endpoint, **options)


def create_track(broadcast: BroadcastProducer, name: str, priority: int, cache: Cache, timescale: int) -> TrackProducer:
    """A track whose timestamps have so many units a second."""
    options: dict[str, Any] = {} if timescale == _MILLISECONDS else {"timescale": timescale}
    return broadcast.create_track(name, priority, cache=cache, **options)


def write_frame(group: GroupProducer, data: bytes, timestamp: float | None) -> None:
    """A frame, with its time in seconds if one is given."""
    options: dict[str, Any] = {} if timestamp is None else {"timestamp": timestamp}
    group.write_frame(data, **options)


async def read_frame(group: GroupConsumer) -> tuple[bytes, float | None] | None:
    """The next frame and its time in seconds, or None at the end."""
    if not hasattr(group, "read_timed_frame"):
        data = await group.read_frame()
        return None if data is None else (data, None)
    timed: Any = await group.read_timed_frame()
    return None if timed is None else (timed.data, timed.timestamp)


async def fetch_group(broadcast: BroadcastConsumer, track: str, group: int) -> GroupConsumer:
    """One past group, without a subscription."""
    source: Any = broadcast
    fetched: GroupConsumer = await source.fetch_group(track, group)
    return fetched


def write_datagrams(track: TrackProducer, sizes: list[int], timestamp: int) -> dict[str, Any]:
    """One datagram of each size, a millisecond apart."""
    target: Any = track
    sequences = []
    for number, size in enumerate(sizes, timestamp):
        sequence = 0 if track.latest is None else track.latest + 1
        sequences.append(target.write_datagram(frame(sequence, 0, size), timestamp=number / _MILLISECONDS))
    return {"sequences": sequences}


async def read_datagrams(track: TrackConsumer, count: int) -> dict[str, Any]:
    """So many datagrams."""
    source: Any = track
    datagrams: list[dict[str, Any]] = []
    while len(datagrams) < count and (datagram := await source.recv_datagram()) is not None:
        datagrams.append(
            {
                "sequence": datagram.sequence,
                "bytes": len(datagram.data),
                "right": datagram.data == frame(datagram.sequence, 0, len(datagram.data)),
                "timestamp": datagram.timestamp,
            }
        )
    return {"datagrams": datagrams}

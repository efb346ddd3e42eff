"""The publisher of a scenario, which keeps a record of all it has written."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from iroh_moq import BroadcastProducer, Cache, Error, GroupProducer, TrackProducer

from .plan import TrackPlan

__all__ = ["Record", "frame", "new_broadcast", "write"]

_CACHE = Cache(max_bytes=1 << 30, max_age=1e9)
"""Slow readers are part of the plan, and what is reliable must not be lost to age."""


@dataclass
class Record:
    """What was written of a track."""

    groups: dict[int, list[bytes]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    finished: bool = False


def frame(track: str, group: int, index: int, size: int) -> bytes:
    """A frame that says what it is."""
    return f"{track}/{group}/{index}".encode().ljust(size, b".") if size else b""


def new_broadcast() -> BroadcastProducer:
    """A broadcast that loses nothing by itself."""
    return BroadcastProducer(cache=_CACHE)


async def write(plan: TrackPlan, track: TrackProducer, record: Record, chance: random.Random) -> None:
    """Writes all groups of a track, several at once if the plan says so, and finishes it."""
    open_groups: list[GroupProducer] = []
    begun = 0
    try:
        while begun < plan.groups or open_groups:
            if begun < plan.groups and len(open_groups) < plan.at_once:
                open_groups.append(track.create_group(begun))
                record.groups[begun] = []
                begun += 1
            group = chance.choice(open_groups)
            frames = record.groups[group.sequence]
            if len(frames) < plan.frames:
                data = frame(plan.name, group.sequence, len(frames), plan.size)
                group.write_frame(data)
                frames.append(data)
            else:
                group.finish()
                record.whole.add(group.sequence)
                open_groups.remove(group)
            if plan.pause and chance.random() < 0.5:
                await asyncio.sleep(chance.uniform(0, plan.pause))
        track.finish()
        record.finished = True
    except Error:
        # Somebody has aborted it, which the plan knows.
        return

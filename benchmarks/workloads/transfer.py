"""As much as goes through, for a time, with nothing lost: groups, frames, bulk, and the same to many."""

from __future__ import annotations

import asyncio
import time

from ..arrivals import HELLO, all_arrived, all_ready, meanwhile
from ..channel import Channel
from ..contender import Contender, Window
from ..content import Content, Groups
from ..sessions import connected, reading
from ..task import Flood
from ..usage import ProcessorTime
from ..workload import Metric, Report, Workload

__all__ = ["FanOut", "Transfer", "bulk", "frames", "groups"]

_TRACK = "data"
_LONGEST = 120.0
"""Seconds within which what was written must have arrived, however slow the contender."""


class Transfer(Workload):
    """Writes groups for some seconds, as fast as the slowest subscriber reads them."""

    subscribers = 1
    task: Flood

    def __init__(
        self, name: str, metric: Metric, unit_size: float, frame_size: int, frames: int, seconds: float
    ) -> None:
        """`unit_size` is how much of a group counts as one in the metric."""
        self.name = name
        self.metrics = (metric,)
        self.seconds = seconds
        self._units = unit_size
        self.task = Flood(self.subscribers, frame_size, frames, self.window(frame_size * frames), seconds)

    def window(self, group_bytes: int) -> Window:
        """How far the publisher may be ahead."""
        return Window.of_groups(group_bytes)

    async def publish(self, contender: Contender, channel: Channel) -> Report:
        content = Content(self.task.frame_size, self.task.frames)
        async with contender.publisher(channel) as publisher:
            (track,) = await publisher.publish([_TRACK], self.task.window, self.subscribers)
            await track.write_group([HELLO])
            channel.tell("address", address=publisher.address)
            await channel.hear("ready")
            processor = ProcessorTime()
            groups, start = 0, time.monotonic_ns()
            end = start + int(self.seconds * 1e9)
            while time.monotonic_ns() < end:
                groups += 1
                await track.write_group(content.group(groups))
            channel.tell("written", groups=groups)
            await channel.hear("arrived")
            return {"start": start, "groups": groups, "processor": processor.seconds}

    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        content = Content(self.task.frame_size, self.task.frames)
        address = (await channel.hear("address"))["address"]
        async with connected(contender, channel, address, self.subscribers) as subscribers:
            readers = [await subscriber.subscribe(_TRACK, self.task.window) for subscriber in subscribers]
            arrivals = [Groups(content) for _ in readers]
            pairs = zip(readers, arrivals, strict=True)
            async with reading(reader.groups(groups.take) for reader, groups in pairs) as tasks:
                await all_ready(arrivals, tasks)
                processor = ProcessorTime()
                channel.tell("ready")
                written = (await meanwhile(channel.hear("written"), tasks))["groups"]
                for groups in arrivals:
                    groups.expect(written)
                async with asyncio.timeout(_LONGEST):
                    await all_arrived(arrivals, tasks)
                spent = processor.seconds
                channel.tell("arrived")
                return {"end": max(groups.last for groups in arrivals), "processor": spent}

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        seconds = (subscribed["end"] - published["start"]) / 1e9
        return {self.metrics[0].key: published["groups"] * self._units / seconds}


def groups(seconds: float) -> Transfer:
    """Groups of one frame of a kilobyte."""
    metric = Metric("groups_per_second", "1 KB groups", "groups/s", lower_is_better=False)
    return Transfer("groups", metric, 1, 1024, 1, seconds)


def frames(name: str, label: str, size: int, seconds: float) -> Transfer:
    """Small frames, 200 to a group."""
    metric = Metric("frames_per_second", f"{label} frames, 200 to a group", "frames/s", lower_is_better=False)
    return Transfer(f"frames-{name}", metric, 200, size, 200, seconds)


def bulk(name: str, label: str, size: int, group_bytes: int, seconds: float) -> Transfer:
    """Large frames in large groups."""
    count = group_bytes // size
    metric = Metric("megabytes_per_second", f"bulk, {label} frames", "MB/s", lower_is_better=False)
    return Transfer(f"bulk-{name}", metric, size * count / 1e6, size, count, seconds)


class FanOut(Transfer):
    """One publisher, many subscribers, each with a session of its own, all in one other process."""

    _SIZE = 1024
    _COUNT = 25
    _WINDOW = 4
    """Groups ahead of the slowest subscriber; many times as many are under way in all."""

    def __init__(self, subscribers: int, seconds: float) -> None:
        name = f"{subscribers} subscriber{'s' if subscribers > 1 else ''}"
        rate = Metric("delivered_per_second", f"fan-out to {name}", "frames/s", lower_is_better=False)
        self.subscribers = subscribers
        super().__init__(f"fan-out-{subscribers}", rate, self._COUNT, self._SIZE, self._COUNT, seconds)
        self.metrics = (
            rate,
            Metric("publisher_per_frame", f"fan-out to {name}: publisher's processor time", "µs/frame"),
            Metric("processor_per_frame", f"fan-out to {name}: all processor time", "µs/frame"),
        )

    def window(self, group_bytes: int) -> Window:
        return Window(self._WINDOW, self._WINDOW * group_bytes)

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        seconds = (subscribed["end"] - published["start"]) / 1e9
        delivered = published["groups"] * self._COUNT * self.subscribers
        return {
            "delivered_per_second": delivered / seconds,
            "publisher_per_frame": published["processor"] / delivered * 1e6,
            "processor_per_frame": (published["processor"] + subscribed["processor"]) / delivered * 1e6,
        }

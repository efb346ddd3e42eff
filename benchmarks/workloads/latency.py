"""The time from writing a frame to reading it, at a steady pace."""

from __future__ import annotations

from math import ceil

from ..arrivals import HELLO, all_arrived, all_ready, meanwhile
from ..channel import Channel
from ..contender import Contender, Window
from ..sessions import connected, reading
from ..stamped import Stamped, paced, stamp
from ..task import Pace, Paced
from ..workload import Metric, Report, Workload

__all__ = ["Latency"]

_SIZE = 200
_TRACK = "data"


class Latency(Workload):
    """Frames of 200 bytes, each a group of its own."""

    def __init__(self, rate: int, seconds: float) -> None:
        self.name = f"latency-{rate}"
        self.seconds = seconds
        self._rate = rate
        self.task = Paced(1, (Pace(_TRACK, rate, _SIZE),), seconds)
        self.metrics = tuple(
            Metric(key, f"latency at {rate:,} frames/s, {label}", "ms")
            for key, label in (("p50", "p50"), ("p99", "p99"), ("worst", "worst"))
        )

    async def publish(self, contender: Contender, channel: Channel) -> Report:
        async with contender.publisher(channel) as publisher:
            (track,) = await publisher.publish([_TRACK], Window(1, _SIZE))
            await track.write_group([HELLO])
            channel.tell("address", address=publisher.address)
            await channel.hear("ready")
            written = 0
            async for index in paced(self._rate, self.seconds):
                track.send(stamp(index, _SIZE))
                written += 1
            channel.tell("written", frames=written)
            await channel.hear("arrived")
            return {}

    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        address = (await channel.hear("address"))["address"]
        async with connected(contender, channel, address, 1) as (subscriber,):
            reader, frames = await subscriber.subscribe(_TRACK), Stamped()
            async with reading([reader.frames(frames.take)]) as tasks:
                await all_ready([frames], tasks)
                channel.tell("ready")
                frames.expect((await meanwhile(channel.hear("written"), tasks))["frames"])
                await all_arrived([frames], tasks)
                channel.tell("arrived")
        return {"delays": frames.delays}

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        delays = sorted(subscribed["delays"])
        return {
            "p50": _percentile(delays, 50) * 1e3,
            "p99": _percentile(delays, 99) * 1e3,
            "worst": delays[-1] * 1e3,
        }


def _percentile(ordered: list[float], percent: float) -> float:
    """The smallest value that so many percent are not above."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]

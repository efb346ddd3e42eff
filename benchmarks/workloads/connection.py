"""Sessions themselves: how soon the first frame is here, and what those cost that do nothing."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from ..arrivals import HELLO, Arrivals, all_ready
from ..channel import Channel
from ..contender import Contender, Subscriber, Window
from ..sessions import connected, reading
from ..task import FirstFrames
from ..usage import ProcessorTime, resident_bytes
from ..workload import Metric, Report, Workload

__all__ = ["Connection", "Idle"]

_TRACK = "data"


async def _publish(contender: Contender, channel: Channel, until: str) -> None:
    """A publisher of one group, until the other process says so."""
    async with contender.publisher(channel) as publisher:
        (track,) = await publisher.publish([_TRACK], Window(1, len(HELLO)))
        await track.write_group([HELLO])
        channel.tell("address", address=publisher.address)
        await channel.hear(until)


async def _first_frame(subscriber: Subscriber) -> None:
    hello = Arrivals("frames")

    def take(_: int, frame: bytes) -> None:
        if frame == HELLO:
            hello.ready.set()

    reader = await subscriber.subscribe(_TRACK)
    async with reading([reader.frames(take)]) as tasks:
        await all_ready([hello], tasks)


class Connection(Workload):
    """The time from `connect` to the first frame, one session after the other."""

    name = "connection"

    def __init__(self, sessions: int) -> None:
        self.seconds = 1.0
        self._sessions = sessions
        self.task = FirstFrames(sessions)
        self.metrics = (Metric("first_frame", "connect to first frame", "ms"),)

    async def publish(self, contender: Contender, channel: Channel) -> Report:
        await _publish(contender, channel, "over")
        return {}

    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        address = (await channel.hear("address"))["address"]
        times = []
        for _ in range(self._sessions):
            async with contender.subscriber(channel) as subscriber:
                start = time.monotonic()
                await subscriber.connect(address)
                await _first_frame(subscriber)
                times.append(time.monotonic() - start)
        channel.tell("over")
        return {"times": times}

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        return {"first_frame": median(subscribed["times"]) * 1e3}


class Idle(Workload):
    """Sessions that nothing is sent on: their memory, and their processor time once they have settled."""

    name = "idle"

    _SETTLING = 1.0
    """Seconds for what goes on after a handshake."""

    def __init__(self, sessions: int, seconds: float) -> None:
        self.seconds = seconds + self._SETTLING
        self._idle = seconds
        self._sessions = sessions
        self.metrics = (
            Metric("publisher_memory", "idle session: publisher's memory", "KB"),
            Metric("subscriber_memory", "idle session: subscriber's memory, its endpoint included", "KB"),
            Metric("publisher_processor", f"{sessions} idle sessions: publisher's processor time", "% of a core"),
            Metric("subscriber_processor", f"{sessions} idle sessions: subscribers' processor time", "% of a core"),
        )

    async def publish(self, contender: Contender, channel: Channel) -> Report:
        publishing = asyncio.create_task(_publish(contender, channel, "over"))
        await channel.hear("begin")
        before = resident_bytes()
        channel.tell("begun")
        await channel.hear("idle")
        report = await self._measure(before)
        channel.tell("measured")
        await publishing
        return report

    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        address = (await channel.hear("address"))["address"]
        # What the first session needs once is not what a session costs.
        async with connected(contender, channel, address, 1) as (first,):
            await _first_frame(first)
            channel.tell("begin")
            await channel.hear("begun")
            before = resident_bytes()
            async with connected(contender, channel, address, self._sessions) as sessions:
                channel.tell("idle")
                report = await self._measure(before)
                await channel.hear("measured")
                # They were idle, not dead.
                for session in sessions:
                    await _first_frame(session)
                channel.tell("over")
        return report

    async def _measure(self, before: int | None) -> Report:
        await asyncio.sleep(self._SETTLING)
        processor = ProcessorTime()
        await asyncio.sleep(self._idle)
        spent = processor.seconds
        after = resident_bytes()
        memory = None if before is None or after is None else after - before
        return {"processor": spent, "memory": memory}

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        numbers = {}
        for side, report in (("publisher", published), ("subscriber", subscribed)):
            numbers[f"{side}_processor"] = report["processor"] / self._idle * 100
            if report["memory"] is not None:
                numbers[f"{side}_memory"] = report["memory"] / self._sessions / 1e3
        return numbers

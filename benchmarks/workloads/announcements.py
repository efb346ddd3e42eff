"""Many broadcasts, of which a new session is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from ..channel import Channel
from ..contender import Contender
from ..failed import Failed
from ..usage import resident_bytes
from ..workload import Metric, Report, Workload

__all__ = ["Announcements"]

_PATIENCE = 60.0


class Announcements(Workload):
    """The time from `connect` to the last announcement, and the memory that they take."""

    name = "announcements"

    def __init__(self, count: int) -> None:
        self.seconds = 3.0
        self._names = [f"room/{number % 100}/person/{number}" for number in range(count)]
        label = f"{count:,} announcements"
        self.metrics = (
            Metric("seconds", f"{label} to a new session", "s"),
            Metric("publisher_memory", f"{label}: publisher's memory for the session", "MB"),
            Metric("subscriber_memory", f"{label}: subscriber's memory", "MB"),
        )

    async def publish(self, contender: Contender, channel: Channel) -> Report:
        async with contender.publisher(channel) as publisher:
            await publisher.announce(self._names)
            before = resident_bytes()
            channel.tell("address", address=publisher.address)
            await channel.hear("told")
            memory = _difference(before)
            channel.tell("looked")
            return {"memory": memory}

    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        address = (await channel.hear("address"))["address"]
        async with contender.subscriber(channel) as subscriber:
            before = resident_bytes()
            start = time.monotonic()
            async with asyncio.timeout(_PATIENCE):
                await subscriber.connect(address)
                names = await subscriber.announced(len(self._names))
            seconds = time.monotonic() - start
            memory = _difference(before)
            channel.tell("told")
            await channel.hear("looked")
        if Counter(names) != Counter(self._names):
            raise Failed(f"{len(set(self._names) - set(names))} of {len(self._names)} names were not announced")
        return {"seconds": seconds, "memory": memory}

    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        numbers = {"seconds": subscribed["seconds"]}
        for side, report in (("publisher", published), ("subscriber", subscribed)):
            if report["memory"] is not None:
                numbers[f"{side}_memory"] = report["memory"] / 1e6
        return numbers


def _difference(before: int | None) -> int | None:
    now = resident_bytes()
    return None if before is None or now is None else now - before

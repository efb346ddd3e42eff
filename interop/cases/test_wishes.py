"""What subscribers wish for: order, priority, range, latency."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..harness.codes import OLD
from ..harness.link import Link, sequences

MIB = 1 << 20
HALF_A_MIB = MIB // 2
_BEGUN = 0.005
"""Seconds in which a publisher has begun a group: only of those that have can the newest go first."""


@pytest.mark.core
async def test_ordered_under_a_slow_reader(link: Link) -> None:
    """A slow reader that wants order gets it, and what the publisher had already when it asked as well."""
    count = 40
    await link.publisher.publish()
    await link.news(1)
    reading = await link.subscribe(ordered=True, start=0)
    await link.publisher.used()
    await link.publisher.write(count, (100_000,))
    answer = await reading.read(10, delay=0.05)
    answer["groups"] += (await reading.read(count - 10))["groups"] if not link.subscriber.kind.is_rust else []
    order = [group["sequence"] for group in answer["groups"]]
    assert order == sorted(order)
    if not link.subscriber.kind.is_rust:
        assert order == list(range(count))


@pytest.mark.core
async def test_newest_first_under_a_slow_reader(link: Link) -> None:
    """When more is waiting than fits, the newest group goes first."""
    count = 60
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    link.subscriber.process.pause()
    try:
        await link.publisher.write(count, (HALF_A_MIB,), interval=_BEGUN)
    finally:
        link.subscriber.process.resume()
    order = [group["sequence"] for group in (await reading.read(count, together=True))["groups"]]
    assert sorted(order) == list(range(count))
    # What was on its way already comes first; of all that had to wait, the newest does. Rust sends the oldest first.
    earlier, later = order[: count // 2], order[count // 2 :]
    assert sum(earlier) > sum(later) or link.publisher.kind.is_rust


@pytest.mark.core
async def test_priority_changed(link: Link) -> None:
    """Of two tracks the one goes first that has the higher priority by then."""
    count = 20
    await link.publisher.publish("a", "b", "c")
    a = await link.subscribe("a", priority=100)
    b = await link.subscribe("b", priority=1)
    for name in ("a", "b"):
        await link.publisher.used(track=name)
    await a.update(priority=1)
    await b.update(priority=100)
    # A third subscription after them: when it has arrived, so have the changes.
    c = await link.subscribe("c", priority=255)
    await link.publisher.used(track="c")
    await link.publisher.write(1, track="c")
    await c.read(1)
    link.subscriber.process.pause()
    try:
        for _ in range(count):
            for name in ("a", "b"):
                await link.publisher.write(1, (HALF_A_MIB,), track=name)
    finally:
        link.subscriber.process.resume()
    both, done = [a.begin(count), b.begin(count)], list[asyncio.Task[dict[str, Any]]]()
    for reports in both:
        reports.add_done_callback(done.append)
    for reports in both:
        assert sequences(await reports) == list(range(count))
    # A Rust publisher does not look at the change for groups that it has begun.
    assert done[0] is both[1] or link.publisher.kind.is_rust


@pytest.mark.core
async def test_start_group(link: Link) -> None:
    """From a past group on."""
    await link.publisher.publish()
    await link.publisher.write(10)
    reading = await link.subscribe_to_all(start=3)
    assert sequences(await reading.read(7)) == [3, 4, 5, 6, 7, 8, 9]


async def test_start_in_the_future(link: Link) -> None:
    """From a group on that is yet to come."""
    await link.publisher.publish()
    await link.publisher.write(2)
    reading = await link.subscribe_to_all(start=5)
    await link.publisher.used()
    await link.publisher.write(6)
    assert sequences(await reading.read(3)) == [5, 6, 7]


@pytest.mark.core
async def test_end_group(link: Link) -> None:
    """To a group, inclusive; what comes after it is held back until the end is raised."""
    await link.publisher.publish()
    await link.publisher.write(10)
    reading = await link.subscribe_to_all(start=2, end=5)
    assert sequences(await reading.read(4)) == [2, 3, 4, 5]
    await reading.update(ordered=not link.subscriber.kind.is_rust, start=2, end=None)
    assert sequences(await reading.read(4)) == [6, 7, 8, 9]


@pytest.mark.core
async def test_max_latency(link: Link) -> None:
    """A reader that falls behind by more than its max latency loses old groups, never the latest."""
    count = 30
    await link.publisher.publish()
    reading = await link.subscribe_to_all(max_latency=0.2)
    await link.publisher.used()
    link.subscriber.process.pause()
    try:
        await link.publisher.write(count, (MIB,), interval=0.05)
    finally:
        link.subscriber.process.resume()
    whole: list[int] = []
    while not whole or whole[-1] != count - 1:
        group = (await reading.read(1))["groups"][0]
        if group["end"] == "finished":
            whole.append(group["sequence"])
        else:
            assert group["end"]["code"] in OLD
    # A Rust publisher goes by the age of groups in its cache, and what the reader gets is up to the moment.
    assert len(whole) < count or link.publisher.kind.is_rust


async def test_slow_beside_fast(link: Link) -> None:
    """A subscriber that does not read at all holds nobody else up."""
    count = 50
    await link.publisher.publish("slow", "fast")
    slow, fast = await link.subscribe("slow"), await link.subscribe_to_all("fast")
    for name in ("slow", "fast"):
        await link.publisher.used(track=name)
    await link.publisher.write(count, (10_000,), track="slow")
    await link.publisher.write(count, (10_000,), track="fast")
    assert sequences(await fast.read(count)) == list(range(count))
    assert sequences(await slow.read(count)) == list(range(count))

"""Over a line that delays, loses, reorders, is slow, or whose far end changes its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from ..harness.codes import OLD
from ..harness.link import Link, Reading, sequences
from ..harness.pairs import Pair
from .line import Line
from .namespaces import Networks
from .shaper import Conditions
from .sides import start_sides

pytestmark = [pytest.mark.among("rust"), pytest.mark.subscriber_dials, pytest.mark.timeout(180)]

SLOW = 5_000_000
"""Bits per second of the slow line."""
CONDITIONS = {
    "40 ms": Conditions(delay=0.04),
    "2 % loss": Conditions(delay=0.005, loss=0.02),
    "reordering": Conditions(delay=0.02, reorder=0.05),
    "5 Mbit per s": Conditions(delay=0.01, rate=SLOW),
    "all of it": Conditions(delay=0.04, loss=0.02, reorder=0.05, rate=SLOW),
}
GROUP = 25_000


class Wire:
    """Two linked peers, and the line between them."""

    def __init__(self, link: Link, line: Line, networks: Networks) -> None:
        self.link = link
        self.line = line
        self.networks = networks


@pytest_asyncio.fixture(loop_scope="session")
async def wire(networks: Networks, pair: Pair, version: str) -> AsyncIterator[Wire]:
    """A publisher on the left, a subscriber on the right who dials, over a line that is good at first."""
    async with AsyncExitStack() as stack:
        publisher, subscriber = await start_sides(stack, networks, pair, version)
        port = int(publisher.where["addresses"][0].rpartition(":")[2])
        line = await Line.open(networks, port)
        stack.push_async_callback(line.close)
        publisher.where["addresses"] = [line.address]
        link = Link(version, publisher, subscriber, publisher_dials=False)
        await link.connect()
        yield Wire(link, line, networks)


@pytest.mark.core
@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
async def test_nothing_is_lost(wire: Wire, conditions: Conditions) -> None:
    """A reliable subscriber gets all of it, however long it takes."""
    count = 60
    await wire.line.become(conditions)
    await wire.link.publisher.publish()
    reading = await wire.link.subscribe_to_all()
    await wire.link.publisher.used()
    await wire.link.publisher.write(count, (GROUP // 5,) * 5)
    answer = await reading.read(count, patience=90)
    assert sequences(answer) == list(range(count))
    assert {(group["frames"], group["end"]) for group in answer["groups"]} == {(5, "finished")}


@pytest.mark.core
@pytest.mark.from_python
@pytest.mark.parametrize("loss", [0, 0.02], ids=["no loss", "2 % loss"])
async def test_live_keeps_up(wire: Wire, loss: float) -> None:
    """Of more than the line can carry, a live subscriber gets the newest: it skips the rest, and stays close.

    A Rust publisher sends the oldest first, so its subscribers fall behind.
    """
    count, interval = 150, 0.02
    await wire.line.become(Conditions(delay=0.04, loss=loss, reorder=0.05, rate=SLOW))
    await wire.link.publisher.publish()
    reading = await wire.link.subscribe_to_all(max_latency=0.3)
    await wire.link.publisher.used()
    following = asyncio.get_running_loop().create_task(_follow(reading, count - 1))
    # Twice as much as it can carry: without skipping, the last group would be over three seconds late, or with the
    # loss over twenty.
    await wire.link.publisher.write(count, (GROUP,), interval=interval)
    async with asyncio.timeout(2.5):
        whole = await following
    assert whole[-1] == count - 1
    assert len(whole) < count


async def _follow(reading: Reading, last: int) -> list[int]:
    """Reads up to a group, and says which ones came whole."""
    whole: list[int] = []
    while True:
        group = (await reading.read(1))["groups"][0]
        if group["end"] == "finished":
            whole.append(group["sequence"])
        else:
            assert group["end"]["code"] in OLD
        if group["sequence"] == last:
            return whole


async def test_priority_changed_in_mid_stream(wire: Wire) -> None:
    """What waits on a slow line is sent in the order of the new priorities."""
    count = 40
    await wire.line.become(CONDITIONS["5 Mbit per s"])
    await wire.link.publisher.publish("a", "b")
    a = await wire.link.subscribe("a", priority=100)
    b = await wire.link.subscribe("b", priority=1)
    for name in ("a", "b"):
        await wire.link.publisher.used(track=name)
    for name in ("a", "b"):
        await wire.link.publisher.write(count, (GROUP,), track=name)
    seen = sequences(await a.read(1))
    await a.update(priority=1)
    await b.update(priority=100)
    rest_of_a, all_of_b = a.begin(count - 1), b.begin(count)
    done, _ = await asyncio.wait([rest_of_a, all_of_b], return_when=asyncio.FIRST_COMPLETED)
    # A Rust publisher does not look at the change for groups that it has begun.
    assert done == {all_of_b} or wire.link.publisher.kind.is_rust
    assert sequences(await all_of_b) == list(range(count))
    assert sorted(seen + sequences(await rest_of_a)) == list(range(count))


@pytest.mark.core
async def test_address_changed_in_mid_stream(wire: Wire) -> None:
    """The peer's packets come from another address, and nothing is lost."""
    count = 60
    await wire.line.become(CONDITIONS["5 Mbit per s"])
    await wire.link.publisher.publish()
    reading = await wire.link.subscribe_to_all()
    await wire.link.publisher.used()
    await wire.link.publisher.write(count, (GROUP,))
    got = sequences(await reading.read(10))
    for address in wire.networks.to_left[1:]:
        await wire.line.move(address)
        got += sequences(await reading.read(10, patience=60))
    got += sequences(await reading.read(count - 30, patience=60))
    assert sorted(got) == list(range(count))
    # And back the other way: what the subscriber publishes reaches the publisher.
    await wire.link.subscriber.publish(broadcast="back")
    answer = await wire.link.publisher.call("news", session=wire.link.at_publisher, count=1)
    assert answer["news"][0]["name"] == "back"

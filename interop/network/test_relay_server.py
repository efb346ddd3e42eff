"""Between peers that have no direct path: all they say to each other passes a relay server of iroh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from ..harness.kinds import Kind
from ..harness.link import Link, sequences
from ..harness.pairs import Pair
from ..harness.process import PeerProcess
from .namespaces import Networks, inside
from .sides import start_sides

pytestmark = [pytest.mark.among("rust"), pytest.mark.subscriber_dials, pytest.mark.timeout(120)]

_PORT = 3340
_MIB = 1 << 20


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def relay_server(networks: Networks) -> AsyncIterator[str]:
    """The URL of a relay server in the middle, which forwards nothing else."""
    process = await PeerProcess.start(inside(networks.middle, Kind.RUST.command()), {}, "relay server")
    answer = await process.call("serve_relay", address=f"{networks.middle_address}:{_PORT}")
    yield answer["url"]
    await process.end()


@pytest_asyncio.fixture(loop_scope="session")
async def relayed(networks: Networks, relay_server: str, pair: Pair, version: str) -> AsyncIterator[Link]:
    """A publisher on the left, and a subscriber on the right who knows nothing but the relay server to find it at."""
    async with AsyncExitStack() as stack:
        publisher, subscriber = await start_sides(stack, networks, pair, version, relay_server)
        publisher.where["addresses"] = []
        link = Link(version, publisher, subscriber, publisher_dials=False)
        await link.connect()
        yield link


async def _all_is_relayed(link: Link) -> None:
    for party, session in ((link.publisher, link.at_publisher), (link.subscriber, link.at_subscriber)):
        paths = (await party.call("stats", session=session))["paths"]
        assert [path["relayed"] for path in paths if path["selected"]] == [True]


@pytest.mark.core
async def test_nothing_is_lost(relayed: Link) -> None:
    """A reliable subscriber gets all of it: many groups of several frames, and large ones."""
    count = 100
    await relayed.publisher.publish()
    reading = await relayed.subscribe_to_all()
    await relayed.publisher.used()
    await relayed.publisher.write(count, (5000,) * 5)
    assert sequences(await reading.read(count)) == list(range(count))
    await relayed.publisher.write(3, (_MIB,), first=count)
    large = await reading.read(3)
    assert sequences(large) == [count, count + 1, count + 2]
    assert {(group["frames"], group["end"]) for group in large["groups"]} == {(1, "finished")}
    await _all_is_relayed(relayed)


@pytest.mark.core
async def test_both_ways(relayed: Link) -> None:
    """What the subscriber publishes reaches the publisher."""
    await relayed.subscriber.publish(broadcast="back")
    answer = await relayed.publisher.call("news", session=relayed.at_publisher, count=1)
    assert answer["news"][0]["name"] == "back"
    await _all_is_relayed(relayed)

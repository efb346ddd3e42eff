"""What moq-lite-05 adds: timestamps, groups that are fetched, datagrams."""

from __future__ import annotations

import pytest

from ..harness.codes import NOT_FOUND
from ..harness.link import BROADCAST, TRACK, Link, sequences
from ..harness.process import PeerError

pytestmark = pytest.mark.since(5)


@pytest.mark.core
@pytest.mark.parametrize("timescale", [1000, 90_000])
async def test_timestamps(link: Link, timescale: int) -> None:
    """Each frame has the time it was given, in the track's units."""
    await link.publisher.publish(timescale=timescale)
    reading = await link.subscribe_to_all()
    await link.publisher.used()
    await link.publisher.write(3, (10, 20, 30), timestamp=1_000_000)
    for report in (await reading.read(3))["groups"]:
        first = 1_000_000 + 3 * report["sequence"]
        assert (report["first_timestamp"], report["last_timestamp"]) == (first, first + 2)


@pytest.mark.core
async def test_fetched(link: Link) -> None:
    """A past group, without a subscription."""
    await link.publisher.publish()
    await link.publisher.write(5, (100, 1000))
    await link.news(1)
    answer = await link.subscriber.call("fetch", session=link.at_subscriber, broadcast=BROADCAST, track=TRACK, group=2)
    assert (answer["sequence"], answer["frames"], answer["bytes"], answer["wrong"]) == (2, 2, 1100, 0)
    assert answer["end"] == "finished"


async def test_fetched_while_subscribed(link: Link) -> None:
    """Both at once."""
    await link.publisher.publish()
    await link.publisher.write(5)
    reading = await link.subscribe_to_all(start=4)
    assert sequences(await reading.read(1)) == [4]
    answer = await link.subscriber.call("fetch", session=link.at_subscriber, broadcast=BROADCAST, track=TRACK, group=1)
    assert (answer["sequence"], answer["wrong"]) == (1, 0)


async def test_fetch_of_what_is_not_there(link: Link) -> None:
    """Is not found."""
    await link.publisher.publish()
    await link.publisher.write(1)
    await link.news(1)
    with pytest.raises(PeerError) as error:
        await link.subscriber.call("fetch", session=link.at_subscriber, broadcast=BROADCAST, track="x", group=0)
    assert error.value.code in NOT_FOUND


@pytest.mark.core
async def test_datagrams(link: Link) -> None:
    """On loopback all of them arrive, with their times."""
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    await link.publisher.call("datagrams", broadcast=BROADCAST, track=TRACK, sizes=[10, 0, 1000], timestamp=5000)
    datagrams = sorted(await reading.datagrams(3), key=lambda datagram: int(datagram["sequence"]))
    assert [(datagram["sequence"], datagram["bytes"]) for datagram in datagrams] == [(0, 10), (1, 0), (2, 1000)]
    assert all(datagram["right"] for datagram in datagrams)
    assert [datagram["timestamp"] for datagram in datagrams] == [5000, 5001, 5002]

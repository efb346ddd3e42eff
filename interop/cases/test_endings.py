"""How subscriptions, tracks, groups and broadcasts end."""

from __future__ import annotations

import pytest

from ..harness.codes import NOT_FOUND
from ..harness.kinds import Kind
from ..harness.link import BROADCAST, Link, sequences

APPLICATION = 64 + 7
"""A code of the application's own."""


def aborted(link: Link) -> set[int]:
    """The codes with which a track may end that was aborted.

    A Rust publisher serves from an origin, which looks for another source when one fails, and then says that there
    is none.
    """
    return {APPLICATION} | (NOT_FOUND if link.publisher.kind is Kind.RUST else set())


@pytest.mark.core
async def test_track_finished(link: Link) -> None:
    """The reader gets all of it and then the end."""
    await link.publisher.publish()
    reading = await link.subscribe_to_all(to_end=True)
    await link.publisher.used()
    await link.publisher.write(5, (1000,))
    await link.publisher.finish()
    answer = await reading.read()
    assert sequences(answer) == [0, 1, 2, 3, 4]
    assert answer["end"] == "finished"
    if not link.publisher.kind.is_rust:
        # In Rust an origin remembers its tracks for half a minute.
        await link.publisher.unused()


async def test_broadcast_finished(link: Link) -> None:
    """All tracks of a broadcast that ends are finished."""
    await link.publisher.publish("a", "b")
    readings = [await link.subscribe_to_all(name, to_end=True) for name in ("a", "b")]
    for name in ("a", "b"):
        await link.publisher.used(track=name)
        await link.publisher.write(2, (1000,), track=name)
    await link.publisher.finish(None)
    for reading in readings:
        answer = await reading.read()
        assert (sequences(answer), answer["end"]) == ([0, 1], "finished")


@pytest.mark.core
async def test_track_aborted(link: Link) -> None:
    """The reader gets the application's code."""
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    await link.publisher.write(1)
    await reading.read(1)
    await link.publisher.abort(APPLICATION)
    assert (await reading.read())["end"]["code"] in aborted(link)


async def test_group_aborted(link: Link) -> None:
    """The reader of the group gets the code; the track goes on.

    A Rust side serves and reads by way of an origin, which waits for another source to go on with the group: so
    nobody hears of its end, but others read on.
    """
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    await link.publisher.write(1, (100,), first=0, open=True)
    assert (await reading.read(frames=1))["groups"][0]["frames"] == 1
    await link.publisher.abort(APPLICATION, group=0)
    if Kind.RUST in (link.publisher.kind, link.subscriber.kind):
        reading = await link.subscribe(start=1)
    else:
        assert (await reading.read(1))["groups"][0]["end"]["code"] == APPLICATION
    await link.publisher.write(1, (100,), first=1)
    (group,) = (await reading.read(1))["groups"]
    assert (group["sequence"], group["end"]) == (1, "finished")


async def test_broadcast_aborted(link: Link) -> None:
    """Every reader gets the code."""
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    await link.publisher.write(1)
    await reading.read(1)
    await link.publisher.abort(APPLICATION, None)
    assert (await reading.read())["end"]["code"] in aborted(link)


@pytest.mark.core
async def test_unsubscribed(link: Link) -> None:
    """The publisher notices, and another track of the session goes on."""
    await link.publisher.publish("gone", "stays")
    gone, stays = await link.subscribe("gone"), await link.subscribe("stays")
    for name in ("gone", "stays"):
        await link.publisher.used(track=name)
    await gone.close()
    await link.publisher.unused(track="gone")
    await link.publisher.write(1, track="stays")
    assert (await stays.read(1))["groups"][0]["end"] == "finished"


async def test_subscribed_again(link: Link) -> None:
    """After unsubscribing, the same track can be had again."""
    await link.publisher.publish()
    for sequence in range(3):
        reading = await link.subscribe(max_latency=0)
        await link.publisher.used()
        await link.publisher.write(1, (10,), first=sequence)
        answer = await reading.read(1)
        while answer["groups"][0]["sequence"] < sequence:
            answer = await reading.read(1)
        assert answer["groups"][0]["sequence"] == sequence
        await reading.close()
        await link.publisher.unused()


@pytest.mark.core
async def test_track_not_found(link: Link) -> None:
    """A track that is not there is reported at once, and harms nobody."""
    await link.publisher.publish()
    await link.news(1)
    reading = await link.subscribe("nothing")
    answer = await reading.read()
    assert answer["groups"] == []
    assert answer["end"]["code"] in NOT_FOUND
    other = await link.subscribe()
    await link.publisher.used()
    await link.publisher.write(1)
    assert (await other.read(1))["groups"][0]["end"] == "finished"


async def test_session_closed_under_a_reader(link: Link) -> None:
    """A reader learns that the session is over."""
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    reports = reading.begin()
    await link.publisher.call("close", session=link.at_publisher, code=9, reason="over")
    assert (await reports)["end"] != "finished"
    closed = await link.subscriber.call("closed", session=link.at_subscriber)
    assert (closed["code"], closed["reason"]) == (9, "over")


async def test_broadcast_goes_with_the_session(link: Link) -> None:
    """What a session announced is gone when it ends."""
    await link.publisher.publish()
    assert await link.news(1) == [(BROADCAST, True)]
    await link.publisher.call("close", session=link.at_publisher, code=0, reason="")
    assert await link.news(2) == [(BROADCAST, True), (BROADCAST, False)]

"""Announcements: who hears of which broadcast, and when."""

from __future__ import annotations

import pytest

from ..harness.link import BROADCAST, Link


@pytest.mark.core
async def test_before_the_session(duo: Link) -> None:
    """What there is already is announced when the session begins."""
    await duo.publisher.publish()
    await duo.connect()
    assert await duo.news(1) == [(BROADCAST, True)]


@pytest.mark.core
async def test_late(link: Link) -> None:
    """What comes later is announced then."""
    await link.publisher.publish(broadcast="a")
    assert await link.news(1) == [("a", True)]
    await link.publisher.publish(broadcast="b/c")
    assert await link.news(2) == [("a", True), ("b/c", True)]


async def test_both_ways(link: Link) -> None:
    """Both sides announce in the same session."""
    await link.publisher.publish(broadcast="of/publisher")
    await link.subscriber.publish(broadcast="of/subscriber")
    assert await link.news(1) == [("of/publisher", True)]
    answer = await link.publisher.call("news", session=link.at_publisher, count=1)
    assert [(entry["name"], entry["active"]) for entry in answer["news"]] == [("of/subscriber", True)]


@pytest.mark.core
async def test_taken_back(link: Link) -> None:
    """An offer that is taken back is announced as ended, and can be made again."""
    await link.publisher.publish()
    await link.news(1)
    await link.publisher.call("unpublish", broadcast=BROADCAST)
    assert await link.news(2) == [(BROADCAST, True), (BROADCAST, False)]
    await link.publisher.publish()
    assert (await link.news(3))[2] == (BROADCAST, True)


@pytest.mark.parametrize("end", ["finish", "abort"])
async def test_ended(link: Link, end: str) -> None:
    """A broadcast that ends, well or not, is announced as ended."""
    await link.publisher.publish()
    await link.news(1)
    if end == "finish":
        await link.publisher.finish(None)
    else:
        await link.publisher.abort(70, None)
    assert await link.news(2) == [(BROADCAST, True), (BROADCAST, False)]


async def test_replaced(link: Link) -> None:
    """A second broadcast of the same name takes the place of the first, and is what subscribers get then."""
    await link.publisher.publish()
    await link.publisher.write(1, (10,), first=7)
    await link.news(1)
    await link.publisher.publish()
    assert (await link.news(3))[1:] == [(BROADCAST, False), (BROADCAST, True)]
    reading = await link.subscribe()
    await link.publisher.used()
    await link.publisher.write(1, (20,), first=8)
    assert [group["sequence"] for group in (await reading.read(1))["groups"]] == [8]


async def test_many(link: Link) -> None:
    """A thousand broadcasts."""
    names = [f"room/{number}" for number in range(1000)]
    for name in names:
        await link.publisher.publish(broadcast=name)
    news = await link.news(len(names))
    assert sorted(news) == sorted((name, True) for name in names)


async def test_names(link: Link) -> None:
    """Names of all sorts come through as they are."""
    names = ["x", "größe/日本語/🤖", "/".join("abcdefgh"), "n" * 200]
    for name in names:
        await link.publisher.publish(broadcast=name)
    assert sorted(await link.news(len(names))) == sorted((name, True) for name in names)

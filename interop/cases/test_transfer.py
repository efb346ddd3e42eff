"""Groups and frames of every size come through whole, in whatever order things begin."""

from __future__ import annotations

import pytest

from ..harness.link import Link, sequences

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.core
async def test_subscribed_before_the_announcement(link: Link) -> None:
    """A subscriber may wait for a broadcast that is yet to come."""
    reading = await link.subscribe()
    await link.publisher.publish()
    await link.publisher.used()
    await link.publisher.write(1)
    assert (await reading.read(1))["groups"][0]["frames"] == 1


async def test_late_joiner(link: Link) -> None:
    """Who comes late starts at the latest group, from its first frame."""
    await link.publisher.publish()
    await link.publisher.write(3, (10, 20, 30))
    await link.news(1)
    reading = await link.subscribe(max_latency=0)
    group = (await reading.read(1))["groups"][0]
    assert (group["sequence"], group["frames"], group["bytes"]) == (2, 3, 60)


@pytest.mark.core
@pytest.mark.parametrize("size", [0, 1, KIB, MIB, 16 * MIB])
async def test_frame_size(link: Link, size: int) -> None:
    """A frame of any size."""
    await link.publisher.publish()
    reading = await link.subscribe_to_all()
    await link.publisher.used()
    await link.publisher.write(2, (size,))
    groups = sorted((await reading.read(2))["groups"], key=lambda group: int(group["sequence"]))
    assert [(group["sequence"], group["frames"], group["bytes"]) for group in groups] == [(0, 1, size), (1, 1, size)]
    assert [group["end"] for group in groups] == ["finished"] * 2


async def test_mixed_sizes(link: Link) -> None:
    """Frames of all sizes in one group."""
    sizes = (0, 1, KIB, 0, 0, 63, 64, 16383, 16384, MIB, 1, 70_000)
    await link.publisher.publish()
    reading = await link.subscribe_to_all()
    await link.publisher.used()
    await link.publisher.write(3, sizes)
    for group in (await reading.read(3))["groups"]:
        assert (group["frames"], group["bytes"], group["end"]) == (len(sizes), sum(sizes), "finished")


@pytest.mark.core
async def test_thousands_of_groups(link: Link) -> None:
    """Each of them once."""
    count = 3000
    await link.publisher.publish()
    reading = await link.subscribe_to_all()
    await link.publisher.used()
    reports = reading.begin(count, patience=90)
    await link.publisher.write(count, (100,), patience=60)
    assert sequences(await reports) == list(range(count))


async def test_thousands_of_frames(link: Link) -> None:
    """In one group, in order: `read` checks them. Rust allows for 8,192."""
    count = 8_000
    await link.publisher.publish()
    reading = await link.subscribe_to_all()
    await link.publisher.used()
    await link.publisher.write(1, (50,) * count)
    assert (await reading.read(1, patience=60))["groups"][0]["frames"] == count


@pytest.mark.core
async def test_frames_as_they_are_written(link: Link) -> None:
    """A frame arrives although its group goes on."""
    await link.publisher.publish()
    reading = await link.subscribe()
    await link.publisher.used()
    await link.publisher.write(1, (10,), first=0, open=True)
    for count in (1, 2, 3):
        report = (await reading.read(frames=1))["groups"][0]
        assert (report["frames"], report["end"]) == (count, None)
        await link.publisher.write(1, (10,), first=0, open=True)
    await link.publisher.finish(group=0)
    assert (await reading.read(1))["groups"][0]["end"] == "finished"


async def test_several_tracks(link: Link) -> None:
    """At the same time, each for itself."""
    names = ("audio", "video", "subtitles")
    await link.publisher.publish(*names)
    readings = [await link.subscribe_to_all(name) for name in names]
    for number, name in enumerate(names):
        await link.publisher.used(track=name)
        await link.publisher.write(10, (100 * (number + 1),), track=name)
    for number, reading in enumerate(readings):
        assert {group["bytes"] for group in (await reading.read(10))["groups"]} == {100 * (number + 1)}


async def test_both_directions(link: Link) -> None:
    """Each side publishes to the other in one session."""
    await link.publisher.publish(broadcast="there")
    await link.subscriber.publish(broadcast="back")
    there = await link.subscribe_to_all(broadcast="there")
    answer = await link.publisher.call(
        "subscribe", session=link.at_publisher, broadcast="back", track="video", ordered=not link.publisher.kind.is_rust
    )
    await link.publisher.used(broadcast="there")
    await link.subscriber.used(broadcast="back")
    await link.publisher.write(50, (KIB,), broadcast="there")
    await link.subscriber.write(50, (KIB,), broadcast="back")
    back = await link.publisher.call("read", **answer, groups=50)
    assert sequences(await there.read(50)) == list(range(50))
    assert sequences(back) == list(range(50))
    assert not any(group["wrong"] for group in back["groups"])


async def test_two_subscribers(link: Link) -> None:
    """Two subscriptions to one track in one session both get all of it."""
    await link.publisher.publish()
    readings = [await link.subscribe_to_all() for _ in range(2)]
    await link.publisher.used()
    await link.publisher.write(1, (KIB,), first=0)
    for reading in readings:
        assert (await reading.read(1))["groups"][0]["bytes"] == KIB
    await link.publisher.write(20, (KIB,), first=1)
    for reading in readings:
        assert sequences(await reading.read(20)) == list(range(1, 21))

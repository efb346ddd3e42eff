"""We publish, the Rust stack subscribes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from hashlib import sha256
from random import Random

import moq
import pytest

from iroh_moq import BroadcastProducer, Cache, ErrorCode, Subscription, TrackProducer
from iroh_moq.lite.version import version_of
from tests.rust.conftest import LONG, Link, Linked, rust_dials, setups, two_links, we_dial
from tests.rust.peers import error_code, read_group
from tests.rust.quic import QuicTransport

SHORT = 300_000
"""A maximum age in microseconds; Rust tells the end of a track only once this has passed."""


def published(*links: Link, path: str = "room", cache: Cache | None = None) -> tuple[BroadcastProducer, TrackProducer]:
    """A broadcast of ours with the one track ``video``, offered on these sessions."""
    broadcast = BroadcastProducer()
    track = broadcast.create_track("video", cache=cache)
    for link in links:
        link.session.publish(path, broadcast.consume())
    return broadcast, track


async def subscribed(
    link: Link, path: str = "room", track: str = "video", *, max_age_us: int = LONG, **wishes: int
) -> moq.TrackConsumer:
    """The track, at the Rust side, which asks us for it with the first read. Its groups end with it."""
    broadcast = await link.remote.announced_broadcast(path)
    subscription = moq.Subscription(max_age_us=max_age_us, **wishes)
    consumer: moq.TrackConsumer = await broadcast.subscribe_track(track, subscription)
    return consumer


async def first_group(subscribing: Awaitable[moq.TrackConsumer]) -> moq.GroupConsumer | None:
    """What is first read of a track. That it is not there shows before, where the protocol tells of tracks."""
    return await (await subscribing).next_group()


async def arrived(reader: moq.TrackConsumer, count: int) -> list[tuple[int, list[bytes]]]:
    """The next groups, put in order: streams have none among themselves.

    A reader that was used like this cannot be read in order afterwards, nor the other way round.
    """
    groups = [await read_group(reader, as_arrived=True) for _ in range(count)]
    return sorted(group for group in groups if group is not None)


async def frame(group: moq.GroupConsumer | None) -> bytes:
    """The group's next frame."""
    assert group is not None
    read = await group.read_frame()
    assert read is not None
    return bytes(read.payload)


async def code_of(reading: Awaitable[object]) -> int | None:
    """The code that this read at the Rust side fails with."""
    with pytest.raises(moq.Error) as caught:
        await reading
    return error_code(caught.value)


def group_streams(transport: QuicTransport) -> list[int]:
    """The priorities of the group streams we have opened so far, in the order of opening."""
    opened = [priority for stream, priority in sorted(transport.priorities.items()) if stream & 2]
    return opened[setups(transport) :]


class TestAnnouncements:
    async def test_coming_and_going(self, linked: Linked) -> None:
        async with linked() as link:
            before, _ = published(link, path="before")
            news = link.remote.announced()
            first = await anext(news)
            assert (first.prefix, first.active) == ("before", True)
            later, _ = published(link, path="a/longer/path")
            second = await anext(news)
            assert (second.prefix, second.active) == ("a/longer/path", True)
            before.finish()
            third = await anext(news)
            assert (third.prefix, third.active) == ("before", False)
            later.abort(70)
            fourth = await anext(news)
            assert (fourth.prefix, fourth.active) == ("a/longer/path", False)

    async def test_replaced(self, linked: Linked) -> None:
        async with linked() as link:
            old, old_track = published(link)
            news = link.remote.announced()
            assert (await anext(news)).active
            old_track.write_frame(b"old")

            new, new_track = published(link)
            assert [(await anext(news)).active for _ in range(2)] == [False, True]
            old.finish()
            new_track.write_frame(b"new")
            # Had Rust read the old group 0 it would show that: it keeps its cache over a replacement.
            assert await read_group(await subscribed(link)) == (0, [b"new"])

            # The end of the old one was no news of the path; the end of the new one is.
            published(link, path="marker")
            assert (await anext(news)).prefix == "marker"
            new.finish()
            gone = await anext(news)
            assert (gone.prefix, gone.active) == ("room", False)

    async def test_come_back(self, linked: Linked) -> None:
        async with linked() as link:
            news = link.remote.announced()
            for round_ in range(3):
                broadcast, track = published(link)
                assert (await anext(news)).active
                track.write_frame(b"%d" % round_)
                assert await read_group(await subscribed(link)) == (0, [b"%d" % round_])
                broadcast.finish()
                assert not (await anext(news)).active

    async def test_many_names(self, linked: Linked) -> None:
        names = {f"room {number}/größe/{'x' * (number % 50)}名" for number in range(500)}
        async with linked() as link:
            kept = [published(link, path=name) for name in names]
            news = link.remote.announced()
            assert {(await anext(news)).prefix for _ in names} == names
            for broadcast, _ in kept:
                broadcast.finish()
            gone = [await anext(news) for _ in names]
            assert {update.prefix for update in gone} == names
            assert not any(update.active for update in gone)

    async def test_a_broadcast_taken_back_goes_on_for_its_readers(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"one")
            reader = await subscribed(link)
            assert await read_group(reader) == (0, [b"one"])
            news = link.remote.announced()
            assert (await anext(news)).active
            link.session.origin_producer().unpublish_broadcast("room")
            assert not (await anext(news)).active
            track.write_frame(b"two")
            assert await read_group(reader) == (1, [b"two"])


class TestGroups:
    async def test_hundreds_at_once(self, linked: Linked) -> None:
        groups = [[Random(number).randbytes(number % 700) for _ in range(number % 4)] for number in range(300)]
        async with linked() as link:
            _, track = published(link)
            for frames in groups:
                with track.append_group() as group:
                    for data in frames:
                        group.write_frame(data)
            reader = await subscribed(link, group_start=0)
            received = await arrived(reader, 300)
            assert [sequence for sequence, _ in received] == list(range(300))
            assert _hash(frames for _, frames in received) == _hash(groups)

    async def test_a_thousand_one_by_one(self, dialled: Linked) -> None:
        async with dialled() as link:
            _, track = published(link)
            track.write_frame(b"0")
            reader = await subscribed(link)
            for number in range(1000):
                assert await read_group(reader) == (number, [b"%d" % number])
                track.write_frame(b"%d" % (number + 1))

    async def test_a_frame_of_16_mib(self) -> None:
        data = Random(16).randbytes(16 << 20)
        async with we_dial() as link:
            _, track = published(link)
            track.write_frame(data)
            received = await read_group(await subscribed(link))
            assert received is not None
            assert [(len(part), sha256(part).digest()) for part in received[1]] == [(len(data), sha256(data).digest())]

    async def test_empty_frames_and_empty_groups(self, linked: Linked) -> None:
        groups: list[list[bytes]] = [[], [b""], [b"", b"", b""], [b"", b"x", b""], []]
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"start")
            reader = await subscribed(link)
            assert await read_group(reader) == (0, [b"start"])
            for number, frames in enumerate(groups, 1):
                with track.append_group() as group:
                    for data in frames:
                        group.write_frame(data)
                assert await read_group(reader) == (number, frames)

    async def test_frames_arrive_as_they_are_written(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            group = track.append_group()
            group.write_frame(b"0")
            reader = await subscribed(link)
            reading = await reader.next_group()
            assert await frame(reading) == b"0"
            for number in range(1, 100):
                group.write_frame(b"%d" % number)
                assert await frame(reading) == b"%d" % number
            group.finish()
            assert reading is not None
            assert await reading.read_frame() is None

    async def test_many_frames_in_one_group(self) -> None:
        # Rust takes at most 8192 frames in a group.
        frames = [Random(number).randbytes(number % 300) for number in range(8192)]
        async with rust_dials() as link:
            _, track = published(link)
            with track.append_group() as group:
                for data in frames:
                    group.write_frame(data)
            assert await read_group(await subscribed(link)) == (0, frames)

    async def test_numbers_of_our_choice(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"0")
            reader = await subscribed(link)
            assert await read_group(reader, as_arrived=True) == (0, [b"0"])
            for sequence in (7, 5, 1 << 40):
                with track.create_group(sequence) as group:
                    group.write_frame(b"%d" % sequence)
                assert await read_group(reader, as_arrived=True) == (sequence, [b"%d" % sequence])

    async def test_drained_once_it_is_on_its_way(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            group = track.append_group()
            group.write_frame(b"x" * 3_000_000)
            reader = await subscribed(link)
            reading = await reader.next_group()
            await group.drained()
            # All but what the connection holds for sending, and sending again, has been sent.
            assert link.transport.stats().sent_bytes > 2_000_000
            assert len(await frame(reading)) == 3_000_000


class TestSubscriptions:
    async def test_every_wish_arrives(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.create_group(3).finish()
            # The end is exclusive at the Rust side.
            reader = await subscribed(link, priority=200, max_age_us=2_345_000, group_start=3, group_end=8)
            assert await read_group(reader) == (3, [])
            assert track._state.subscription == Subscription(200, False, 2.345, 3, 7)
            reader.update(moq.Subscription(priority=3, max_age_us=3_456_000, group_start=4, group_end=10))
            track.create_group(9).finish()
            assert await read_group(reader) == (9, [])
            assert track._state.subscription == Subscription(3, False, 3.456, 4, 9)

    async def test_used_and_unused(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(3):
                reader = await subscribed(link)
                reading = asyncio.ensure_future(reader.next_group())
                await track.used()
                reader.cancel()
                await track.unused()
                # With a version that tells of tracks it may have been given a group before.
                with suppress(moq.Error.Cancelled):
                    await reading
                track.write_frame(b"%d" % number)

    async def test_an_unfinished_group_is_left_with_the_track(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            group = track.append_group()
            group.write_frame(b"one")
            reader = await subscribed(link)
            reading = await reader.next_group()
            assert await frame(reading) == b"one"
            reader.cancel()
            await track.unused()
            group.write_frame(b"two")
            # Nobody reads it any more, so it is drained at once.
            await group.drained()

    async def test_late_joiner_gets_the_latest_group_from_its_first_frame(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(5):
                track.write_frame(b"%d" % number)
            group = track.append_group()
            group.write_frame(b"first")
            group.write_frame(b"second")
            reader = await subscribed(link)
            reading = await reader.next_group()
            assert reading is not None
            assert reading.sequence == 5
            group.write_frame(b"third")
            assert [await frame(reading) for _ in range(3)] == [b"first", b"second", b"third"]
            assert len(group_streams(link.transport)) == 1

    async def test_start_group(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(10):
                track.write_frame(b"%d" % number)
            reader = await subscribed(link, group_start=6)
            assert await arrived(reader, 4) == [(n, [b"%d" % n]) for n in range(6, 10)]
            assert len(group_streams(link.transport)) == 4

    async def test_start_group_that_has_yet_to_come(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"0")
            reader = await subscribed(link, group_start=2)
            reading = asyncio.ensure_future(read_group(reader))
            await track.used()
            track.write_frame(b"1")
            track.write_frame(b"2")
            assert await reading == (2, [b"2"])
            assert len(group_streams(link.transport)) == 1

    async def test_held_at_end_group_until_an_update_raises_it(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(8):
                track.write_frame(b"%d" % number)
            # Exclusive at the Rust side, so this asks for the groups 2, 3 and 4.
            reader = await subscribed(link, group_start=2, group_end=5)
            assert [sequence for sequence, _ in await arrived(reader, 3)] == [2, 3, 4]
            # Another track in between: all that could be sent has been.
            _, other = published(link, path="other")
            other.write_frame(b"x")
            assert await read_group(await subscribed(link, "other")) == (0, [b"x"])
            assert len(group_streams(link.transport)) == 3 + 1

            reader.update(moq.Subscription(max_age_us=LONG, group_start=2, group_end=8))
            assert [sequence for sequence, _ in await arrived(reader, 3)] == [5, 6, 7]
            track.write_frame(b"8")
            reader.update(moq.Subscription(max_age_us=LONG, group_start=2, group_end=None))
            assert await read_group(reader, as_arrived=True) == (8, [b"8"])

    async def test_groups_that_left_the_cache_are_passed_over(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link, cache=Cache(max_bytes=20_000))
            track.write_frame(b"0")
            reader = await subscribed(link)
            assert await read_group(reader, as_arrived=True) == (0, [b"0"])
            # In one go: the cache has room for the last ten of them, and no time to send the others.
            for number in range(1, 101):
                track.write_frame(bytes([number]) * 1300)
            kept = list(range(91, 101))
            assert await arrived(reader, 10) == [(number, [bytes([number]) * 1300]) for number in kept]
            # That it was told what will not come does not disturb the subscription.
            track.write_frame(b"on")
            assert await arrived(reader, 1) == [(101, [b"on"])]

    async def test_two_peers_get_all_the_data(self) -> None:
        async with two_links() as links:
            _, track = published(*links)
            track.write_frame(b"0")
            readers = [await subscribed(link) for link in links]
            for reader in readers:
                assert await arrived(reader, 1) == [(0, [b"0"])]
            for number in range(1, 201):
                track.write_frame(Random(number).randbytes(2000))
            for reader in readers:
                assert await arrived(reader, 200) == [(n, [Random(n).randbytes(2000)]) for n in range(1, 201)]
            readers[0].cancel()
            # The other one still reads, and is not disturbed.
            track.write_frame(b"more")
            assert await read_group(readers[1], as_arrived=True) == (201, [b"more"])
            readers[1].cancel()
            await track.unused()

    async def test_two_readers_in_one_session_get_all_the_data(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"0")
            readers = [await subscribed(link) for _ in range(2)]
            for reader in readers:
                assert await arrived(reader, 1) == [(0, [b"0"])]
            for number in range(1, 51):
                track.write_frame(b"%d" % number)
            for reader in readers:
                assert await arrived(reader, 50) == [(n, [b"%d" % n]) for n in range(1, 51)]

    async def test_hundreds_of_tracks(self, dialled: Linked) -> None:
        async with dialled() as link:
            broadcast = BroadcastProducer()
            tracks = [broadcast.create_track(f"track {number}") for number in range(300)]
            link.session.publish("room", broadcast.consume())
            for number, track in enumerate(tracks):
                track.write_frame(b"first of %d" % number)
            readers = [await subscribed(link, track=track.name) for track in tracks]
            first = await asyncio.gather(*map(read_group, readers))
            assert first == [(0, [b"first of %d" % number]) for number in range(300)]
            for number, track in enumerate(tracks):
                track.write_frame(b"second of %d" % number)
            second = await asyncio.gather(*map(read_group, readers))
            assert second == [(1, [b"second of %d" % number]) for number in range(300)]
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*(track.unused() for track in tracks))

    async def test_tracks_made_when_asked_for(self, linked: Linked) -> None:
        async with linked() as link:
            broadcast = BroadcastProducer()
            link.session.publish("room", broadcast.consume())
            with broadcast.dynamic() as requests:
                reader = await subscribed(link, track="made up")
                reading = asyncio.ensure_future(read_group(reader))
                request = await anext(requests)
                assert request.name == "made up"
                request.accept().write_frame(b"made")
                assert await reading == (0, [b"made"])

                unwanted = await subscribed(link, track="unwanted")
                refused = asyncio.ensure_future(unwanted.next_group())
                (await anext(requests)).reject(64 + 5)
                assert await code_of(refused) == 64 + 5


class TestPriorities:
    """aioquic sends in no order of priority, so what counts is what the transport was told."""

    async def test_the_subscriber_decides_between_tracks(self, linked: Linked) -> None:
        async with linked() as link:
            for path, wanted in (("low", 10), ("high", 200), ("middle", 100)):
                _, track = published(link, path=path)
                track.write_frame(b"x")
                assert await read_group(await subscribed(link, path, priority=wanted)) == (0, [b"x"])
            low, high, middle = group_streams(link.transport)
            assert low < middle < high

    async def test_the_track_decides_where_the_subscriber_does_not(self, linked: Linked) -> None:
        async with linked() as link:
            broadcast = BroadcastProducer()
            link.session.publish("room", broadcast.consume())
            for name, priority in (("low", 16), ("high", 240), ("middle", 128)):
                broadcast.create_track(name, priority).write_frame(b"x")
                assert await read_group(await subscribed(link, track=name)) == (0, [b"x"])
            low, high, middle = group_streams(link.transport)
            assert low < middle < high

    async def test_whole_groups_in_their_order_and_control_streams_before_all(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for _ in range(3):
                track.write_frame(b"x")
            reader = await subscribed(link, priority=255, group_start=0)
            for _ in range(3):
                assert await read_group(reader, as_arrived=True)
            groups = group_streams(link.transport)
            assert groups == sorted(set(groups), reverse=True)
            control = [priority for stream, priority in link.transport.priorities.items() if not stream & 2]
            # Our request for announcements, and Rust's, its probe, its subscription, and what the track is.
            assert len(control) == 4 + version_of(link.session.alpn).track_info
            assert min(control) > max(groups)

    async def test_an_update_moves_groups_under_way(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            group = track.append_group()
            group.write_frame(b"x")
            reader = await subscribed(link, priority=10, group_end=1)
            assert await frame(await reader.next_group()) == b"x"
            (before,) = group_streams(link.transport)
            track.write_frame(b"held")
            reader.update(moq.Subscription(priority=200, max_age_us=LONG, group_end=None))
            # The held group comes because of the update, which therefore has been applied.
            assert await read_group(reader) == (1, [b"held"])
            after, next_ = group_streams(link.transport)
            assert before < after < next_
            group.finish()


class TestEnds:
    async def test_finished_track(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            reader = await subscribed(link, max_age_us=SHORT)
            group = track.append_group()
            group.write_frame(b"a")
            reading = await reader.next_group()
            assert await frame(reading) == b"a"
            track.finish()
            # A group that was begun is still written to its end.
            group.write_frame(b"b")
            group.finish()
            assert await frame(reading) == b"b"
            assert await reader.next_group() is None

    async def test_finished_broadcast(self, linked: Linked) -> None:
        async with linked() as link:
            broadcast, track = published(link)
            track.write_frame(b"only")
            reader = await subscribed(link, max_age_us=SHORT)
            assert await read_group(reader) == (0, [b"only"])
            broadcast.finish()
            assert await reader.next_group() is None

    async def test_track_that_is_not_there(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            assert await code_of(first_group(subscribed(link, track="nope"))) == ErrorCode.NOT_FOUND
            # The rest of the session is none the worse.
            track.write_frame(b"x")
            assert await read_group(await subscribed(link)) == (0, [b"x"])

    async def test_broadcast_that_is_not_there(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            await link.remote.announced_broadcast("room")
            # To Rust an announced path covers what is below it, so it asks us.
            below = await link.remote.request_broadcast("room/nope")
            missing = below.subscribe_track("video", moq.Subscription(max_age_us=LONG))
            assert await code_of(first_group(missing)) == ErrorCode.NOT_FOUND
            track.write_frame(b"x")
            assert await read_group(await subscribed(link)) == (0, [b"x"])

    async def test_aborted_group(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            group = track.append_group()
            group.write_frame(b"whole")
            reader = await subscribed(link)
            reading = await reader.next_group()
            assert reading is not None
            assert await frame(reading) == b"whole"
            failing = asyncio.ensure_future(reading.read_frame())
            group.abort(64 + 7)
            # Rust looks at the reset only with our next packet.
            track.write_frame(b"next")
            assert await read_group(reader) == (1, [b"next"])
            assert await code_of(failing) == 64 + 7

    @pytest.mark.parametrize("what", ["track", "broadcast"])
    async def test_aborted(self, linked: Linked, what: str) -> None:
        async with linked() as link:
            broadcast, track = published(link)
            track.write_frame(b"whole")
            reader = await subscribed(link)
            assert await read_group(reader) == (0, [b"whole"])
            failing = asyncio.ensure_future(reader.next_group())
            (track if what == "track" else broadcast).abort(64 + 9)
            assert await code_of(failing) == 64 + 9
            # Only what was aborted: another broadcast is served as before.
            _, other = published(link, path="other")
            other.write_frame(b"x")
            assert await read_group(await subscribed(link, "other")) == (0, [b"x"])

    async def test_aborted_before_anyone_came(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"lost")
            track.abort(64 + 3)
            reader = await subscribed(link)
            assert await code_of(reader.next_group()) == 64 + 3


def _hash(groups: Iterable[list[bytes]]) -> str:
    return sha256(repr(list(groups)).encode()).hexdigest()

"""The Rust stack publishes, we subscribe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import sha256
from random import Random
from typing import Any

import moq
import pytest

from iroh_moq import ErrorCode, GroupConsumer, MoqError, OriginConsumer, TrackConsumer
from iroh_moq.errors import canonical
from iroh_moq.lite.messages import Subscribe
from iroh_moq.model import Subscription
from iroh_moq.transport import StreamReset
from tests.rust.conftest import Link, Linked, rust_dials, setups, two_links, we_dial
from tests.rust.peers import publish


def published(link: Link, path: str = "room") -> tuple[moq.BroadcastProducer, moq.TrackProducer]:
    """A broadcast of Rust's with the one track ``video``."""
    broadcast, *tracks = publish(link.origin, path, "video")
    return broadcast, tracks[0]


async def subscribed(
    link: Link, path: str = "room", track: str = "video", *, ordered: bool = False, **wishes: Any
) -> TrackConsumer:
    """A consumer of that track of Rust's."""
    return (await link.session.subscribe(path)).subscribe_track(track, ordered=ordered, **wishes)


async def read_group(track: TrackConsumer) -> tuple[int, list[bytes]]:
    """The next group, whole."""
    return await whole(await track.next_group())


async def whole(group: GroupConsumer | None) -> tuple[int, list[bytes]]:
    """A group's number and its frames."""
    assert group is not None
    return group.sequence, [frame async for frame in group]


async def news(origin: OriginConsumer) -> tuple[str, bool]:
    """The next news: a path, and whether it has come."""
    told = await origin.announced()
    assert told is not None
    return told[0], told[1] is not None


def write(track: moq.TrackProducer, frames: Iterable[bytes], sequence: int | None = None) -> None:
    """Writes a whole group."""
    group = track.append_group() if sequence is None else track.create_group(sequence)
    for frame in frames:
        group.write_frame(frame)
    group.finish()


class TestAnnouncements:
    async def test_coming_and_going(self, linked: Linked) -> None:
        async with linked() as link:
            before, _ = published(link, "before")
            origin = link.session.origin_consumer()
            assert await news(origin) == ("before", True)
            later, _ = published(link, "a/longer/path")
            assert await news(origin) == ("a/longer/path", True)
            before.close()
            assert await news(origin) == ("before", False)
            later.unannounce()
            assert await news(origin) == ("a/longer/path", False)
            later.announce()
            assert await news(origin) == ("a/longer/path", True)

    async def test_replaced(self, linked: Linked) -> None:
        async with linked() as link:
            old, old_track = published(link)
            old_track.write_frame(b"old")
            origin = link.session.origin_consumer()
            assert await news(origin) == ("room", True)
            first = await link.session.subscribe("room")
            assert await read_group(first.subscribe_track("video")) == (0, [b"old"])

            # Rust sends the end and the beginning in one write.
            old.close()
            new, new_track = published(link)
            new_track.write_frame(b"new")
            assert [await news(origin) for _ in range(2)] == [("room", False), ("room", True)]
            assert await first.closed() is None
            second = await link.session.subscribe("room")
            assert second != first
            assert await read_group(second.subscribe_track("video")) == (0, [b"new"])
            assert not second.is_closed
            new.close()
            assert await news(origin) == ("room", False)

    async def test_waiting_for_what_is_announced_later(self, linked: Linked) -> None:
        async with linked() as link:
            waiting = [asyncio.ensure_future(link.session.subscribe(f"room {number}")) for number in range(3)]
            # The order of coming is not the order of asking, and there is one that nobody asked for.
            kept = [published(link, f"room {number}") for number in (2, 0, 3, 1)]
            broadcasts = await asyncio.gather(*waiting)
            assert not any(broadcast.is_closed for broadcast in broadcasts)
            for broadcast, _ in kept:
                broadcast.close()
            assert [await broadcast.closed() for broadcast in broadcasts] == [None] * 3

    async def test_many_names(self, linked: Linked) -> None:
        names = {f"room {number}/größe/{'x' * (number % 50)}名" for number in range(500)}
        async with linked() as link:
            kept = [published(link, name) for name in names]
            origin = link.session.origin_consumer()
            assert {await news(origin) for _ in names} == {(name, True) for name in names}
            for broadcast, _ in kept:
                broadcast.close()
            assert {await news(origin) for _ in names} == {(name, False) for name in names}

    async def test_hops(self, linked: Linked) -> None:
        async with linked() as link:
            kept = published(link, "near"), publish(link.origin, "far", route=moq.Route(hops=[5, 6, 7]))
            assert (await link.session.subscribe("near")).hops == 1
            assert (await link.session.subscribe("far")).hops == 4
            assert kept

    async def test_a_broadcast_taken_back_goes_on_for_its_readers(self, linked: Linked) -> None:
        async with linked() as link:
            broadcast, track = published(link)
            track.write_frame(b"one")
            consumer = await link.session.subscribe("room")
            async with consumer.subscribe_track("video") as reader:
                assert await read_group(reader) == (0, [b"one"])
                broadcast.unannounce()
                assert await consumer.closed() is None
                track.write_frame(b"two")
                assert await read_group(reader) == (1, [b"two"])


class TestGroups:
    async def test_a_thousand_at_once(self, linked: Linked) -> None:
        groups = [[Random(number).randbytes(number % 700) for _ in range(number % 4)] for number in range(1000)]
        async with linked() as link:
            _, track = published(link)
            for frames in groups:
                write(track, frames)
            track.finish()
            reader = await subscribed(link, ordered=True, start_group=0)
            received = [await whole(group) async for group in reader]
            assert [sequence for sequence, _ in received] == list(range(1000))
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
        async with rust_dials() as link:
            _, track = published(link)
            track.write_frame(data)
            _, frames = await read_group(await subscribed(link))
            assert [(len(frame), sha256(frame).digest()) for frame in frames] == [(len(data), sha256(data).digest())]

    async def test_empty_frames_and_empty_groups(self, linked: Linked) -> None:
        groups: list[list[bytes]] = [[], [b""], [b"", b"", b""], [b"", b"x", b""], []]
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"start")
            reader = await subscribed(link)
            assert await read_group(reader) == (0, [b"start"])
            for number, frames in enumerate(groups, 1):
                write(track, frames)
                assert await read_group(reader) == (number, frames)

    async def test_frames_arrive_as_they_are_written(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            writing = track.append_group()
            writing.write_frame(b"0")
            reader = await subscribed(link)
            group = await reader.next_group()
            assert group is not None
            assert await group.read_frame() == b"0"
            for number in range(1, 100):
                writing.write_frame(b"%d" % number)
                assert await group.read_frame() == b"%d" % number
            writing.finish()
            assert await group.read_frame() is None

    async def test_many_frames_in_one_group(self) -> None:
        # Rust takes at most 8192 frames in a group.
        frames = [Random(number).randbytes(number % 300) for number in range(8192)]
        async with we_dial() as link:
            _, track = published(link)
            write(track, frames)
            assert await read_group(await subscribed(link)) == (0, frames)

    async def test_numbers_of_their_choice(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"0")
            reader = await subscribed(link)
            assert await whole(await reader.recv_group()) == (0, [b"0"])
            for sequence in (7, 5, 1 << 40):
                write(track, [b"%d" % sequence], sequence)
                assert await whole(await reader.recv_group()) == (sequence, [b"%d" % sequence])


class TestSubscriptions:
    async def test_used_and_unused(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            consumer = await link.session.subscribe("room")
            for number in range(3):
                reader = consumer.subscribe_track("video")
                await track.used()
                track.write_frame(b"%d" % number)
                while (await read_group(reader))[0] < number:
                    # The first group of a new subscription is the latest one from before.
                    pass
                reader.close()
                await track.unused()

    async def test_an_unfinished_group_is_left_with_the_track(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            writing = track.append_group()
            writing.write_frame(b"one")
            async with await subscribed(link) as reader:
                group = await reader.next_group()
                assert group is not None
                assert await group.read_frame() == b"one"
            await track.unused()
            with pytest.raises(MoqError) as caught:
                await group.read_frame()
            assert caught.value.code == ErrorCode.CANCEL

    async def test_late_joiner_gets_the_latest_group_from_its_first_frame(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(5):
                track.write_frame(b"%d" % number)
            writing = track.append_group()
            writing.write_frame(b"first")
            writing.write_frame(b"second")
            reader = await subscribed(link)
            group = await reader.next_group()
            assert group is not None
            assert group.sequence == 5
            writing.write_frame(b"third")
            writing.finish()
            assert [frame async for frame in group] == [b"first", b"second", b"third"]

    async def test_start_and_end_group(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(10):
                track.write_frame(b"%d" % number)
            reader = await subscribed(link, ordered=True, start_group=3, end_group=6)
            assert [await read_group(reader) for _ in range(4)] == [(n, [b"%d" % n]) for n in range(3, 7)]

    async def test_start_group_that_has_yet_to_come(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"0")
            reader = await subscribed(link, start_group=2)
            await track.used()
            track.write_frame(b"1")
            track.write_frame(b"2")
            assert await read_group(reader) == (2, [b"2"])

    @pytest.mark.parametrize(
        ("wishes", "first"),
        [
            ({"max_latency": 0}, 9),
            ({"max_latency": 2.499}, 6),
            ({"max_latency": 2.501}, 5),
            # What Rust keeps by itself, for those who ask for more.
            ({"ordered": True}, 3),
        ],
    )
    async def test_groups_past_the_latency_do_not_come(
        self, linked: Linked, wishes: dict[str, Any], first: int
    ) -> None:
        """Rust counts the age of a group on the timestamps of its frames, from where the next group begins."""
        async with linked() as link:
            _, track = published(link)
            # At the last one, group 5 is past by 8.5 - 6 = 2.5 seconds.
            for number in range(10):
                track.write_frame(b"%d" % number, timestamp_us=min(number * 1_000_000, 8_500_000))
            track.finish()
            reader = await subscribed(link, start_group=0, **wishes)
            assert [(await whole(group))[0] async for group in reader] == list(range(first, 10))

    async def test_held_at_end_group_until_an_update_raises_it(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            for number in range(8):
                track.write_frame(b"%d" % number)
            reader = await subscribed(link, ordered=True, start_group=2, end_group=4)
            assert [(await read_group(reader))[0] for _ in range(3)] == [2, 3, 4]
            # Another track in between: whatever Rust was about to send has come. The three groups and this one.
            _, other = published(link, "other")
            other.write_frame(b"x")
            assert await read_group(await subscribed(link, "other")) == (0, [b"x"])
            assert link.transport.quic._local_max_streams_uni.used == setups(link.transport) + 3 + 1

            reader.update(end_group=7)
            assert [(await read_group(reader))[0] for _ in range(3)] == [5, 6, 7]
            reader.update(end_group=None)
            track.write_frame(b"8")
            assert await read_group(reader) == (8, [b"8"])

    async def test_two_peers_get_all_the_data(self) -> None:
        async with two_links() as links:
            tracks = [published(link) for link in links]
            readers = [await subscribed(link, ordered=True, start_group=0) for link in links]
            for number in range(200):
                for _, track in tracks:
                    track.write_frame(Random(number).randbytes(2000))
            for reader in readers:
                received = [await read_group(reader) for _ in range(200)]
                assert received == [(number, [Random(number).randbytes(2000)]) for number in range(200)]
            readers[0].close()
            await tracks[0][1].unused()
            tracks[1][1].write_frame(b"more")
            assert await read_group(readers[1]) == (200, [b"more"])

    async def test_two_readers_in_one_session_get_all_the_data(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"0")
            consumer = await link.session.subscribe("room")
            shared = [consumer.subscribe_track("video") for _ in range(2)]
            # A reliable one has a subscription of its own.
            readers = [*shared, consumer.subscribe_track("video", ordered=True)]
            for reader in readers:
                assert await read_group(reader) == (0, [b"0"])
            for number in range(1, 51):
                track.write_frame(b"%d" % number)
                for reader in readers:
                    assert await read_group(reader) == (number, [b"%d" % number])
            shared[0].close()
            track.write_frame(b"more")
            for reader in readers[1:]:
                assert await read_group(reader) == (51, [b"more"])

    async def test_hundreds_of_tracks(self, dialled: Linked) -> None:
        async with dialled() as link:
            names = [f"track {number}" for number in range(300)]
            _, *tracks = publish(link.origin, "room", *names)
            for number, track in enumerate(tracks):
                track.write_frame(b"first of %d" % number)
            consumer = await link.session.subscribe("room")
            readers = [consumer.subscribe_track(name) for name in names]
            first = await asyncio.gather(*map(read_group, readers))
            assert first == [(0, [b"first of %d" % number]) for number in range(300)]
            for number, track in enumerate(tracks):
                track.write_frame(b"second of %d" % number)
            second = await asyncio.gather(*map(read_group, readers))
            assert second == [(1, [b"second of %d" % number]) for number in range(300)]
            for reader in readers:
                reader.close()
            await asyncio.gather(*(track.unused() for track in tracks))

    async def test_tracks_made_when_asked_for(self, linked: Linked) -> None:
        async with linked() as link:
            broadcast = link.origin.create_broadcast("room")
            async with broadcast.dynamic() as requests:
                broadcast.announce()
                reading = asyncio.ensure_future(read_group(await subscribed(link, track="made up")))
                request = await anext(requests)
                assert request.name == "made up"
                track = request.accept()
                track.write_frame(b"made")
                assert await reading == (0, [b"made"])

                unwanted = await subscribed(link, track="unwanted")
                (await anext(requests)).abort(5)
                with pytest.raises(MoqError) as caught:
                    await unwanted.next_group()
                assert caught.value.code == 64 + 5


class TestPriorities:
    @pytest.mark.parametrize("low_first", [True, False])
    async def test_the_higher_one_arrives_first(self, low_first: bool) -> None:
        """Both are queued when we ask, and the connection is far slower than the Rust side writes."""
        size, frames = 50_000, 80
        async with we_dial() as link:
            broadcast, *tracks = publish(link.origin, "room", "low", "high")
            for track in tracks:
                write(track, [bytes(size)] * frames)
            consumer = await link.session.subscribe("room")
            order = [("low", 10), ("high", 200)]
            readers = {
                name: consumer.subscribe_track(name, priority=priority)
                for name, priority in (order if low_first else reversed(order))
            }
            groups = {name: await reader.next_group() for name, reader in readers.items()}
            high, low = groups["high"], groups["low"]
            assert high is not None
            assert low is not None
            assert len(await high.read_all()) == size * frames
            early = len(low._state.frames)
            assert len(await low.read_all()) == size * frames
            assert early < frames / 4
            assert broadcast


class TestEnds:
    async def test_finished_track(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            writing = track.append_group()
            writing.write_frame(b"a")
            reader = await subscribed(link)
            group = await reader.next_group()
            assert group is not None
            assert await group.read_frame() == b"a"
            track.finish()
            # A group that was begun is still written to its end.
            writing.write_frame(b"b")
            writing.finish()
            assert [frame async for frame in group] == [b"b"]
            assert await reader.next_group() is None

    async def test_finished_before_anyone_came(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"only")
            track.finish()
            reader = await subscribed(link)
            assert [await whole(group) async for group in reader] == [(0, [b"only"])]

    async def test_track_that_is_not_there(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            await _assert_fails(await subscribed(link, track="nope"), ErrorCode.NOT_FOUND)
            # The rest of the session is none the worse.
            track.write_frame(b"x")
            assert await read_group(await subscribed(link)) == (0, [b"x"])

    async def test_broadcast_that_is_not_there(self, linked: Linked) -> None:
        """A session subscribes only to what is announced, so this asks for it by hand."""
        async with linked() as link:
            _, track = published(link)
            await link.session.subscribe("room")
            send, recv = await link.transport.open_bi()
            await send.write(Subscribe(99, "nope", "video", Subscription()).encode())
            with pytest.raises(StreamReset) as caught:
                await recv.read()
            assert canonical(caught.value.code) == ErrorCode.UNROUTABLE
            send.reset(ErrorCode.CANCEL)
            track.write_frame(b"x")
            assert await read_group(await subscribed(link)) == (0, [b"x"])

    async def test_aborted_group(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            writing = track.append_group()
            writing.write_frame(b"whole")
            reader = await subscribed(link)
            group = await reader.next_group()
            assert group is not None
            assert await group.read_frame() == b"whole"
            writing.abort(7)
            # Rust sends the reset only with something that follows.
            track.write_frame(b"next")
            assert await read_group(reader) == (1, [b"next"])
            with pytest.raises(MoqError) as caught:
                await group.read_frame()
            assert caught.value.code == 64 + 7

    async def test_aborted_track(self, linked: Linked) -> None:
        async with linked() as link:
            _, track = published(link)
            track.write_frame(b"whole")
            reader = await subscribed(link)
            assert await read_group(reader) == (0, [b"whole"])
            track.abort(9)
            await _assert_fails(reader, 64 + 9)
            # Only what was aborted: another broadcast is served as before.
            _, other = published(link, "other")
            other.write_frame(b"x")
            assert await read_group(await subscribed(link, "other")) == (0, [b"x"])


async def _assert_fails(reader: TrackConsumer, code: int) -> None:
    with pytest.raises(MoqError) as caught:
        await reader.next_group()
    assert caught.value.code == code


def _hash(groups: Iterable[list[bytes]]) -> str:
    return sha256(repr(list(groups)).encode()).hexdigest()

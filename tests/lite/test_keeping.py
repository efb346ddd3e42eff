"""What outlives a connection: numbers, groups that were cut off, and broadcasts that come again or do not."""

from __future__ import annotations

from typing import Any

import pytest

from iroh_moq import (
    BroadcastProducer,
    ErrorCode,
    MoqError,
    NotAnnounced,
    SessionClosed,
    SessionError,
    TrackProducer,
)
from iroh_moq.lite import LiteSession, keeping, subscriber
from iroh_moq.lite.keeping import Kept, Progress
from iroh_moq.lite.version import VERSIONS
from iroh_moq.model import OriginProducer
from iroh_moq.model.track import TrackState
from iroh_moq.transport.memory import MemoryTransport
from tests.conftest import MakePair, idle, within

LOST = SessionError(None, "lost")


def track_with(*groups: int, open_: tuple[int, ...] = ()) -> TrackState:
    track = TrackState("video")
    for number in (*groups, *open_):
        group = track.create_group(number)
        group.write(b"%d" % number)
        if number not in open_:
            group.finish()
    return track


def progress_of(track: TrackState) -> Progress:
    """That of a reader which has had all of it, in order."""
    progress = Progress()
    for number in sorted(track.groups):
        progress.begun(number)
        progress.begins_with(number, b"%d" % number)
        progress.reached(number, track)
    return progress


class TestProgress:
    def test_what_is_whole_is_not_asked_for_again(self) -> None:
        track = track_with(0, 1, 2)
        progress = progress_of(track)
        progress.lost(track, reliable=True)
        assert progress.first == 3
        assert all(progress.has_had(number) for number in range(3))
        assert not progress.has_had(3)

    def test_a_reliable_track_goes_back_to_what_was_cut_off(self) -> None:
        track = track_with(0, 2, open_=(1,))
        progress = progress_of(track)
        progress.lost(track, reliable=True)
        assert progress.first == 1
        assert progress.take_open(1) is track.groups[1]
        assert progress.take_open(1) is None

    def test_a_live_track_goes_on_with_the_latest_alone(self) -> None:
        track = track_with(open_=(1, 2))
        old = track.groups[1]
        progress = progress_of(track)
        progress.lost(track, reliable=False)
        assert progress.first == 2
        assert isinstance(old.error, MoqError)
        assert progress.take_open(2) is track.groups[2]

    def test_what_overtook_waits_for_what_is_missing(self) -> None:
        track = track_with(0, 2)
        progress = Progress()
        progress.begun(0)
        progress.reached(0, track)
        progress.begun(2)
        track.groups[2].early = True
        progress.lost(track, reliable=True)
        assert progress.first == 1
        assert progress.has_had(2)
        assert not progress.has_had(1)
        assert track.groups[2].early
        group = track.create_group(1)
        progress.begun(1)
        progress.reached(1, track)
        assert track.groups[2].early
        assert group.sequence == 1
        # The stream of group 2 comes once more, and says that no older one is on its way.
        progress.reached(2, track)
        assert not track.groups[2].early

    def test_a_second_loss_remembers_what_the_first_knew(self) -> None:
        track = track_with(0, 2)
        progress = Progress()
        progress.begun(0)
        progress.reached(0, track)
        progress.begun(2)
        progress.lost(track, reliable=True)
        progress.lost(track, reliable=True)
        assert progress.first == 1
        assert progress.has_had(2)

    def test_the_rest_of_a_group_that_does_not_come_is_given_up(self) -> None:
        track = track_with(0, open_=(1,))
        progress = progress_of(track)
        cut = track.groups[1]
        progress.lost(track, reliable=True)
        progress.begun(2)
        progress.reached(2, track)
        assert isinstance(cut.error, MoqError)
        assert 1 not in track.groups

    def test_so_is_it_when_the_track_ends(self) -> None:
        track = track_with(0, open_=(1,))
        progress = progress_of(track)
        cut = track.groups[1]
        progress.lost(track, reliable=True)
        progress.completed(track)
        assert isinstance(cut.error, MoqError)

    @pytest.mark.parametrize("reliable", [False, True])
    def test_a_later_group_is_of_the_same_count(self, reliable: bool) -> None:
        track = track_with(0, 1)
        progress = progress_of(track)
        progress.lost(track, reliable)
        progress.meet(2, None, track, reliable)
        assert (progress.offset, progress.first) == (0, 2)

    @pytest.mark.parametrize("reliable", [False, True])
    def test_a_group_that_begins_as_it_did_is_of_the_same_count(self, reliable: bool) -> None:
        track = track_with(0, 1)
        progress = progress_of(track)
        progress.lost(track, reliable)
        progress.meet(0, hash(b"0"), track, reliable)
        assert (progress.offset, progress.first) == (0, 2)

    @pytest.mark.parametrize(("reliable", "offset"), [(False, 1), (True, 2)])
    def test_one_that_begins_otherwise_is_not(self, reliable: bool, offset: int) -> None:
        """A live reader goes on with it, a reliable one with all that there is."""
        track = track_with(0, 1)
        progress = progress_of(track)
        progress.lost(track, reliable)
        progress.meet(1, hash(b"other"), track, reliable)
        assert (progress.offset, progress.first) == (offset, 2)

    def test_the_numbers_go_on_after_what_overtook(self) -> None:
        track = track_with(0, 5)
        progress = Progress()
        progress.begun(0)
        progress.begins_with(0, b"0")
        progress.reached(0, track)
        progress.begun(5)
        progress.lost(track, reliable=True)
        progress.meet(0, hash(b"other"), track, reliable=True)
        assert (progress.offset, progress.first) == (6, 6)

    def test_few_that_have_overtaken_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeping, "_AHEAD", 3)
        progress = Progress()
        for number in range(1, 5):
            progress.begun(number)
        assert (progress.through, progress._ahead) == (5, set())

    def test_few_first_frames_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeping, "_HEADS", 2)
        progress = Progress()
        for number in range(5):
            progress.begins_with(number, b"x")
        assert sorted(progress._heads) == [3, 4]


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> Any:
    return request.param


class Kit:
    """A session that comes back, over one connection after another."""

    def __init__(self, make: MakePair, version: Any) -> None:
        self._make = make
        self.version = version
        self.kept = Kept()
        self.kept.enabled = True
        self.offered, self.received = OriginProducer(), OriginProducer()
        self.session: LiteSession
        self.peer: MemoryTransport
        self.sessions: list[LiteSession] = []
        self.connect()

    def connect(self) -> None:
        ours, self.peer = self._make(alpn=self.version.alpn)
        self.session = LiteSession(ours, self.offered.consume(), self.received, kept=self.kept)
        self.sessions.append(self.session)

    async def lose(self) -> None:
        self.peer.lose()
        async with within():
            await self.session.closed()

    async def close(self) -> None:
        self.kept.enabled = False
        self.session.close(0, "")
        self.kept.end(self.received._state, SessionClosed(LOST))
        async with within():
            for session in self.sessions:
                await session.closed()


@pytest.fixture
async def kit(memory_pair: MakePair, version: Any) -> Any:
    kit = Kit(memory_pair, version)
    yield kit
    await kit.close()


class TestBroadcasts:
    """With a peer of ours, as what is announced and how differs from version to version."""

    async def serve(self, kit: Kit) -> tuple[LiteSession, OriginProducer]:
        offered = OriginProducer()
        return LiteSession(kit.peer, offered.consume(), OriginProducer()), offered

    async def test_one_that_does_not_come_again_is_taken_back(self, kit: Kit) -> None:
        first, offered = await self.serve(kit)
        stays, goes = BroadcastProducer(), BroadcastProducer()
        offered.publish_broadcast("stays", stays.consume())
        offered.publish_broadcast("goes", goes.consume())
        async with within():
            here = await kit.received.consume().wait_broadcast("stays")
            gone = await kit.received.consume().wait_broadcast("goes")
        reader = gone.subscribe_track("video")
        await kit.lose()
        await first.closed()
        assert not gone.is_closed
        kit.connect()
        second, offered = await self.serve(kit)
        offered.publish_broadcast("stays", stays.consume())
        await idle()
        assert not gone.is_closed
        # What the timer does.
        kit.kept._expire()
        async with within():
            assert await gone.closed() is None
            with pytest.raises(MoqError, match="'goes' was not announced again") as caught:
                await reader.next_group()
            assert caught.value.code == ErrorCode.DROPPED
        assert not here.is_closed
        assert kit.received.consume_broadcast("stays") == here
        second.close(0, "")
        await second.closed()

    async def test_a_peer_whose_announcements_end_first_comes_back(self, kit: Kit) -> None:
        """Tasks of a peer that goes can end before its connection does."""
        first, offered = await self.serve(kit)
        producer = BroadcastProducer()
        offered.publish_broadcast("cam", producer.consume())
        async with within():
            here = await kit.received.consume().wait_broadcast("cam")
        for task in first._tasks._tasks:
            if task.get_name().endswith(": stream"):
                task.cancel()
        await idle()
        await kit.lose()
        await first.closed()
        assert not here.is_closed
        kit.connect()
        second, offered = await self.serve(kit)
        offered.publish_broadcast("cam", producer.consume())
        await idle()
        assert kit.received.consume_broadcast("cam") == here
        second.close(0, "")
        await second.closed()

    async def test_one_that_stops_announcing_and_stays_has_nothing_until_it_comes_back(
        self, kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriber, "_LEAVING", 0)
        first, offered = await self.serve(kit)
        offered.publish_broadcast("cam", BroadcastProducer().consume())
        async with within():
            here = await kit.received.consume().wait_broadcast("cam")
            offered._state.close(None)
            assert await here.closed() is None
            with pytest.raises(NotAnnounced):
                await kit.received.consume().wait_broadcast("cam")
        await kit.lose()
        await first.closed()
        kit.connect()
        second, offered = await self.serve(kit)
        offered.publish_broadcast("cam", BroadcastProducer().consume())
        async with within():
            assert await kit.received.consume().wait_broadcast("cam")
        second.close(0, "")
        await second.closed()

    async def offer(self, kit: Kit) -> tuple[LiteSession, TrackProducer]:
        """A peer that has begun to offer a broadcast with one track."""
        session, offered = await self.serve(kit)
        producer = BroadcastProducer()
        track = producer.create_track("video")
        offered.publish_broadcast("cam", producer.consume())
        return session, track

    async def test_a_reader_that_leaves_while_it_is_looked_what_the_peer_has(self, kit: Kit) -> None:
        first, track = await self.offer(kit)
        async with within():
            here = await kit.received.consume().wait_broadcast("cam")
            reader = here.subscribe_track("video")
            await track.used()
            track.write_frame(b"0")
            assert await reader.read_frame() == b"0"
        await kit.lose()
        await first.closed()
        kit.connect()
        # One that was restarted, and has no group yet.
        second, track = await self.offer(kit)
        async with within():
            await track.used()
            reader.close()
            await track.unused()
        second.close(0, "")
        await second.closed()

    async def test_a_group_of_a_peer_that_counts_anew_is_not_mixed_with_one_that_was_cut_off(self, kit: Kit) -> None:
        first, track = await self.offer(kit)
        async with within():
            here = await kit.received.consume().wait_broadcast("cam")
            reader = here.subscribe_track("video", ordered=True)
            await track.used()
            begun = track.append_group()
            begun.write_frame(b"old key")
            begun.write_frame(b"old change")
            group = await reader.next_group()
            assert group is not None
            assert [await group.read_frame(), await group.read_frame()] == [b"old key", b"old change"]
        await kit.lose()
        await first.closed()
        kit.connect()
        # Its numbers are beyond those of before already.
        second, track = await self.offer(kit)
        for number in range(3):
            with track.append_group() as new:
                for part in (b"key", b"change", b"change"):
                    new.write_frame(b"new %s %d" % (part, number))
        async with within():
            with pytest.raises(MoqError) as caught:
                await group.read_frame()
            assert caught.value.code == ErrorCode.OLD
            assert await reader.read_frame() == b"new key 1"
        second.close(0, "")
        await second.closed()

    async def test_all_end_when_nothing_follows(self, kit: Kit) -> None:
        first, offered = await self.serve(kit)
        producer = BroadcastProducer()
        offered.publish_broadcast("cam", producer.consume())
        async with within():
            broadcast = await kit.received.consume().wait_broadcast("cam")
        reader = broadcast.subscribe_track("video")
        await kit.lose()
        await first.closed()
        kit.kept.end(kit.received._state, SessionClosed(SessionError(5, "enough")))
        async with within():
            assert isinstance(await broadcast.closed(), SessionClosed)
            with pytest.raises(SessionClosed, match="enough"):
                await reader.next_group()
            with pytest.raises(SessionClosed):
                await kit.received.consume().wait_broadcast("other")

"""A path that carries half of what is written: what of it arrives whole, and how recent that is."""

from __future__ import annotations

from typing import Any

import pytest

from iroh_moq import Cache, ErrorCode, Subscription, TrackProducer
from iroh_moq.lite.messages import SubscribeUpdate
from iroh_moq.lite.version import LITE_03, LITE_05, Version
from iroh_moq.lite.wire import peek_varint
from iroh_moq.transport import RecvStream, StreamReset
from tests.conftest import MakePair, idle
from tests.lite.peer import Lite
from tests.lite.test_publisher_versions import speaking

GROUP = 10_000
"""Bytes of a group."""


class Path:
    """Takes what our side sends in the order of its priorities, so many bytes at a time."""

    def __init__(self, run: Lite) -> None:
        self.run = run
        self.now = 0
        self.whole: list[tuple[int, int, int]] = []
        """Subscription, number, and how many steps after it was written, of every group that came whole."""
        self.lost: list[tuple[int, int]] = []
        """Number and code of those that were given up half way."""
        self._streams: dict[RecvStream, bytearray] = {}

    async def carry(self, size: int) -> None:
        """One step of time."""
        await idle()
        while size > 0:
            while (stream := self.run.peer.accept_uni_nowait()) is not None:
                self._streams[stream] = bytearray()
            ready = [stream for stream in self._streams if self._pipe(stream).chunks or self._over(stream)]
            if not ready:
                break
            stream = max(ready, key=lambda stream: int(self._pipe(stream).priority))
            size -= self._read(stream, size)
            await idle()
        self.now += 1

    def _read(self, stream: RecvStream, size: int) -> int:
        received = self._streams[stream]
        try:
            data = stream.read_nowait(size)
        except StreamReset as error:
            del self._streams[stream]
            if received:
                self.lost.append((_header(received)[1], error.code))
            return 0
        if data:
            received += data
            return len(data)
        del self._streams[stream]
        subscription, number = _header(received)
        self.whole.append((subscription, number, self.now - number))
        return 0

    @staticmethod
    def _pipe(stream: RecvStream) -> Any:
        return stream._pipe  # type: ignore[attr-defined]

    def _over(self, stream: RecvStream) -> bool:
        pipe = self._pipe(stream)
        return bool(pipe.finished) or pipe.reset is not None

    @property
    def wasted(self) -> int:
        """Bytes that were carried of groups that never came whole."""
        return sum(len(received) for received in self._streams.values())


def _header(data: bytearray) -> tuple[int, int]:
    subscription = peek_varint(data, 2)
    assert subscription is not None
    number = peek_varint(data, subscription[1])
    assert number is not None
    return subscription[0], number[0]


def write(track: TrackProducer) -> None:
    track.write_frame(bytes(GROUP))


async def narrow(run: Lite, steps: int, *, carried: int = GROUP // 2, **wishes: Any) -> Path:
    """A group each step, of which the path carries a part."""
    run.ours.congestion_window = 2 * GROUP
    _, track = run.publish()
    path = Path(run)
    exchange = await run.subscribe(**wishes)
    await idle()
    for _ in range(steps):
        write(track)
        await path.carry(carried)
    assert exchange
    return path


versions = pytest.mark.parametrize("version", [LITE_03, LITE_05], ids=repr)


class TestWholeGroups:
    @versions
    async def test_most_of_what_the_path_carries_arrives_whole_and_is_recent(
        self, memory_pair: MakePair, version: Version
    ) -> None:
        async with speaking(memory_pair, version) as run:
            path = await narrow(run, 400)
            # 200 are what it could carry at most.
            assert len(path.whole) >= 185
            assert max(age for _, _, age in path.whole) <= 16

    @pytest.mark.parametrize("ordered", [False, True])
    async def test_with_a_limit_of_age(self, memory_pair: MakePair, ordered: bool) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            path = await narrow(run, 400, max_latency=0.05, ordered=ordered)
            assert len(path.whole) >= 150

    async def test_the_newest_come_first_and_the_rest_when_there_is_room(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            path = await narrow(run, 100)
            during = [number for _, number, _ in path.whole]
            assert during == sorted(during)
            for _ in range(110):
                await path.carry(GROUP)
            later = [number for _, number, _ in path.whole][len(during) :]
            # What was committed, and then back to what was written long ago: nothing is lost that is kept.
            assert later[6:] == sorted(later[6:], reverse=True)
            assert sorted(during + later) == list(range(100))

    async def test_a_reliable_reader_loses_nothing_and_has_them_in_order(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            path = await narrow(run, 60, ordered=True)
            for _ in range(70):
                await path.carry(GROUP)
            assert [number for _, number, _ in path.whole] == list(range(60))
            assert path.wasted == 0

    async def test_a_group_that_is_still_written_gives_way_to_a_newer_one(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            run.ours.congestion_window = 2 * GROUP
            _, track = run.publish()
            path = Path(run)
            kept = await run.subscribe()
            await idle()
            run.begin(track, bytes(GROUP))
            await path.carry(GROUP // 2)
            run.begin(track, bytes(GROUP))
            await path.carry(GROUP)
            assert kept
            sent = {_header(received)[1]: len(received) for received in path._streams.values()}
            assert sent[1] > sent[0] == GROUP // 2

    async def test_who_is_live_goes_before_who_is_reliable(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            run.ours.congestion_window = 2 * GROUP
            _, track = run.publish()
            path = Path(run)
            kept = [await run.subscribe(0, ordered=True), await run.subscribe(1)]
            await idle()
            for _ in range(100):
                write(track)
                await path.carry(GROUP)
            counts = [sum(subscription == which for subscription, _, _ in path.whole) for which in (0, 1)]
            assert counts[1] >= 95
            assert kept

    async def test_one_that_leaves_the_cache_while_it_waits(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            run.ours.congestion_window = 2 * GROUP
            _, track = run.publish(cache=Cache(max_bytes=15 * GROUP))
            path = Path(run)
            kept = await run.subscribe()
            await idle()
            for _ in range(100):
                write(track)
                await path.carry(GROUP // 2)
            assert {code for _, code in path.lost} == {ErrorCode.EVICTED}
            for _ in range(30):
                await path.carry(GROUP)
            # All that was kept has come.
            assert {number for _, number, _ in path.whole} >= set(range(90, 100))
            assert kept

    async def test_a_number_that_is_given_again_while_the_first_of_it_waits(self, memory_pair: MakePair) -> None:
        """As an upstream peer of a relay can have it."""

        def whole(number: int, size: int) -> None:
            group = track.create_group(number)
            group.write_frame(bytes(size))
            group.finish()

        async with speaking(memory_pair, LITE_05) as run:
            run.ours.congestion_window = 1
            _, track = run.publish(cache=Cache(max_bytes=100 * GROUP))
            path = Path(run)
            kept = await run.subscribe()
            await idle()
            # The first two are committed, and never read; the next two wait for room, 9 before 5.
            for number in (0, 1, 9, 5):
                whole(number, 10 * GROUP)
                await idle()
            whole(10, 80 * GROUP)
            assert track._state.sequences == [9, 10]
            again = track.create_group(5)
            await idle()
            again.write_frame(b"again")
            again.finish()
            await idle()
            # Now 9 and 5 leave the cache, and both that had the number 5 are known to be gone.
            whole(11, 90 * GROUP)
            await idle()
            for _ in range(5):
                await path.carry(100 * GROUP)
            assert sorted(number for _, number, _ in path.whole) == [0, 1, 5, 11]
            assert run.session._publisher._window._taken == {}
            assert kept

    async def test_one_that_waits_goes_out_at_once_when_the_subscriber_wants_all(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            run.ours.congestion_window = 2 * GROUP
            _, track = run.publish()
            path = Path(run)
            exchange = await run.subscribe()
            await idle()
            for _ in range(10):
                write(track)
            await path.carry(1)
            await exchange.write(SubscribeUpdate(Subscription(9, ordered=True)).encode())
            for _ in range(12):
                await path.carry(GROUP)
            # Those that were committed before have their rank by now as well: the oldest goes first.
            assert [number for _, number, _ in path.whole] == list(range(10))

    async def test_a_subscriber_that_stops_what_waits(self, memory_pair: MakePair) -> None:
        async with speaking(memory_pair, LITE_05) as run:
            run.ours.congestion_window = 2 * GROUP
            _, track = run.publish()
            exchange = await run.subscribe()
            await idle()
            for _ in range(10):
                write(track)
            await idle()
            streams = [await run.next_group() for _ in range(10)]
            for stream in streams:
                stream.stop(ErrorCode.CANCEL)
            await idle()
            assert run.session._publisher._window._taken == {}
            assert not track._state.groups[9].cursors
            await exchange.finish()

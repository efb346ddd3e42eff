"""What is damaged, lost, doubled or out of order is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks import arrivals
from benchmarks.arrivals import HELLO, Arrivals, all_arrived, all_ready, meanwhile
from benchmarks.content import Content, Groups
from benchmarks.failed import Failed
from benchmarks.sessions import reading
from benchmarks.stamped import Stamped, paced, stamp
from tests.conftest import within


async def _forever() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def _readers() -> AsyncIterator[list[asyncio.Task[None]]]:
    async with within(), reading([_forever(), _forever()]) as tasks:
        yield tasks


class TestGroups:
    content = Content(frame_size=100, frames=5)

    def test_all_frames_differ_within_a_group_and_in_the_next(self) -> None:
        assert len({frame for group in (1, 2) for frame in self.content.group(group)}) == 10
        assert {len(frame) for frame in self.content.group(1)} == {100}

    def test_complete_in_any_order(self) -> None:
        groups = Groups(self.content)
        groups.take(0, [HELLO])
        assert groups.ready.is_set()
        groups.take(2, self.content.group(2))
        groups.expect(2)
        assert not groups.complete.is_set()
        groups.take(1, self.content.group(1))
        assert groups.complete.is_set()

    @pytest.mark.parametrize(
        ("sequence", "frames", "reason"),
        [
            (1, content.group(1)[:-1], "4 frames of 5"),
            (1, [*content.group(1), b""], "6 frames of 5"),
            (1, content.group(2), "frame 0 differs"),
            (1, content.group(1)[::-1], "frame 0 differs, the order is wrong"),
            (1, [*content.group(1)[:4], content.group(1)[4][:-1] + b"?"], "frame 4 differs"),
        ],
    )
    def test_damage(self, sequence: int, frames: list[bytes], reason: str) -> None:
        with pytest.raises(Failed, match=rf"group 1 is not as it was sent: {reason}$"):
            Groups(self.content).take(sequence, frames)

    def test_twice(self) -> None:
        groups = Groups(self.content)
        groups.take(1, self.content.group(1))
        with pytest.raises(Failed, match="twice"):
            groups.take(1, self.content.group(1))


class TestStamped:
    def test_delays(self) -> None:
        frames = Stamped()
        frames.take(0, HELLO)
        frames.take(1, stamp(0, 200))
        assert frames.ready.is_set()
        assert len(frames.delays) == 1
        assert 0 <= frames.delays[0] < 5

    def test_a_later_group_may_be_first(self) -> None:
        frames = Stamped()
        frames.expect(2)
        frames.take(2, stamp(1, 200))
        frames.take(1, stamp(0, 200))
        assert frames.complete.is_set()

    def test_order_within_a_group(self) -> None:
        frames = Stamped()
        frames.take(1, stamp(1, 200))
        with pytest.raises(Failed, match="frame 0 came after frame 1"):
            frames.take(1, stamp(0, 200))

    def test_twice(self) -> None:
        frames = Stamped()
        frames.take(1, stamp(0, 200))
        with pytest.raises(Failed, match="twice"):
            frames.take(2, stamp(0, 200))

    def test_damage(self) -> None:
        with pytest.raises(Failed, match="not as it was sent"):
            Stamped().take(1, stamp(0, 200)[:-1] + b"?")


class TestWaiting:
    async def test_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arrivals, "_STALLED", 0.01)
        one, other = Arrivals("groups"), Arrivals("groups")
        one.expect(3)
        other.expect(3)
        one.arrived()
        async with _readers() as tasks:
            with pytest.raises(Failed, match=r"^5 of 6 groups never arrived$"):
                await all_arrived([one, other], tasks)

    async def test_nothing_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arrivals, "_PATIENCE", 0.01)
        async with _readers() as tasks:
            with pytest.raises(Failed, match="brought nothing"):
                await all_ready([Arrivals("groups")], tasks)

    async def test_a_reader_that_fails(self) -> None:
        async def fail() -> None:
            raise OSError("broken")

        async with within(), reading([_forever(), fail()]) as tasks:
            with pytest.raises(OSError, match="broken"):
                await meanwhile(_forever(), tasks)

    async def test_a_track_that_ends(self) -> None:
        async def end() -> None:
            return

        async with within(), reading([_forever(), end()]) as tasks:
            with pytest.raises(Failed, match="a track ended"):
                await meanwhile(_forever(), tasks)


class TestPace:
    async def test_count(self) -> None:
        async with within():
            assert [index async for index in paced(1000, 0.05)] == list(range(50))

    async def test_too_slow(self) -> None:
        async def dawdle() -> None:
            async for index in paced(100, 0.05):
                if index == 0:
                    await asyncio.sleep(0.5)

        async with within():
            with pytest.raises(Failed, match="100 frames a second are more than it can write"):
                await dawdle()

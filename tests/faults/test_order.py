"""The part `order`, with faults planted in the library for it to find."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from faults.order import part
from faults.order.clock import Deadlock, Livelock, VirtualLoop
from faults.order.plan import Plan
from faults.order.scenario import play
from faults.order.world import run_in_world
from faults.run import Run
from iroh_moq.lite.publisher import Publisher
from iroh_moq.lite.receiving import _Arrivals
from iroh_moq.model.group import GroupState
from iroh_moq.model.track import Reader, TrackState

_ROOT = Path(__file__).parents[2]


def found(folder: Path, scenarios: int = 40, seed: int = 1) -> dict[str, list[str]]:
    """What a run finds, by claim."""
    run = Run("order", seed=seed, folder=folder)
    part.run(run, scenarios)
    return {claim.text: claim.details for claim in run.claims.values() if claim.failures}


class TestPlanted:
    def test_nothing_wrong_is_nothing_found(self, tmp_path: Path) -> None:
        assert found(tmp_path, 20) == {}

    def test_groups_that_come_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = TrackState.next_in_order
        again: list[Reader] = []

        def twice(self: TrackState, reader: Reader) -> Any:
            group, patience = real(self, reader)
            if group is not None and group.sequence % 5 == 3 and reader not in again:
                again.append(reader)
                reader.floor = group.sequence
            return group, patience

        monkeypatch.setattr(TrackState, "next_in_order", twice)
        monkeypatch.setattr(part, "_TWICE", 1000)
        wrong = found(tmp_path)
        assert "each group comes once, in ascending order, with the frames that were written" in wrong

    def test_frames_that_are_lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = GroupState.extend

        def lossy(self: GroupState, frames: list[bytes], times: list[int] | None = None) -> None:
            real(self, frames[:-1] if self.sequence == 4 else frames)

        monkeypatch.setattr(GroupState, "extend", lossy)
        wrong = found(tmp_path)
        details = wrong["each group comes once, in ascending order, with the frames that were written"]
        # What a failure says is enough to see it again, alone.
        seed = int(details[0].split()[1].rstrip(":"))
        again = found(tmp_path, 1, seed)
        assert again["each group comes once, in ascending order, with the frames that were written"] == details[:1]

    def test_groups_that_are_overtaken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def blind(self: _Arrivals, arrival: int) -> None:
            self.remove(arrival)

        monkeypatch.setattr(_Arrivals, "begun", blind)
        assert "a reliable reader that is told of no error has got everything" in found(tmp_path)

    def test_somebody_who_is_never_woken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def silent(self: Publisher, *_: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(Publisher, "_subscription", silent)
        assert "everything comes to an end" in found(tmp_path, 3)

    def test_a_task_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def failing(self: Publisher, *_: Any) -> None:
            raise KeyError("planted")

        monkeypatch.setattr(Publisher, "_subscription", failing)
        assert "planted" in found(tmp_path, 3)["no task fails"][0]

    def test_chance_that_no_seed_decides(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = GroupState.extend

        def hasty(self: GroupState, frames: list[bytes], times: list[int] | None = None) -> None:
            if time.perf_counter_ns() // 1000 % 2:
                asyncio.get_running_loop().call_later(0.5, self.changed.notify)
                self.frames += frames
                self.size += sum(map(len, frames))
            else:
                real(self, frames)

        monkeypatch.setattr(GroupState, "extend", hasty)
        monkeypatch.setattr(part, "_TWICE", 2)
        assert "a seed always leads to the same" in found(tmp_path, 20)


class TestDeterminism:
    def test_other_hashes_change_nothing(self) -> None:
        """Not those of strings, nor where objects are in memory."""
        code = "from faults.order.plan import Plan; from faults.order.scenario import play\n"
        code += "print([play(Plan.of(seed)).fingerprint for seed in range(30, 45)])"
        said = {
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=_ROOT,
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(said) == 1

    def test_plans_differ(self) -> None:
        assert len({play(Plan.of(seed)).fingerprint for seed in range(5)}) == 5


class TestClock:
    def test_time_jumps(self) -> None:
        started = time.perf_counter()
        times: list[float] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            before = loop.time()
            await asyncio.sleep(10_000)
            times.append(loop.time() - before)

        aftermath = run_in_world(main())
        assert times == [pytest.approx(10_000)]
        assert [*aftermath.left, *aftermath.failed, *aftermath.unseen] == []
        assert time.perf_counter() - started < 60

    def test_a_deadlock_is_one(self) -> None:
        loop = VirtualLoop()
        try:
            with pytest.raises(Deadlock):
                loop.run_until_complete(loop.create_future())
        finally:
            loop.close()

    def test_a_livelock_is_one(self) -> None:
        async def spin() -> None:
            while True:  # noqa: ASYNC110
                await asyncio.sleep(0)

        aftermath = run_in_world(spin())
        assert isinstance(aftermath.error, Livelock)

    def test_a_task_that_is_left_is_named(self) -> None:
        async def main() -> None:
            main.task = asyncio.create_task(asyncio.sleep(1e6), name="forgotten")  # type: ignore[attr-defined]

        assert run_in_world(main()).left == ["forgotten"]

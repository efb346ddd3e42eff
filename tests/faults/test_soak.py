"""The part `soak`, with leaks planted in the library for it to find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from faults.run import Run
from faults.soak import part
from faults.soak.counts import Sample, Series
from faults.soak.plot import save_plot
from iroh_moq.lite.session import LiteSession


def found(folder: Path, rounds: int) -> dict[str, list[str]]:
    """What a short run finds, by claim."""
    run = Run("soak", folder=folder)
    part.run(run, rounds)
    assert run.figures["pauses"] == rounds - part._WARM_UP
    return {claim.text: claim.details for claim in run.claims.values() if claim.failures}


@pytest.mark.parametrize("leak", ["objects", "files"])
def test_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: str) -> None:
    monkeypatch.setattr(part, "_PATIENCE", 3.0)
    monkeypatch.setattr(part, "_WARM_UP", 0)
    kept: list[Any] = []
    files: list[int] = []
    real = LiteSession.__init__

    def begin(self: LiteSession, *arguments: Any) -> None:
        real(self, *arguments)
        if leak == "objects":
            kept.append(self)
        else:
            files.append(os.open(os.devnull, os.O_RDONLY))

    monkeypatch.setattr(LiteSession, "__init__", begin)
    try:
        wrong = found(tmp_path, 2)
    finally:
        for each in files:
            os.close(each)
    details = wrong["in every pause there are as many objects, tasks, files and calls as in the first"]
    if leak == "objects":
        assert "iroh_moq.lite.session.LiteSession" in details[0]


def test_the_picture(tmp_path: Path) -> None:
    samples = Series()
    for second in range(10):
        samples.append(Sample(second, 50 << 20, 20 << 20, 100_000, 300, 5, 16, 0, 0))
    assert save_plot(samples, tmp_path / "new" / "soak.png")
    assert (tmp_path / "new" / "soak.png").stat().st_size > 1000


def test_what_grows() -> None:
    samples = Series()
    for second in range(100):
        samples.append(Sample(second, 50 << 20, 20 << 20, 100_000 + 10 * second, 300, 5, 16, 0, 0))
    assert len(samples) == 100
    assert samples.grown("allocated") == 0
    assert samples.grown("blocks") == 800

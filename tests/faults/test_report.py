"""The report: what it says, and what it keeps."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from faults.parts import PARTS
from faults.report import load, save, section
from faults.run import Run


def found(part: str, folder: Path, *, holds: bool = True, long: bool = False) -> Run:
    run = Run(part, seed=7, folder=folder, long=long)
    run.check("the sky is up", holds, "it fell")
    run.figure("birds", 12345)
    run.note("A note.")
    return run


def written(run: Run, stopped: bool = False) -> None:
    save(run.folder, run.part, section(run, datetime.now(UTC), stopped=stopped), PARTS)


def test_a_section_has_everything(tmp_path: Path) -> None:
    written(found("order", tmp_path, holds=False))
    text = (tmp_path / "report.md").read_text()
    for part in ("## order", "the sky is up | 1 | 1", "- it fell", "| birds | 12,345 |", "A note.", "| 7 | FAILED |"):
        assert part in text
    data = json.loads((tmp_path / "report.json").read_text())["parts"]["order"]
    assert (data["seed"], data["failed"], data["form"]) == (7, True, "short")


def test_a_part_replaces_its_own_section_alone(tmp_path: Path) -> None:
    written(found("soak", tmp_path, holds=False))
    written(found("parsers", tmp_path))
    written(found("soak", tmp_path, long=True), stopped=True)
    parts = load(tmp_path)
    assert list(parts) == ["parsers", "soak"]
    assert not parts["soak"]["failed"]
    text = (tmp_path / "report.md").read_text()
    assert "held, stopped early" in text
    assert "FAILED" not in text


def test_a_report_that_cannot_be_read_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("[")
    written(found("load", tmp_path))
    assert list(load(tmp_path)) == ["load"]


def test_details_are_bounded(tmp_path: Path) -> None:
    run = Run("load", folder=tmp_path)
    for number in range(1000):
        run.check("never", False, str(number))
    claim = run.claims["never"]
    assert (claim.checks, claim.failures) == (1000, 1000)
    assert len(claim.details) <= 20

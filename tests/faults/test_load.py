"""The part `load`: it sees who gets nothing, and what is missed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.load import part
from faults.process import Process
from faults.run import Run

TINY = replace(part.SHORT, seconds=0.05, sessions=2, each=2, tracks=4, announcements=20, peers=1, flood=20)


def found(folder: Path, size: part.Size) -> dict[str, list[str]]:
    run = Run("load", folder=folder)
    part.run(run, size)
    return {claim.text: claim.details for claim in run.claims.values() if claim.failures}


def test_nothing_wrong_is_nothing_found(tmp_path: Path) -> None:
    assert found(tmp_path, TINY) == {}


def test_groups_that_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Process.events

    def events(self: Process, event: str) -> list[dict[str, Any]]:
        heard = real(self, event)
        return [{**each, "missed": 1} for each in heard] if event == "mark" else heard

    monkeypatch.setattr(Process, "events", events)
    assert "the honest subscriber misses nothing" in found(tmp_path, TINY)


def test_a_crowd_that_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Process.tell

    def tell(self: Process, **values: Any) -> None:
        # More tracks than there are.
        real(self, **{**values, **({"count": 5} if values.get("do") == "tracks" else {})})

    monkeypatch.setattr(Process, "tell", tell)
    monkeypatch.setattr(part, "_PATIENCE", 5.0)
    assert "every crowd gets what it asks for" in found(tmp_path, TINY)


def test_the_long_form_looks_at_each_crowd_at_another_server_first(tmp_path: Path) -> None:
    run = Run("load", folder=tmp_path, long=True)
    part.run(run, TINY)
    assert not [claim.details for claim in run.claims.values() if claim.failures]
    names = [name for name in run.figures if "at another server" in name]
    assert len([name for name in names if "while" not in name]) == 5

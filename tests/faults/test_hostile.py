"""The part `hostile`, with faults planted in the library for it to find."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from faults.hostile import part
from faults.run import Run
from iroh_moq.lite.messages import AnnounceRequest
from iroh_moq.lite.publisher import Publisher
from iroh_moq.lite.sending import GroupSender
from iroh_moq.lite.session import LiteSession


def found(folder: Path, connections: int = 3, streams: int = 30) -> dict[str, list[str]]:
    """What a small run finds, by claim."""
    run = Run("hostile", folder=folder)
    part.run(run, connections, streams)
    assert run.figures["connections"] == connections
    assert run.figures["hostile streams"] >= connections * streams
    return {claim.text: claim.details for claim in run.claims.values() if claim.failures}


def test_nothing_wrong_is_nothing_found(tmp_path: Path) -> None:
    assert found(tmp_path) == {}


def test_a_task_that_fails_on_bad_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Publisher._announce

    async def announce(self: Publisher, request: AnnounceRequest, *arguments: Any) -> None:
        if request.prefix:
            raise IndexError("planted")
        await real(self, request, *arguments)

    monkeypatch.setattr(Publisher, "_announce", announce)
    assert "planted" in found(tmp_path, 6)["no task fails"][0]


def test_an_honest_subscriber_that_misses_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = GroupSender.start

    def start(self: GroupSender, *arguments: Any) -> None:
        if self.state.sequence == 3:
            self.give_up(0)
        else:
            real(self, *arguments)

    monkeypatch.setattr(GroupSender, "start", start)
    assert "group 4 came where 3 was due" in found(tmp_path)["the honest subscriber gets every group"][0]


def test_something_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LiteSession.__init__
    left: list[asyncio.Task[None]] = []

    def begin(self: LiteSession, *arguments: Any) -> None:
        real(self, *arguments)
        left.append(asyncio.get_running_loop().create_task(asyncio.sleep(1e6), name="forgotten"))

    monkeypatch.setattr(LiteSession, "__init__", begin)
    wrong = found(tmp_path)
    assert "forgotten" in wrong["nothing is left after the shutdown"][0]

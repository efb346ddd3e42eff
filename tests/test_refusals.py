"""How often refusals are logged, and that they are counted every time."""

from __future__ import annotations

import logging

import pytest

from iroh_moq import refusals
from iroh_moq.refusals import INTERVAL, Refusals

_LOGGER = logging.getLogger("iroh_moq.test")


class Run:
    """Refusals on a clock of the test's own."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "iroh_moq")
        self._caplog = caplog
        self.now = 1000.0
        self.refusals = Refusals(lambda: self.now)

    def refuse(self, peer: str = "alice", reason: str = "announcement", times: int = 1) -> None:
        for _ in range(times):
            self.refusals.add(_LOGGER, logging.WARNING, peer, reason, f"{peer}: no {reason}", broadcast="cam")

    def lines(self) -> list[str]:
        said = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return said


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Run:
    return Run(caplog)


def test_one_line_for_a_peer_and_a_reason(run: Run) -> None:
    run.refuse(times=100)
    run.refuse(reason="hidden")
    run.refuse(peer="bob", times=2)
    assert run.lines() == ["alice: no announcement", "alice: no hidden", "bob: no announcement"]
    assert run.refusals.counts == {"announcement": 102, "hidden": 1}


def test_what_is_worth_more_is_not_left_out(run: Run) -> None:
    run.refusals.add(_LOGGER, logging.INFO, "alice", "decode", "a request")
    run.refusals.add(_LOGGER, logging.WARNING, "alice", "decode", "all announcements")
    run.refusals.add(_LOGGER, logging.INFO, "alice", "decode", "a request")
    assert run.lines() == ["a request", "all announcements"]


def test_the_next_minute_tells_how_many_were_left_out(run: Run) -> None:
    run.refuse(times=5)
    run.now += INTERVAL - 0.1
    run.refuse()
    assert run.lines() == ["alice: no announcement"]
    run.now += 0.2
    run.refuse(times=2)
    assert run.lines() == ["alice: no announcement (5 more before, for the same reason)"]
    run.now += INTERVAL
    run.refuse()
    assert run.lines() == ["alice: no announcement (1 more before, for the same reason)"]
    run.now += INTERVAL
    run.refuse()
    assert run.lines() == ["alice: no announcement"]
    assert run.refusals.counts == {"announcement": 10}


def test_another_refusal_tells_of_those_that_do_not_come_again(run: Run) -> None:
    run.refuse(times=3)
    run.lines()
    run.now += INTERVAL
    run.refuse(peer="bob")
    assert run.lines() == ["2 more refusals of alice: announcement", "bob: no announcement"]


def test_the_end_tells_of_the_rest(run: Run) -> None:
    run.refuse(times=3)
    run.refuse(peer="bob")
    run.lines()
    run.refusals.close()
    assert run.lines() == ["2 more refusals of alice: announcement"]


def test_new_keys_fill_neither_log_nor_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_LINES", 10)
    for number in range(1000):
        run.refuse(peer=str(number))
    lines = run.lines()
    assert len(lines) == 11
    assert lines[-1] == "too many peers are refused to log each"
    assert len(run.refusals._lines) == 11
    assert run.refusals.counts == {"announcement": 1000}
    run.now += INTERVAL
    run.refuse()
    assert run.lines() == ["990 more refusals of other peers: announcement", "alice: no announcement"]


def test_the_fields(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.refuse()
    (record,) = caplog.records
    about = {name: vars(record)[name] for name in ("peer", "broadcast", "reason")}
    assert about == {"peer": "alice", "broadcast": "cam", "reason": "announcement"}
    assert not hasattr(record, "track")

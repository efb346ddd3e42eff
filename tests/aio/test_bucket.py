from __future__ import annotations

import asyncio
from typing import Any

import pytest

from iroh_moq.aio import Bucket


class Clock:
    """The time of the running loop, as the test has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        loop: Any = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)


async def test_a_seconds_worth_at_once_and_then_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        clock, bucket = Clock(patch), Bucket(10)
        assert [bucket.take() for _ in range(10)] == [0.0] * 10
        assert bucket.take() == pytest.approx(0.1)
        assert bucket.debt() == pytest.approx(0.1)
        clock.now += 0.1
        assert bucket.debt() == pytest.approx(0.0)
        assert bucket.take(2) == pytest.approx(0.2)
        clock.now += 100
        assert bucket.debt() == 0.0
        # Rest is worth a second, however long it was.
        assert bucket.take(10) == 0.0
        assert bucket.take(1) == pytest.approx(0.1)


async def test_a_debt_is_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Clock(patch)
        bucket = Bucket(10)
        assert bucket.take(1000) == pytest.approx(1.0)


async def test_a_rate_of_less_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Clock(patch)
        bucket = Bucket(0.5)
        assert bucket.take() == 0.0
        assert bucket.take() == pytest.approx(2.0)

from __future__ import annotations

import asyncio

import pytest

from iroh_moq.aio import Signal
from tests.conftest import idle, within


async def test_notify_wakes_everyone_who_waits() -> None:
    signal = Signal()
    waiting = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
    await idle()
    assert signal.waited
    assert not any(task.done() for task in waiting)
    signal.notify()
    async with within():
        await asyncio.gather(*waiting)
    assert not signal.waited


async def test_only_those_who_wait_now_are_woken() -> None:
    signal = Signal()
    signal.notify()
    waiting = asyncio.ensure_future(signal.wait())
    await idle()
    assert not waiting.done()
    signal.notify()
    async with within():
        await waiting


async def test_a_future_counts_from_the_call() -> None:
    signal = Signal()
    change = signal.future()
    signal.notify()
    assert change.done()


async def test_forgetting_a_future_leaves_nothing_behind() -> None:
    signal = Signal()
    kept, forgotten = signal.future(), signal.future()
    signal.forget(forgotten)
    signal.forget(forgotten)
    assert forgotten.cancelled()
    signal.notify()
    assert kept.done()
    assert not kept.cancelled()
    signal.forget(kept)
    assert not signal.waited


async def test_a_future_that_was_cancelled_does_not_stop_the_others() -> None:
    signal = Signal()
    first, second = signal.future(), signal.future()
    first.cancel()
    signal.notify()
    assert second.done()


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    signal = Signal()
    waiting = asyncio.ensure_future(signal.wait())
    await idle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not signal.waited

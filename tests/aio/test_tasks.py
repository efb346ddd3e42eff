from __future__ import annotations

import asyncio
import logging

import pytest

from iroh_moq.aio import Signal, TaskScope, reap, while_wanted
from tests.conftest import idle, within


class Stubborn:
    """A task that sees to its work before it lets itself be cancelled."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.asked = asyncio.Event()
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.asked.set()
            await self.may_end.wait()


async def nothing() -> None:
    pass


async def forever() -> None:
    await asyncio.Event().wait()


async def test_tasks_are_counted_and_named() -> None:
    scope = TaskScope("scope")
    task = scope.spawn(nothing(), "work")
    assert task.get_name() == "scope: work"
    assert len(scope) == 1
    async with within():
        await scope.join()
    assert task.done()
    assert len(scope) == 0


async def test_join_waits_for_tasks_that_others_start() -> None:
    scope = TaskScope("scope")
    ended: list[str] = []

    async def child() -> None:
        await asyncio.sleep(0)
        ended.append("child")

    async def parent() -> None:
        scope.spawn(child(), "child")
        ended.append("parent")

    scope.spawn(parent(), "parent")
    async with within():
        await scope.join()
    assert ended == ["parent", "child"]


async def test_a_failure_is_logged_at_once_with_its_traceback(task_failures: list[logging.LogRecord]) -> None:
    scope = TaskScope("scope")

    async def fail() -> None:
        raise ValueError("broken")

    scope.spawn(fail(), "work")
    async with within():
        await scope.join()
    (record,) = task_failures
    assert record.getMessage() == "scope: work failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


async def test_cancelling_is_no_failure(task_failures: list[logging.LogRecord]) -> None:
    scope = TaskScope("scope")
    task = scope.spawn(forever(), "work")
    async with within():
        await scope.aclose()
    assert task.cancelled()
    assert task_failures == []


async def test_aclose_waits_for_the_last_task_to_end() -> None:
    scope, stubborn = TaskScope("scope"), Stubborn()
    scope.spawn(stubborn.run(), "work")
    async with within():
        await stubborn.started.wait()
        closing = asyncio.ensure_future(scope.aclose())
        await stubborn.asked.wait()
        await idle()
        assert not closing.done()
        stubborn.may_end.set()
        await closing
    assert len(scope) == 0


async def test_a_cancelled_aclose_leaves_no_task() -> None:
    scope, stubborn = TaskScope("scope"), Stubborn()
    task = scope.spawn(stubborn.run(), "work")
    async with within():
        await stubborn.started.wait()
        closing = asyncio.ensure_future(scope.aclose())
        await stubborn.asked.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        stubborn.may_end.set()
        await asyncio.wait((task,))
    assert task.cancelled()


async def test_a_task_may_close_its_own_scope() -> None:
    scope = TaskScope("scope")
    other = scope.spawn(forever(), "other")
    outcome: list[bool] = []

    async def close() -> None:
        try:
            await scope.aclose()
        except asyncio.CancelledError:
            # It is one of those that are asked to end.
            await asyncio.wait((other,))
            outcome.append(other.cancelled())
            raise

    closing = scope.spawn(close(), "closing")
    async with within():
        await asyncio.wait((closing,))
    assert outcome == [True]
    assert len(scope) == 0


async def test_a_closed_scope_starts_nothing() -> None:
    scope = TaskScope("scope")
    scope.cancel()
    started: list[bool] = []

    async def work() -> None:
        started.append(True)

    task = scope.spawn(work(), "work")
    async with within():
        await scope.aclose()
    assert task.cancelled()
    assert started == []


async def test_reap_waits_for_the_end_whatever_it_is(task_failures: list[logging.LogRecord]) -> None:
    async def fail_at_the_end() -> None:
        try:
            await forever()
        finally:
            raise ValueError("unseen")

    tasks = [asyncio.ensure_future(forever()), asyncio.ensure_future(fail_at_the_end())]
    await idle()
    async with within():
        for task in tasks:
            await reap(task)
            await reap(task)
    assert all(task.done() for task in tasks)
    assert task_failures == []


class TestWhileWanted:
    async def test_the_outcome(self) -> None:
        async def work() -> int:
            return 5

        done = await while_wanted(work(), lambda: True, Signal())
        assert done is not None
        assert done.result() == 5

    async def test_an_error_is_an_outcome(self) -> None:
        async def work() -> None:
            raise ZeroDivisionError

        done = await while_wanted(work(), lambda: True, Signal())
        assert done is not None
        with pytest.raises(ZeroDivisionError):
            done.result()

    async def test_it_is_given_up_once_nobody_wants_it(self) -> None:
        wanted, changed = [1, 2], Signal()
        working = asyncio.ensure_future(while_wanted(forever(), lambda: wanted, changed))
        for _ in range(2):
            await idle()
            assert not working.done()
            wanted.pop()
            changed.notify()
        async with within():
            assert await working is None
        assert not changed.waited

    async def test_it_ends_with_who_waits(self) -> None:
        work, changed = Stubborn(), Signal()
        working = asyncio.ensure_future(while_wanted(work.run(), lambda: True, changed))
        await work.started.wait()
        working.cancel()
        await work.asked.wait()
        assert not working.done()
        work.may_end.set()
        async with within():
            with pytest.raises(asyncio.CancelledError):
                await working
        assert not changed.waited

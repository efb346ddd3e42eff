"""What holds for every test: it leaves nothing behind, and nothing it waits for can hang it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from iroh_moq.transport.driver import driver
from iroh_moq.transport.memory import MemoryTransport
from iroh_moq.transport.memory import memory_pair as make_pair

settings.register_profile(
    "iroh_moq", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("iroh_moq")

_GRACE = 2.0
"""Seconds that tasks may take to end which nothing but the event loop keeps."""


def within(seconds: float = 5.0) -> asyncio.Timeout:
    """A bound for everything that must happen: ``async with within(): ...``."""
    return asyncio.timeout(seconds)


async def idle() -> None:
    """Returns once everything that can happen without more input, or a timer, has happened.

    So "nothing comes" is a fact, where a sleep would make it a guess. Only for what does no I/O.
    """
    ready: Any = getattr(asyncio.get_running_loop(), "_ready")  # noqa: B009 - no public name tells it
    while True:
        await asyncio.sleep(0)
        if not ready:
            return


def pytest_collection_finish() -> None:
    """What has been imported stays: each test collects garbage, and need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there is no native driver, its own tests say so; ``-m "not driver"`` leaves them out."""
    if driver.module is None:
        missing = pytest.mark.skip(reason=f"no native driver: {driver.reason}")
        for item in items:
            if item.get_closest_marker("driver"):
                item.add_marker(missing)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def task_failures() -> Iterator[list[logging.LogRecord]]:
    """What a `TaskScope` has logged as a defect. A test that asks for this may cause some."""
    handler, logger = _Records(), logging.getLogger("iroh_moq.tasks")
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


@pytest.fixture
async def _nothing_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No task is left, no task has failed unseen, and no exception was never retrieved."""
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
    failures: list[logging.LogRecord] = request.getfixturevalue("task_failures")
    may_fail = "task_failures" in inspect.signature(request.function).parameters
    yield
    gc.collect()
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_GRACE)
        others = {task for task in others if not task.done()}
    names = sorted(repr(task) for task in others)
    for task in others:
        task.cancel()
    gc.collect()
    assert not names, "tasks are left"
    assert not unseen, "the event loop was told of errors that nobody handled"
    assert may_fail or not failures, "a task has failed"


@pytest.fixture(autouse=True)
def _tidy(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_nothing_left")


class MakePair(Protocol):
    """Makes two connected transports; the keywords are those of `transport.memory.memory_pair`."""

    def __call__(self, **options: Any) -> tuple[MemoryTransport, MemoryTransport]: ...


@pytest.fixture
async def memory_pair() -> AsyncIterator[MakePair]:
    """Connected transports, which must have been closed, with nothing open, when the test ends."""
    made: list[MemoryTransport] = []

    def make(**options: Any) -> tuple[MemoryTransport, MemoryTransport]:
        pair = make_pair(**options)
        made.extend(pair)
        return pair

    yield make
    for transport in made:
        # A test of the bare transport has no session to close it.
        transport.close(0, "")
        assert transport.open_streams == 0

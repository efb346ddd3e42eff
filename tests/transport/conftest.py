"""Which event loop a test runs on: asyncio's, or what its class says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factory = getattr(getattr(item, "cls", None), "loop_factory", None)
    return {"loop": factory or asyncio.new_event_loop}

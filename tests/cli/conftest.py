"""What several tests of the command start from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from iroh_moq import BroadcastProducer
from tests.cli.publisher import Publisher
from tests.endpoints import bound


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    async with bound() as moq:
        broadcast = BroadcastProducer()
        track = broadcast.create_track("data")
        await moq.publish("x", broadcast)
        yield Publisher(moq, broadcast, track)

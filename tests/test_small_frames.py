"""Very many small frames end no connection; `tests.small_frames` as a program has the large numbers."""

from __future__ import annotations

import asyncio
import os

import pytest

from iroh_moq import MoqSession
from tests.conftest import within
from tests.small_frames import new_track, read, write
from tests.transport.contract import soon
from tests.transport.ends import Make, both, connections

FRAMES = int(os.environ.get("IROH_MOQ_FRAMES", "30000"))
"""A million for a thorough look."""


@both
@pytest.mark.parametrize("groups", [1, 10])
async def test_frames_written_a_few_in_a_turn_all_arrive(make: Make, groups: int) -> None:
    # That they are many is the point here, not where each task was made.
    asyncio.get_running_loop().set_debug(False)
    async with connections() as ends:
        publisher = await MoqSession.session_accept(make(ends[0]))
        subscriber = await MoqSession.session_connect(make(ends[1]))
        broadcast, track = new_track()
        publisher.publish("cam", broadcast.consume())
        found = await soon(subscriber.subscribe("cam"))
        consumer = found.subscribe_track("frames", ordered=True, start_group=0)
        async with within(20 + FRAMES * groups / 2000):
            await track.used()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(write(track, groups, FRAMES // groups, 2))
                tasks.create_task(read(consumer, groups, FRAMES // groups))
        for session in (publisher, subscriber):
            assert session._lite.transport.close_error is None
        broadcast.finish()
        subscriber.close()
        await soon(subscriber.closed())
        await soon(publisher.closed())

"""The camera, seen by a viewer that keeps up and one that cannot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.endpoints import bound
from tests.examples.programs import PATIENCE, Program, running


@dataclass
class _Shown:
    """What a viewer says of a group."""

    group: int
    frames: int
    delay: int
    skipped: int

    @classmethod
    async def by(cls, viewer: Program) -> _Shown:
        said = await viewer.says(r"^group (\d+): (\d+) frames, (-?\d+) ms late, (\d+) groups skipped, \d+\.\d °C$")
        return cls(*(int(number) for number in said.groups()))


async def test_a_slow_viewer_skips_and_a_fast_one_does_not_notice() -> None:
    async with running("camera", "--fps", "30") as camera:
        ticket = await camera.ticket()
        # Each picture takes the slow one longer than a whole group of ten takes the camera.
        async with running("camera", ticket, "--slow", "0.5") as slow, running("camera", ticket) as fast:
            await _Shown.by(slow)
            begun = await _Shown.by(fast)

            seen = [await _Shown.by(fast) for _ in range(12)]
            assert seen[-1].group >= begun.group + 12
            # A machine that does other things may stop for a moment.
            assert sum(shown.frames == 10 and not shown.skipped and shown.delay < 250 for shown in seen) >= 10

            glimpsed = [await _Shown.by(slow) for _ in range(6)]
            assert sum(shown.skipped for shown in glimpsed) >= 2
            # A picture's work and the group it waited in; with all the groups, the last would be half a minute late.
            assert all(shown.frames < 10 and shown.delay < 2500 for shown in glimpsed)
            # It is told of each group that it does not see.
            assert glimpsed[-1].group - glimpsed[0].group == sum(1 + shown.skipped for shown in glimpsed[1:])

            await slow.interrupt()
            await fast.interrupt()
            await camera.interrupt()


async def test_each_group_begins_with_a_key_frame() -> None:
    async with asyncio.timeout(PATIENCE), running("camera", "--fps", "100") as camera, bound() as viewer:
        session = await viewer.connect(await camera.ticket())
        track = (await session.subscribe("camera")).subscribe_track("video")
        for _ in range(5):
            group = await track.next_group()
            assert group is not None
            # A whole picture and nine changes, each after the time it was taken.
            assert [len(frame) - 8 async for frame in group] == [60_000, *[3_000] * 9]


@pytest.mark.parametrize("option", [("--fps", "0"), ("--slow", "-1"), ("--slow", "nan")])
async def test_numbers_that_cannot_be(option: tuple[str, str]) -> None:
    async with running("camera", *option) as camera:
        assert await camera.ends() == 2
        assert "--fps must be more than 0, and --slow must not be less" in camera.output


async def test_the_viewer_ends_with_the_camera() -> None:
    async with running("camera") as camera, running("camera", await camera.ticket()) as viewer:
        await _Shown.by(viewer)
        await camera.interrupt()
        assert await viewer.ends() == 1
        assert viewer.output.splitlines()[-1].startswith("camera: ")

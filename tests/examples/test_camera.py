"""The camera, seen by a viewer that keeps up and one that cannot."""

from __future__ import annotations

from dataclasses import dataclass

from tests.examples.programs import Program, running


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


async def test_the_viewer_ends_with_the_camera() -> None:
    async with running("camera") as camera, running("camera", await camera.ticket()) as viewer:
        await _Shown.by(viewer)
        await camera.interrupt()
        assert await viewer.ends() == 1
        assert viewer.output.splitlines()[-1].startswith("camera: ")

"""A camera, and viewers that keep up with it however slow they are.

    python camera.py                          publishes pictures and prints a ticket
    python camera.py TICKET                   views them
    python camera.py TICKET --slow 0.5        needs half a second for each picture, and so skips most

With `--network loopback` on both sides it never leaves this machine, and needs no internet.

Each group begins with a large key frame, a whole picture, and goes on with small frames, each of
which only changes the picture before it. So a viewer that falls behind can leave a group at any
frame, but must begin the next one at its key frame. The camera never waits for it, and other
viewers notice nothing. A second track, with the camera's temperature, has a higher priority: on a
line that is too thin for the pictures, it still comes in time.

The delay that is shown compares the clocks of two machines, unless both sides run on one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import struct
import sys
import time

from iroh_moq import BroadcastConsumer, BroadcastProducer, Error, GroupConsumer, Moq, TrackConsumer

MAX_LATENCY = 0.25
"""Seconds that a group is still worth having once there is a newer one."""

GROUP = 10
"""Pictures in a group."""

KEY_FRAME, CHANGE = 60_000, 3_000
"""Bytes of a picture, and of what changes in it from one to the next."""

HEADER = struct.Struct("!d")
"""When the picture was taken, before the picture itself."""


async def publish(moq: Moq, fps: int) -> None:
    """Publishes ``fps`` made-up pictures a second, and the temperature."""
    broadcast = BroadcastProducer()
    video = broadcast.create_track("video")
    temperature = broadcast.create_track("temperature")
    await moq.publish("camera", broadcast)

    loop = asyncio.get_running_loop()
    began = loop.time()
    for first in itertools.count(step=GROUP):
        temperature.write_frame(f"{40 + random.random():.1f}".encode())
        with video.append_group() as group:
            for number in range(first, first + GROUP):
                size = KEY_FRAME if number == first else CHANGE
                group.write_frame(HEADER.pack(time.time()) + os.urandom(size))
                # Counted from the beginning, so that small delays do not add up.
                await asyncio.sleep(began + (number + 1) / fps - loop.time())


class Viewer:
    """Shows a camera's pictures: here, in a line for each group."""

    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.temperature = "?"

    async def view(self, camera: BroadcastConsumer) -> None:
        """Views until the camera stops."""
        async with asyncio.TaskGroup() as tracks:
            tracks.create_task(self.measure(camera.subscribe_track("temperature", priority=2)))
            tracks.create_task(self.watch(camera.subscribe_track("video", priority=1, max_latency=MAX_LATENCY)))

    async def measure(self, track: TrackConsumer) -> None:
        """Remembers the latest temperature."""
        while (frame := await track.read_frame()) is not None:
            self.temperature = frame.decode()

    async def watch(self, track: TrackConsumer) -> None:
        """Shows one group after another, and leaves out those for which there is no time."""
        following = None
        async for group in track:
            skipped = 0 if following is None else group.sequence - following
            following = group.sequence + 1
            frames, delay = await self.show(track, group)
            print(
                f"group {group.sequence}: {frames} frames, {delay * 1000:.0f} ms late, "
                f"{skipped} groups skipped, {self.temperature} °C",
                flush=True,
            )

    async def show(self, track: TrackConsumer, group: GroupConsumer) -> tuple[int, float]:
        """Shows a group's frames until it ends or is outrun; returns how many, and the last one's delay."""
        frames, delay = 0, 0.0
        async for frame in group:
            (taken,) = HEADER.unpack_from(frame)
            await asyncio.sleep(self.slow)  # the work of decoding it
            frames, delay = frames + 1, time.time() - taken
            if track.latest != group.sequence and delay > MAX_LATENCY:
                break
        return frames, delay


async def run(options: argparse.Namespace) -> None:
    """Publishes or views, whichever the command line asks for."""
    async with await Moq.bind(network=options.network) as moq:
        if options.ticket:
            session = await moq.connect(options.ticket)
            print(f"connected to {session.remote_id()}", flush=True)
            await Viewer(options.slow).view(await session.subscribe("camera"))
        else:
            command = f"python {sys.argv[0]} --network {options.network} {moq.ticket()}"
            print(f"The camera runs. To view it:\n\n    {command}\n", flush=True)
            await publish(moq, options.fps)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ticket", nargs="?", help="whose camera to view; without it, be one")
    parser.add_argument("--fps", type=int, default=30, help="the camera's pictures a second (default: 30)")
    parser.add_argument(
        "--slow", type=float, default=0, metavar="SECONDS", help="the viewer's time for each picture (default: 0)"
    )
    parser.add_argument(
        "--network",
        choices=["internet", "lan", "loopback"],
        default="internet",
        help="how far it reaches: anywhere, this network, or this machine alone (default: internet)",
    )
    options = parser.parse_args()
    if options.fps <= 0 or not options.slow >= 0:
        parser.error("--fps must be more than 0, and --slow must not be less")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(options))
    except* Error as errors:
        sys.exit(f"camera: {errors.exceptions[0]}")


if __name__ == "__main__":
    main()

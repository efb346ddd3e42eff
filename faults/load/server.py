"""The publisher: ``python -m faults.load.server``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import time

from iroh_moq import BroadcastProducer, Moq, TrackProducer

from ..memory import descriptors, resident
from ..told import commands, many_files, say

FRAME = bytes(1000)
_LIVE = 0.01
"""Seconds between the groups of the track whose latency counts."""

_ROUND = 4.0
"""Seconds in which every quiet track gets a group."""


async def _live(track: TrackProducer) -> None:
    due = time.monotonic()
    while True:
        track.write_frame(f"{time.monotonic():020.9f}".encode() + FRAME)
        due = max(due + _LIVE, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def _quiet(tracks: list[TrackProducer]) -> None:
    """A group to each track in turn, evenly spread."""
    while True:
        for track in tracks:
            track.write_frame(FRAME)
            await asyncio.sleep(_ROUND / len(tracks))


async def _main(options: argparse.Namespace) -> None:
    async with await Moq.bind(network="loopback") as moq, asyncio.TaskGroup() as tasks:
        broadcasts = {name: BroadcastProducer() for name in ("cam", "quiet")}
        live = broadcasts["cam"].create_track("video")
        quiet = [broadcasts["quiet"].create_track(str(number)) for number in range(options.tracks)]
        for track in quiet:
            track.write_frame(FRAME)
        for name, broadcast in broadcasts.items():
            await moq.publish(name, broadcast)
        writing = [tasks.create_task(_live(live)), tasks.create_task(_quiet(quiet))]
        say("ready", ticket=moq.ticket())
        announced: list[BroadcastProducer] = []
        async for told in commands():
            match told["do"]:
                case "announce":
                    announced = [BroadcastProducer() for _ in range(told["count"])]
                    for number, broadcast in enumerate(announced):
                        await moq.publish(f"many/{number}", broadcast)
                    say("announced")
                case "withdraw":
                    for number, broadcast in enumerate(announced):
                        broadcast.finish()
                        if number % 100 == 0:
                            await asyncio.sleep(0)
                    announced = []
                    say("withdrawn")
                case "state":
                    gc.collect()
                    say(
                        "state", sessions=len(moq._actor._peers), tasks=len(asyncio.all_tasks()), memory=resident(),
                        files=descriptors(), processor=time.process_time(),
                    )  # fmt: skip
        for task in writing:
            task.cancel()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, required=True, help="that get a group now and then")
    many_files()
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()

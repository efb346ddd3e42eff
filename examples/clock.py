"""A clock that anybody can watch: the smallest publisher and subscriber.

    python clock.py             publishes the time and prints a ticket
    python clock.py TICKET      shows the time of whoever printed that ticket

With `--network loopback` on both sides it never leaves this machine, and needs no internet.

Each minute is a group. Its first frame says which minute it is, and each frame after that is a
second of it; so a group can be read without the ones before, and whoever joins in the middle of a
minute starts at its beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
from datetime import datetime, timedelta

from iroh_moq import BroadcastProducer, Error, Moq


async def publish(moq: Moq, speed: float) -> None:
    """Publishes the time, which passes ``speed`` times as fast as elsewhere."""
    broadcast = BroadcastProducer()
    track = broadcast.create_track("seconds")
    await moq.publish("clock", broadcast)

    loop = asyncio.get_running_loop()
    start, began = datetime.now(), loop.time()
    group = None
    for tick in itertools.count():
        now = start + timedelta(seconds=tick)
        if group is None or now.second == 0:
            if group is not None:
                group.finish()
            group = track.append_group()
            group.write_frame(f"{now:%Y-%m-%d %H:%M:}".encode())
        group.write_frame(f"{now:%S}".encode())
        # Counted from the beginning, so that small delays do not add up.
        await asyncio.sleep(began + (tick + 1) / speed - loop.time())


async def watch(moq: Moq, ticket: str) -> None:
    """Prints a peer's time until that peer stops."""
    session = await moq.connect(ticket)
    print(f"connected to {session.remote_id()}", flush=True)
    broadcast = await session.subscribe("clock")
    async with broadcast.subscribe_track("seconds") as track:
        async for group in track:
            minute = await group.read_frame() or b""
            async for second in group:
                print((minute + second).decode(), flush=True)


async def run(options: argparse.Namespace) -> None:
    """Publishes or watches, whichever the command line asks for."""
    async with await Moq.bind(network=options.network) as moq:
        if options.ticket:
            await watch(moq, options.ticket)
        else:
            command = f"python {sys.argv[0]} --network {options.network} {moq.ticket()}"
            print(f"The clock runs. To watch it, from any number of places:\n\n    {command}\n", flush=True)
            await publish(moq, options.speed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ticket", nargs="?", help="whose clock to watch; without it, publish one")
    parser.add_argument(
        "--speed", type=float, default=1, help="when publishing: the seconds that pass in each second (default: 1)"
    )
    parser.add_argument(
        "--network",
        choices=["internet", "lan", "loopback"],
        default="internet",
        help="how far it reaches: anywhere, this network, or this machine alone (default: internet)",
    )
    options = parser.parse_args()
    if not options.speed > 0:
        parser.error("--speed must be more than 0")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(options))
    except Error as error:
        sys.exit(f"clock: {error}")


if __name__ == "__main__":
    main()

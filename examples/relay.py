"""A relay: takes the broadcasts of some publishers and offers them to any number of viewers.

    python relay.py TICKET [TICKET...]

connects to the publishers that printed these tickets, and prints a ticket of its own, which serves
in place of any of theirs. So a publisher with a thin line, or one that gives its ticket to nobody
but the relay, reaches a crowd: what it sends to the relay goes out to all who want it, and it is
sent nothing more than once. A broadcast is offered as long as its publisher has it; a publisher that
is lost is looked for again. Try it with the other examples: `python clock.py`, then the relay, then
`python clock.py` with the relay's ticket; all with `--network loopback` where there is no internet.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from iroh_moq import BroadcastConsumer, ConnectError, Error, Moq, MoqSession, ServerError

RETRY = 2.0
"""Seconds between attempts to reach a publisher."""


class Relay:
    """What is offered, and to whom."""

    def __init__(self, moq: Moq) -> None:
        self.moq = moq
        self.offers: dict[str, BroadcastConsumer] = {}
        self.viewers: list[MoqSession] = []

    async def run(self, tickets: list[str]) -> None:
        """Relays until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for ticket in tickets:
                tasks.create_task(self.follow(ticket))
            async for incoming in self.moq.incoming_sessions():
                self.welcome(incoming.accept())

    async def follow(self, ticket: str) -> None:
        """Offers what a publisher has, whenever it can be reached."""
        while True:
            try:
                publisher = await self.moq.connect(ticket)
                print(f"connected to {publisher.remote_id()}", flush=True)
                async for name, broadcast in publisher.origin_consumer():
                    if broadcast is None:
                        print(f"- {name}", flush=True)
                    else:
                        print(f"+ {name}", flush=True)
                        self.offer(name, broadcast)
                reason: Exception = await publisher.closed()
            except (ConnectError, ServerError) as error:
                reason = error
            print(f"{reason}; trying again in {RETRY:g} s", flush=True)
            await asyncio.sleep(RETRY)

    def offer(self, name: str, broadcast: BroadcastConsumer) -> None:
        """Offers a broadcast to everybody. It goes by itself, from everywhere, when it ends."""
        self.offers[name] = broadcast
        for viewer in self.viewers:
            viewer.publish(name, broadcast)

    def welcome(self, viewer: MoqSession) -> None:
        """Offers everything to somebody who has just come."""
        print(f"viewer {viewer.remote_id()}", flush=True)
        self.viewers = [other for other in self.viewers if not other.is_closed] + [viewer]
        self.offers = {name: broadcast for name, broadcast in self.offers.items() if not broadcast.is_closed}
        for name, broadcast in self.offers.items():
            viewer.publish(name, broadcast)


async def run(options: argparse.Namespace) -> None:
    """Sets up the relay and runs it."""
    async with await Moq.bind(network=options.network) as moq:
        command = f"iroh-moq list --network {options.network} {moq.ticket()}"
        print(f"The relay runs. To see what it has:\n\n    {command}\n", flush=True)
        await Relay(moq).run(options.tickets)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tickets", nargs="+", metavar="TICKET", help="a publisher's ticket")
    parser.add_argument(
        "--network",
        choices=["internet", "lan", "loopback"],
        default="internet",
        help="how far it reaches: anywhere, this network, or this machine alone (default: internet)",
    )
    options = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(options))
    except* Error as errors:
        sys.exit(f"relay: {errors.exceptions[0]}")


if __name__ == "__main__":
    main()

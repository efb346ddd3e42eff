"""A chat without a server: everybody publishes what they say, and reads everybody else.

    python chat.py ALICE              opens a chat and prints a ticket
    python chat.py BOB TICKET         joins it by the ticket of anybody who is in it

With `--network loopback` everywhere it never leaves this machine, and needs no internet.

Each line that you type is a message; Ctrl-D leaves. Everybody's broadcast, `chat/<nick>`, has two
tracks. `messages` is one group with a frame for each message: a group is read from its first frame,
so whoever comes later sees what was said before. `peers` has a group for each change in who is
here: the writer's own ticket, then those of all whom the writer knows. Whoever reads a ticket there
that is new dials it, so one ticket leads to everybody, and nobody's leaving cuts the others off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator
from datetime import datetime

from iroh_moq import BroadcastConsumer, BroadcastProducer, Error, Moq, MoqSession

GOODBYE = 2.0
"""Seconds that the others have to read the last words of somebody who leaves."""


class Chat:
    """Who is here, and what I say."""

    def __init__(self, moq: Moq) -> None:
        self.moq = moq
        self.broadcast = BroadcastProducer()
        self.messages = self.broadcast.create_track("messages")
        self.saying = self.messages.append_group()
        self.peers = self.broadcast.create_track("peers")
        self.present: dict[MoqSession, str] = {}
        """Each peer's session and, once it has told it, its ticket."""
        self.found: asyncio.Queue[str] = asyncio.Queue()
        """Tickets that may lead to somebody new."""
        self.dialled: set[str] = set()
        """Tickets that need not be dialled (again): those of who was here may still be on others' lists."""

    async def join(self, nick: str, tickets: list[str]) -> None:
        """Meets everybody, now and later. Runs until it is cancelled."""
        self.tell_peers()
        await self.moq.publish(f"chat/{nick}", self.broadcast)
        for ticket in tickets:
            self.found.put_nowait(ticket)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.welcome())
            while ticket := await self.found.get():
                if ticket not in self.dialled:
                    self.dialled.add(ticket)
                    tasks.create_task(self.dial(ticket))

    async def welcome(self) -> None:
        """Meets those who dial me."""
        async with asyncio.TaskGroup() as tasks:
            async for incoming in self.moq.incoming_sessions():
                tasks.create_task(self.meet(incoming.accept()))

    async def dial(self, ticket: str) -> None:
        """Meets whoever a ticket belongs to."""
        try:
            await self.meet(await self.moq.connect(ticket))
        except Error as error:
            show(f"* {error}")

    def say(self, text: str) -> None:
        """Says something to everybody."""
        self.saying.write_frame(f"{datetime.now():%H:%M} {text}".encode())

    async def leave(self) -> None:
        """Ends the broadcast, and gives the others time to read it to its end."""
        self.saying.finish()
        self.broadcast.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self.messages.unused()

    def tell_peers(self) -> None:
        """Publishes my ticket and all I know, unless I am leaving."""
        if self.peers.is_closed:
            return
        mine = self.moq.ticket()
        self.dialled.add(mine)  # as others will send it to me
        self.peers.write_frame("\n".join([mine, *self.present.values()]).encode())

    async def meet(self, session: MoqSession) -> None:
        """Reads all that a peer publishes, until the session ends."""
        if session in self.present:
            return  # It dialled me while I dialled it: both get the same session.
        self.present[session] = ""
        async with asyncio.TaskGroup() as readers:
            async for name, broadcast in session.origin_consumer().consume("chat"):
                if broadcast is not None:
                    readers.create_task(self.read(session, name.removeprefix("chat/"), broadcast))
        ticket = self.present.pop(session)
        if (await session.closed()).code is None:
            self.dialled.discard(ticket)  # The connection was lost. Perhaps somebody can tell the way back.
        self.tell_peers()

    async def read(self, session: MoqSession, nick: str, broadcast: BroadcastConsumer) -> None:
        """Reads a peer's broadcast to its end."""
        show(f"* {nick} is here")
        try:
            async with asyncio.TaskGroup() as tracks:
                tracks.create_task(self.hear(nick, broadcast))
                tracks.create_task(self.learn(session, broadcast))
        except* Error:
            pass  # It went without a goodbye.
        show(f"* {nick} has left")

    async def hear(self, nick: str, broadcast: BroadcastConsumer) -> None:
        """Shows what a peer says."""
        track = broadcast.subscribe_track("messages")
        while (frame := await track.read_frame()) is not None:
            time, _, text = frame.decode(errors="replace").partition(" ")
            show(f"{time} {nick}: {text}")

    async def learn(self, session: MoqSession, broadcast: BroadcastConsumer) -> None:
        """Dials whom a peer knows."""
        track = broadcast.subscribe_track("peers")
        while (frame := await track.read_frame()) is not None:
            its_own, _, others = frame.decode(errors="replace").partition("\n")
            if self.present[session] != its_own:
                self.present[session] = its_own
                self.dialled.add(its_own)
                self.tell_peers()
            for ticket in others.split():
                self.found.put_nowait(ticket)


def show(text: str) -> None:
    """Prints a line without what others may have put into it to play with the terminal."""
    print("".join(filter(str.isprintable, text)), flush=True)


async def typed_lines() -> AsyncIterator[str]:
    """The lines of the standard input, read by a thread, as not every event loop can wait for it."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: the chat is over.
            while line := sys.stdin.readline():
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        if text := line.strip():
            yield text


async def run(options: argparse.Namespace) -> None:
    """Chats until there is nothing more to say."""
    async with await Moq.bind(network=options.network) as moq, asyncio.TaskGroup() as tasks:
        chat = Chat(moq)
        command = f"python {sys.argv[0]} --network {options.network} NICK {moq.ticket()}"
        print(f"Others can join with:\n\n    {command}\n", flush=True)
        joining = tasks.create_task(chat.join(options.nick, options.tickets))
        async for line in typed_lines():
            chat.say(line)
        await chat.leave()
        joining.cancel()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nick", help="your name in the chat")
    parser.add_argument("tickets", nargs="*", metavar="TICKET", help="the ticket of somebody who is there already")
    parser.add_argument(
        "--network",
        choices=["internet", "lan", "loopback"],
        default="internet",
        help="how far it reaches: anywhere, this network, or this machine alone (default: internet)",
    )
    options = parser.parse_args()
    if not options.nick.strip(" /"):
        parser.error("the nick must not be empty")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(options))
    except* Error as errors:
        sys.exit(f"chat: {errors.exceptions[0]}")


if __name__ == "__main__":
    main()

"""One of the processes: ``python -m faults.crashes.worker ROLE ...``. It tells what happens, a JSON object to a line.

It runs until SIGTERM, or until the transfer is done where it is the subscriber, and says in the end
what is left of it, which must be nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from iroh_moq import BroadcastConsumer, ConnectError, Error, Moq, MoqSession

from ..reconnect import beat, sessions
from ..told import commands, say
from ..transfer import FILE, Content, Gap, Gate, digest_of, offer, take, write

_BINDS = 50


def _lost(reason: str) -> None:
    say("lost", reason=reason)


async def _bind(options: argparse.Namespace) -> Moq:
    for attempt in range(_BINDS):
        try:
            return await Moq.bind(
                network=options.network, key=bytes.fromhex(options.key), addresses=[f"{options.host}:{options.port}"]
            )
        except ConnectError:
            # The one that was killed may not be quite gone.
            if attempt == _BINDS - 1:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError


def _port(moq: Moq, host: str) -> int:
    return next(int(each.rpartition(":")[2]) for each in moq.endpoint.bound_sockets() if each.startswith(host))


async def _welcome(moq: Moq, met: Callable[[MoqSession], None]) -> None:
    """Tells of everybody who comes and goes."""
    async with asyncio.TaskGroup() as tasks:
        async for incoming in moq.incoming_sessions():
            session = incoming.accept()
            say("came", who=str(session.remote_id())[:10])
            met(session)
            tasks.create_task(_gone(session))


async def _gone(session: MoqSession) -> None:
    error = await session.closed()
    say("left", who=str(session.remote_id())[:10], reason=str(error))


async def _publish(moq: Moq, options: argparse.Namespace, content: Content) -> None:
    broadcast, gate = offer(), Gate(content.groups if options.limit is None else options.limit)

    async def listen() -> None:
        async for _ in commands():
            gate.open()

    await moq.publish(FILE, broadcast)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(beat(moq))
        tasks.create_task(_welcome(moq, lambda _: None))
        tasks.create_task(write(content, broadcast, options.begun, options.pace, gate))
        tasks.create_task(listen())


async def _relay(moq: Moq, options: argparse.Namespace, _: Content) -> None:
    viewers: list[MoqSession] = []
    offered: list[BroadcastConsumer] = []

    def met(session: MoqSession) -> None:
        viewers[:] = [viewer for viewer in viewers if not viewer.is_closed] + [session]
        for broadcast in offered:
            session.publish(FILE, broadcast)

    async def follow() -> None:
        async for session in sessions(moq, options.remote, options.silence, _lost):
            with suppress(Error):
                while True:
                    broadcast = await session.subscribe(FILE)
                    offered[:] = [broadcast]
                    for viewer in viewers:
                        viewer.publish(FILE, broadcast)
                    await broadcast.closed()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(beat(moq))
        tasks.create_task(_welcome(moq, met))
        tasks.create_task(follow())


async def _subscribe(moq: Moq, options: argparse.Namespace, content: Content) -> None:
    file = Path(options.file)
    async for session in sessions(moq, options.remote, options.silence, _lost):
        try:
            broadcast = await session.subscribe(FILE)
            await take(content, broadcast, file, lambda done: say("taken", groups=done))
        except Gap as gap:
            say("gap", what=str(gap))
            return
        except Error as error:
            say("broken", reason=f"{type(error).__name__}: {error}")
            continue
        say("done", digest=digest_of(file))
        return


_ROLES: dict[str, Callable[[Moq, argparse.Namespace, Content], Awaitable[None]]] = {
    "publish": _publish,
    "relay": _relay,
    "subscribe": _subscribe,
}


async def _main(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    content = Content(options.seed, options.groups, options.size)
    try:
        async with AsyncExitStack() as stack:
            moq = await stack.enter_async_context(await _bind(options))
            say("ready", ticket=moq.ticket(), id=str(moq.id()), port=_port(moq, options.host))
            await _ROLES[options.role](moq, options, content)
    except asyncio.CancelledError:
        # SIGTERM: how a publisher and a relay are told that all is done.
        task.uncancel()
    gc.collect()
    await asyncio.sleep(0)
    say("ended", left=[other.get_name() for other in asyncio.all_tasks() if other is not task])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=list(_ROLES))
    parser.add_argument("--network", default="loopback")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", required=True)
    parser.add_argument("--remote", default="")
    parser.add_argument("--silence", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--groups", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--limit", type=int, help="groups to write before the first word of the input")
    parser.add_argument("--begun", type=float, default=0.0)
    parser.add_argument("--file", default="")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()

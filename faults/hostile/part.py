"""The part: hostile connections, several at a time, one after the other, while the honest ones go on."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import AsyncExitStack

from iroh import Connection, Endpoint

from iroh_moq import ALPN, Moq
from iroh_moq.address import parse_remote
from iroh_moq.transport.iroh import iroh_transport

from ..endpoints import bare_endpoint
from ..honest import Honest
from ..memory import resident
from ..parsers.corpus import streams
from ..run import Run
from ..stopping import run_async
from ..watch import Watch
from .follow import follow_everybody
from .peer import Hostile

__all__ = ["run"]

_AT_ONCE = 4
_PATIENCE = 60.0
"""Seconds that anything which must happen may take, on however busy a machine."""

_GROWTH = 64 << 20
"""Bytes that a process may have grown by after its first tenth: its honest track keeps all it has written."""

_STALL = 1.0


def run(run: Run, connections: int | None = None, streams_each: int | None = None) -> None:
    """So many connections, of so many streams each."""
    run_async(_run(run, connections or run.choose(30, 1000), streams_each or run.choose(60, 100)))


async def _run(run: Run, connections: int, streams_each: int) -> None:
    async with Watch() as watch:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await Moq.bind(network="loopback"))
            visitor = await stack.enter_async_context(await Moq.bind(network="loopback"))
            # It ends with the server.
            following = asyncio.create_task(follow_everybody(server))
            honest = Honest()
            await honest.start(server, await visitor.connect(server.ticket()))
            attack = _Attack(run, server, connections, streams_each)
            baseline = len(asyncio.all_tasks())
            try:
                await attack.run()
            finally:
                await honest.finish(_PATIENCE)
                _report(run, attack, honest, watch)
            await _left_alone(run, server, baseline)
        await asyncio.wait([following], timeout=_PATIENCE)
        left = sorted(task.get_name() for task in asyncio.all_tasks() if task not in watch.own())
        run.check("nothing is left after the shutdown", not left, f"{len(left)} tasks: {left[:20]}")


class _Attack:
    def __init__(self, run: Run, server: Moq, connections: int, streams_each: int) -> None:
        self._of = run
        self._server = server
        self._connections = connections
        self._streams_each = streams_each
        self._next = iter(range(connections))
        self._corpus = streams()
        self.done = 0
        self.streams = 0
        self.memory: list[int] = []
        self.hung: list[str] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(self._worker())

    async def _worker(self) -> None:
        async with bare_endpoint() as endpoint:
            for number in self._next:
                chance = self._of.random(number)
                try:
                    async with asyncio.timeout(_PATIENCE + self._streams_each):
                        await self._connection(endpoint, chance)
                except TimeoutError:
                    self.hung.append(f"connection {number}, seed {self._of.seed}")
                self.done += 1
                if self.done % max(1, self._connections // 50) == 0:
                    gc.collect()
                    self.memory.append(resident())
                self._of.progress(f"{self.done:,} of {self._connections:,} connections, {self.streams:,} streams")

    async def _connection(self, endpoint: Endpoint, chance: random.Random) -> None:
        connection: Connection = await endpoint.connect(parse_remote(self._server.ticket()), ALPN)
        transport = iroh_transport(connection)
        hostile = Hostile(transport, self._corpus, chance)
        try:
            await hostile.run(self._streams_each)
        finally:
            self.streams += hostile.streams
            ended = transport.close_error
            self._of.check(
                "no stream ends the session it is on",
                ended is None or not ended.reason or ended.reason in ("replaced", "shutdown"),
                str(ended),
            )
            reason = chance.choice(("", "bye", "Reset(5)", "closed", "\x00\n", 'b"" }', "é" * 40))
            transport.close(chance.choice((0, 1, 7, (1 << 32) - 1)), reason)
            await transport.closed()
            await transport.aclose()


def _report(run: Run, attack: _Attack, honest: Honest, watch: Watch) -> None:
    run.check("the honest subscriber gets every group", not honest.wrong, "; ".join(honest.wrong[:3]))
    run.check("no hostile peer hangs", not attack.hung, "; ".join(attack.hung[:3]))
    run.check("no task fails", not watch.failed, "; ".join(watch.failed[:3]))
    run.check("no exception escapes", not watch.unseen, "; ".join(watch.unseen[:3]))
    run.figure("connections", attack.done)
    run.figure("hostile streams", attack.streams)
    run.figure("groups the honest subscriber got", honest.read)
    run.figure(
        "their latency, p50 and p99 in ms",
        f"{honest.percentile(0.5) * 1e3:.1f} and {honest.percentile(0.99) * 1e3:.1f}",
    )
    run.figure("longest turn of the loop, ms", watch.longest * 1000)
    if attack.memory:
        first, last = attack.memory[len(attack.memory) // 10], attack.memory[-1]
        run.figure("resident memory after a tenth, and in the end, MiB", f"{first >> 20} and {last >> 20}")
        if run.long:
            run.check("memory is flat", last - first < _GROWTH, f"{first >> 20} MiB became {last >> 20} MiB")
    if run.long:
        run.check("the loop never stands still for a second", watch.longest < _STALL, f"{watch.longest:.2f} s")


async def _left_alone(run: Run, server: Moq, baseline: int) -> None:
    """Waits until nothing of the hostile peers is left."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while len(asyncio.all_tasks()) > baseline or len(server._actor._peers) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        run.check("nothing is left of a peer that has gone", False, f"{len(names)} tasks, not {baseline}: {names[:20]}")
    else:
        run.check("nothing is left of a peer that has gone", True)

"""The part: the honest subscriber alone, then beside each kind of crowd in turn.

All of them share the processors of one machine, so a crowd makes everybody late, whoever serves it. What
it does to whom it has to do with shows beside the same crowd at another server, which in the long form
is measured first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..process import Process
from ..run import Run
from ..stopping import run_async

__all__ = ["Size", "run"]

_PATIENCE = 300.0
_TWICE = 2.0
_BUSY = 0.03
"""Seconds of the 99th percentile without any load, above which the machine has other things to do."""

_SETTLE = 0.05
_SAMPLES = 100
"""Groups below which the 99th percentile says nothing."""


@dataclass(frozen=True)
class Size:
    """How much of everything, and seconds for which each is measured."""

    seconds: float
    sessions: int
    each: int
    tracks: int
    announcements: int
    peers: int
    flood: int


SHORT = Size(seconds=0.3, sessions=10, each=10, tracks=50, announcements=500, peers=2, flood=400)
LONG = Size(seconds=20.0, sessions=500, each=10, tracks=1000, announcements=50_000, peers=10, flood=20_000)


def run(run: Run, size: Size | None = None) -> None:
    """All the crowds."""
    run_async(_run(run, size or (LONG if run.long else SHORT)))


async def _run(run: Run, size: Size) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            Process("server", "faults.load.server", ["--tracks", str(size.tracks)])
        )
        ticket = (await server.until_event("ready", _PATIENCE))["ticket"]
        reader = await stack.enter_async_context(Process("reader", "faults.load.reader", [ticket]))
        crowd = await stack.enter_async_context(Process("crowd", "faults.load.crowd", [ticket]))
        for process in (reader, crowd):
            await process.until_event("ready", _PATIENCE)
        elsewhere = await stack.enter_async_context(_elsewhere(size)) if run.long else None
        load = _Load(run, size, server, reader, crowd, elsewhere)
        try:
            await load.run()
        except TimeoutError as error:
            complaints = "; ".join(f"{each.name}: {each.complaints[-400:]}" for each in (server, reader, crowd))
            run.check("every crowd gets what it asks for", False, f"{error or 'time is up'}; {complaints}")


@asynccontextmanager
async def _elsewhere(size: Size) -> AsyncIterator[Process]:
    """A crowd at a server of its own."""
    async with Process("another server", "faults.load.server", ["--tracks", str(size.tracks)]) as server:
        ticket = (await server.until_event("ready", _PATIENCE))["ticket"]
        async with Process("crowd elsewhere", "faults.load.crowd", [ticket]) as crowd:
            await crowd.until_event("ready", _PATIENCE)
            yield crowd


class _Load:
    def __init__(
        self, run: Run, size: Size, server: Process, reader: Process, crowd: Process, elsewhere: Process | None
    ) -> None:
        self._of = run
        self._size = size
        self._server = server
        self._reader = reader
        self._crowd = crowd
        self._elsewhere = elsewhere
        self._alone = 0.0
        """Seconds of the 99th percentile when nobody else is there."""
        self._taken: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        size = self._size
        await self._ask(self._reader, "mark", do="mark")
        before = await self._ask(self._server, "state", do="state")
        await self._measure("alone", size.seconds)
        sessions = {"do": "sessions", "count": size.sessions, "tracks": size.tracks, "each": size.each}
        crowds: Sequence[tuple[str, dict[str, Any]]] = [
            (f"{size.sessions:,} sessions with {size.sessions * size.each:,} subscriptions", sessions),
            (f"{size.tracks:,} tracks read by one", {"do": "tracks", "count": size.tracks}),
            (f"{size.peers} that read nothing", {"do": "sleepers", "count": size.peers}),
            (f"{size.peers} that come and leave ten times a second", {"do": "restless", "count": size.peers}),
            ("a flood of streams", {"do": "flood", "least": size.flood}),
        ]
        for name, command in crowds:
            usual = self._alone
            if self._elsewhere is not None:
                usual = max(usual, await self._beside(self._elsewhere, f"{name}, at another server", command))
            await self._beside(self._crowd, name, command, usual)
            self._of.progress(name)
        await self._announcements()
        await self._left(before)

    async def _beside(self, crowd: Process, name: str, command: dict[str, Any], usual: float | None = None) -> float:
        """The 99th percentile beside a crowd, judged by what is usual, if that is given."""
        await self._ask(crowd, "doing", **command)
        await self._measure(f"while they come: {name}", 0)
        found = await self._measure(name, self._size.seconds, usual)
        await self._ask(crowd, "stopped", do="stop")
        await self._measure(f"while they go: {name}", 0)
        return found

    async def _announcements(self) -> None:
        count = self._size.announcements
        name = f"{count:,} announcements"
        await self._ask(self._crowd, "doing", do="listen", count=count)
        self._server.tell(do="announce", count=count)
        heard = await self._next(self._crowd, "heard")
        self._of.check("every crowd gets what it asks for", heard["count"] == count, str(heard))
        await self._measure(f"while they come: {name}", 0)
        await self._measure(name, self._size.seconds, self._alone)
        self._server.tell(do="withdraw")
        await self._next(self._crowd, "gone")
        await self._measure(f"while they go: {name}", 0)
        await self._ask(self._crowd, "stopped", do="stop")

    async def _left(self, before: dict[str, Any]) -> None:
        """Waits until the server is as it was: all have said good-bye."""
        state = before
        for _ in range(600):
            state = await self._ask(self._server, "state", do="state")
            if (state["sessions"], state["tasks"]) == (before["sessions"], before["tasks"]):
                break
            await asyncio.sleep(_SETTLE)
        same = (state["sessions"], state["tasks"]) == (before["sessions"], before["tasks"])
        self._of.check("nothing is left of a crowd that has gone", same, f"{before} became {state}")
        self._of.figure(
            "server's memory before and after, MiB", f"{before['memory'] >> 20} and {state['memory'] >> 20}"
        )
        complaints = "; ".join(each.complaints for each in (self._server, self._reader, self._crowd))
        self._of.check("no exception escapes", "Traceback" not in complaints, complaints[-1000:])

    async def _ask(self, process: Process, answer: str, **command: Any) -> dict[str, Any]:
        process.tell(**command)
        return await self._next(process, answer)

    async def _next(self, process: Process, event: str) -> dict[str, Any]:
        """What a process says next of one kind; each kind is asked for once at a time."""
        taken = self._taken.setdefault((process.name, event), 0)
        await process.until(lambda _: len(process.events(event)) > taken, _PATIENCE)
        self._taken[process.name, event] = taken + 1
        return process.events(event)[taken]

    async def _measure(self, name: str, seconds: float, usual: float | None = None) -> float:
        """How late the honest subscriber's groups were since the last time, after that many seconds more: the 99th
        percentile, judged by what is usual, if that is given."""
        await asyncio.sleep(seconds)
        mark = await self._ask(self._reader, "mark", do="mark")
        over = self._reader.events("over")
        self._of.check(
            "the honest subscriber misses nothing", not mark["missed"] and not over, f"{name}: {mark} {over}"
        )
        if mark["groups"]:
            latency = f"{mark['p50'] * 1e3:.1f}, {mark['p99'] * 1e3:.1f} and {mark['most'] * 1e3:.1f}"
            self._of.figure(f"latency p50, p99 and most in ms, {name}", f"{latency} ({mark['groups']:,} groups)")
        if name == "alone":
            self._alone = mark["p99"]
            if self._alone > _BUSY:
                self._of.note(
                    "The machine was busy with something else: the honest subscriber's groups were late when it "
                    "was alone, too. So the latencies say little."
                )
        elif usual is not None and self._of.long and mark["groups"] >= _SAMPLES:
            self._of.check(
                "the 99th percentile is at most twice what it is alone, or beside the same crowd at another server",
                mark["p99"] <= _TWICE * usual,
                f"{name}: {mark['p99'] * 1e3:.1f} ms, else {usual * 1e3:.1f} ms",
            )
        return float(mark["p99"])

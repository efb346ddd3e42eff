"""The part: rounds of visitors, and a look at everything in each pause between two of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

from iroh_moq import BroadcastProducer, Moq

from ..hostile.follow import follow_everybody
from ..run import Run
from ..stopping import run_async
from ..watch import Watch
from .counts import Sample, Series, kinds_alive, take
from .plot import save_plot
from .visitors import KINDS, Visit

__all__ = ["run"]

_ROUNDS = 5
_MINUTES = 60.0
_WARM_UP = 2
"""Rounds after which everything that is made once has been made."""

_AT_ONCE = 6
_PATIENCE = 60.0
_GROWTH = {"resident": 32 << 20, "blocks": 5_000}
"""What may be more in the last tenth of a long run than in the second. What is resident depends on what the machine
does meanwhile as well: what has been freed is given back some day, or used again."""

_KEPT_BY_IROH = 400
"""Bytes that may stay allocated of each visit. Endpoints of the bare `iroh` package, with nothing of ours on them, keep
some 150 of each peer that they have met, in tables that grow by doubling (measured with 20,000 peers)."""

_ENOUGH = 20
"""Samples of which a tenth says something."""

_BULK = 40
_PICTURE = "soak.png"


def run(run: Run, rounds: int | None = None) -> None:
    """So many rounds, or as many as the time allows."""
    run_async(_Soak(run, rounds).run())


class _Soak:
    def __init__(self, run: Run, rounds: int | None) -> None:
        self._of = run
        self._rounds = rounds or (None if run.long or run.minutes else _ROUNDS)
        self._end = time.monotonic() + 60 * (run.minutes or _MINUTES)
        self._samples = Series()
        self._first: Sample | None = None
        self._kinds: Counter[str] = Counter()
        self._visits = 0
        self._groups = 0
        self._watch = Watch()

    async def run(self) -> None:
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._watch)
            server = await stack.enter_async_context(await Moq.bind(network="loopback"))
            following = asyncio.create_task(follow_everybody(server))
            try:
                await _much(server)
                number = 0
                while number < self._rounds if self._rounds else time.monotonic() < self._end:
                    await self._round(server, number)
                    await self._pause(server, started, number)
                    number += 1
                    self._of.progress(f"{number} rounds, {self._visits:,} visits, {time.monotonic() - started:.0f} s")
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                self._report()

    async def _round(self, server: Moq, number: int) -> None:
        """Visits of all kinds, some at the same time, in an order of chance."""
        chance = self._of.random("round", number)
        kinds = KINDS * 2
        chance.shuffle(kinds)
        pending = list(enumerate(kinds))
        ticket = server.ticket()

        async def visitor() -> None:
            while pending:
                place, kind = pending.pop()
                visit = Visit(ticket, self._of.random("visit", number, place))
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await visit.run(kind)
                except TimeoutError:
                    self._of.check("every visit comes to an end", False, f"round {number}, visit {place}: {kind}")
                else:
                    self._of.check("every visit comes to an end", True)
                self._visits += 1
                self._groups += visit.groups

        live = asyncio.create_task(_live(server))
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_AT_ONCE):
                    tasks.create_task(visitor())
        finally:
            live.cancel()
            await asyncio.gather(live, return_exceptions=True)

    async def _pause(self, server: Moq, started: float, number: int) -> None:
        """Waits until all have left, and counts. What is counted too early is counted again."""
        if number < _WARM_UP:
            await self._settled(server, started)
            return
        sample = await self._settled(server, started)
        if self._first is None:
            self._first = sample
            self._kinds = kinds_alive()
        self._samples.append(sample)
        same = sample.same_as(self._first)
        detail = f"round {number}: {self._first.counts()} became {sample.counts()}"
        if not same:
            more = kinds_alive()
            more.subtract(self._kinds)
            detail += f"; {[(kind, count) for kind, count in more.most_common() if count][:16]}"
        self._of.check("in every pause there are as many objects, tasks, files and calls as in the first", same, detail)

    async def _settled(self, server: Moq, started: float) -> Sample:
        deadline = time.monotonic() + _PATIENCE
        while True:
            sample = take(server, started)
            wanted = self._first
            settled = sample.peers == 0 and (wanted is None or sample.same_as(wanted))
            if not settled and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                continue
            if wanted is None and time.monotonic() < deadline:
                # The first of them sets the mark, so it has to be certain that nothing is about to go.
                await asyncio.sleep(0.3)
                again = take(server, started)
                if not again.same_as(sample):
                    continue
            return sample

    def _report(self) -> None:
        run, samples = self._of, self._samples
        run.check("no task fails", not self._watch.failed, "; ".join(self._watch.failed[:3]))
        run.check("no exception escapes", not self._watch.unseen, "; ".join(self._watch.unseen[:3]))
        run.figure("visits", self._visits)
        run.figure("groups read and written by them", self._groups)
        run.figure("pauses", len(samples))
        if self._first is None:
            return
        counts = ", ".join(f"{count} {name}" for name, count in self._first.counts().items())
        run.figure("minutes", round(samples.row("seconds")[-1] / 60, 1))
        run.figure("counts in every pause", counts)
        for name, title in (("resident", "resident memory"), ("allocated", "memory in use")):
            row = [f"{value / (1 << 20):.0f}" for value in _first_most_last(samples.row(name))]
            run.figure(f"{title}, first, highest and last, MiB", " ".join(row))
        blocks = [f"{value:,.0f}" for value in _first_most_last(samples.row("blocks"))]
        run.figure("blocks of memory, first, highest and last", " ".join(blocks))
        if save_plot(samples, run.folder / _PICTURE):
            run.pictures.append(_PICTURE)
        else:
            run.note("No picture: matplotlib is not installed.")
        if run.long and len(samples) >= _ENOUGH:
            # From the middle of the second tenth to that of the last.
            limits = {**_GROWTH, "allocated": _KEPT_BY_IROH * self._visits * 0.8}
            grown = {name: samples.grown(name) for name in limits}
            flat = all(grown[name] < most for name, most in limits.items())
            detail = ", ".join(f"{value:,.0f} {name}" for name, value in grown.items())
            run.check("memory is flat", flat, f"more in the last tenth than in the second: {detail}")
            run.figure("more in the last tenth than in the second", detail)


def _first_most_last(row: Sequence[float]) -> tuple[float, float, float]:
    return row[0], max(row), row[-1]


async def _live(server: Moq) -> None:
    """The live track of a round. In the pauses there is none, as what is kept of one is not always as much."""
    with BroadcastProducer() as broadcast:
        track = broadcast.create_track("video")
        await server.publish("cam", broadcast)
        while True:
            track.write_frame(bytes(500))
            await asyncio.sleep(0.01)


async def _much(server: Moq) -> None:
    """A track with much in it, and one that was aborted."""
    broadcast = BroadcastProducer()
    broadcast.create_track("gone").abort(70)
    track = broadcast.create_track("bulk")
    await server.publish("much", broadcast)
    for _ in range(_BULK):
        track.write_frame(bytes(64 * 1024))

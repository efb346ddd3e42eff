"""The part: trials, some at the same time, with every victim and kind of crash in turn."""

from __future__ import annotations

import asyncio
import itertools

from ..run import Run
from ..stopping import run_async
from ..transfer import Content
from .trial import ROLES, Crash, run_trial

__all__ = ["run"]

_SHORT = 4
_LONG = 100
_AT_ONCE = 2
_PATIENCE = 120.0
_SILENCE = 1.0
_PATIENT = 4
"""Of so many trials one leaves it to the library to notice, which takes its time."""

CLAIMS = (
    "the transfer ends with the right SHA-256",
    "nothing is skipped and nothing comes twice",
    "the others notice, and say so",
    "every process that lives on ends well, with nothing left",
)


def run(run: Run, trials: int | None = None) -> None:
    """So many trials."""
    run_async(_run(run, trials or run.choose(_SHORT, _LONG)))


def _crashes(run: Run, trials: int, content: Content) -> list[Crash]:
    chance = run.random("crashes")
    kinds = itertools.cycle([*((role, "kill") for role in ROLES), *((role, "freeze") for role in ROLES)])
    return [
        Crash.of(chance, content, *next(kinds), None if run.long and number % _PATIENT == _PATIENT - 1 else _SILENCE)
        for number in range(trials)
    ]


async def _run(run: Run, trials: int) -> None:
    content = Content(run.seed, groups=run.choose(100, 300), size=run.choose(8_000, 40_000))
    pending = list(enumerate(_crashes(run, trials, content)))[::-1]
    done: list[float] = []
    resumed: list[float] = []
    reconnects = 0

    async def worker() -> None:
        nonlocal reconnects
        while pending:
            number, crash = pending.pop()
            outcome = await run_trial(crash, content, 0.01, _PATIENCE, run.seed * 1000 + number)
            wrong = dict(outcome.wrong)
            for claim in CLAIMS:
                run.check(claim, claim not in wrong, f"trial {number}: {wrong.get(claim)}")
            done.append(outcome.seconds)
            resumed.append(outcome.resumed)
            reconnects += outcome.reconnects
            run.progress(f"{len(done)} of {trials} trials")

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(worker())
    finally:
        run.figure("trials", len(done))
        run.figure("bytes of each transfer", content.groups * content.size)
        run.figure("sessions that ended and came back", reconnects)
        if resumed:
            ordered = sorted(resumed)
            run.figure(
                "from the crash to the next group, median and longest, s",
                f"{ordered[len(ordered) // 2]:.1f} and {ordered[-1]:.1f}",
            )
            run.figure("longest trial, s", max(done))

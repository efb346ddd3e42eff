"""The part: one scenario after the other, each of its own seed, the first of that of the run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from ..run import Run
from ..stopping import whole
from .judge import CLAIMS
from .plan import Plan
from .scenario import Outcome, play

__all__ = ["run"]

_SHORT = 150
_LONG = 20_000
_COLLECT = 50
_TWICE = 25
"""Scenarios after which memory is collected, which must not happen within one, and of which one is played twice."""


def run(run: Run, scenarios: int | None = None, play: Callable[[Plan], Outcome] = play) -> None:
    """Plays so many scenarios, or as many as the time allows if there is a limit to that."""
    count = scenarios or run.choose(_SHORT, _LONG)
    played = faulty = readers = groups = complete = told = gaps = 0
    started = time.perf_counter()
    for claim in CLAIMS:
        run.check(claim, True)
        run.claims[claim].checks = 0
    try:
        for seed in range(run.seed, run.seed + count):
            if run.minutes is not None and time.perf_counter() - started > 60 * run.minutes:
                break
            plan = Plan.of(seed)
            with whole():
                outcome = play(plan)
            played += 1
            faulty += bool(plan.faults)
            readers += outcome.readers
            groups += outcome.groups
            complete += outcome.complete
            told += outcome.told
            gaps += outcome.gaps
            failed = dict(outcome.wrong)
            for claim in CLAIMS:
                run.check(claim, claim not in failed, f"seed {seed}: {failed.get(claim)}")
            if played % _TWICE == 1:
                with whole():
                    again = play(plan).fingerprint
                run.check("a seed always leads to the same", again == outcome.fingerprint, f"seed {seed}")
            if played % _COLLECT == 0:
                gc.collect()
            run.progress(f"{played:,} of {count:,} scenarios")
    finally:
        gc.collect()
        run.figure("scenarios", played)
        run.figure("with faults", faulty)
        run.figure("readers", readers)
        run.figure("of them told that they have everything", complete)
        run.figure("of them told of an error", told)
        run.figure("of them cut off by their publisher's own failure, with a gap before the error (known)", gaps)
        run.figure("groups read", groups)
        run.figure("scenarios per second", round(played / (time.perf_counter() - started)))

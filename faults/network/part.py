"""The part: a transfer through each kind of network."""

from __future__ import annotations

import asyncio

from ..run import Run
from ..stopping import run_async
from ..transfer import Content
from .namespaces import missing
from .trial import CLAIMS, Trial, run_trial
from .weather import Weather

__all__ = ["LONG", "SHORT", "run"]

_BAD = Weather(loss=0.2, delay=0.02, jitter=0.02, reorder=0.1, duplicate=0.1)

_LOSSY = Weather(loss=0.1, delay=0.02)

SHORT = [
    Trial("all at once: 20 % loss, delay, jitter, reordering, duplicates", _BAD),
    Trial("an outage of 3 s", Weather(delay=0.005), outage=3.0),
    Trial("another address behind a router", Weather(delay=0.005), changes="router"),
]

LONG = [
    *(Trial(f"{loss:.0%} loss", Weather(loss=loss, delay=0.02)) for loss in (0.01, 0.05, 0.1, 0.2)),
    Trial("200 ms delay", Weather(delay=0.2)),
    Trial("20 ms delay and 80 ms jitter", Weather(delay=0.02, jitter=0.08)),
    Trial("30 % reordered", Weather(delay=0.02, reorder=0.3)),
    Trial("30 % duplicated", Weather(delay=0.02, duplicate=0.3)),
    SHORT[0],
    SHORT[1],
    Trial("an outage of 30 s", Weather(delay=0.005), outage=30.0),
    SHORT[2],
    Trial("another address of the subscriber", Weather(delay=0.005), changes="subscriber"),
    # The QUIC library can wait for ever for packets that confirm the new address, if they were lost.
    *(
        Trial(f"another address, under 10 % loss, with a heartbeat ({number})", _LOSSY, changes="router", silence=8.0)
        for number in (1, 2, 3)
    ),
]

_AT_ONCE = 3
_PATIENCE = 240.0
_PACE = 0.02


def run(run: Run, trials: list[Trial] | None = None) -> None:
    """All the trials of the form."""
    reason = missing()
    if reason is not None:
        run.note(f"Left out: {reason}.")
        return
    run_async(_run(run, trials or (LONG if run.long else SHORT)))


async def _run(run: Run, trials: list[Trial]) -> None:
    content = Content(run.seed, groups=run.choose(40, 400), size=run.choose(2_000, 20_000))
    pending = list(enumerate(trials))[::-1]
    done = 0

    async def worker() -> None:
        nonlocal done
        while pending:
            number, trial = pending.pop()
            outcome = await run_trial(trial, content, _PACE, _PATIENCE, f"{run.seed}/{number}")
            for claim in CLAIMS:
                run.check(claim, claim not in outcome.wrong, f"{trial.name}: {outcome.wrong.get(claim)}")
            sessions = f"; {outcome.lost_sessions} sessions lost" if outcome.lost_sessions else ""
            run.figure(trial.name, f"{outcome.seconds:.1f} s{sessions}; packets: {outcome.packets}")
            done += 1
            run.progress(f"{done} of {len(trials)} networks")

    run.figure("bytes of each transfer", content.groups * content.size)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(worker())

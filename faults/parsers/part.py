"""The part: every target in turn, in rounds of batches, with an eye on memory."""

from __future__ import annotations

import gc
import sys
import time

from ..memory import resident
from ..run import Run
from .feed import BATCH, Feeder
from .targets import Target, targets

__all__ = ["run"]

_SHORT = 60_000
_LONG = 10_000_000
_BLOCKS = 5_000
"""Blocks of memory that may be there in the end and were not in the beginning, for caches such as those of
the regular expressions; one more to each input would be far beyond it."""


def run(run: Run, wanted: list[Target] | None = None, inputs: int | None = None) -> None:
    """Feeds all targets (or those) so many inputs in all."""
    feeders = [Feeder(run, target) for target in wanted or targets()]
    inputs = inputs or run.choose(_SHORT, _LONG)
    rounds = max(1, inputs // (BATCH * len(feeders)))
    started = time.perf_counter()
    for feeder in feeders:
        feeder.warm_up()
        feeder.batch(-1)
    resident_before, blocks_before = resident(), _blocks()
    kinds_before = sum(feeder.kinds for feeder in feeders)
    try:
        for number in range(rounds):
            for feeder in feeders:
                feeder.batch(number)
            run.progress(f"{sum(feeder.inputs for feeder in feeders):,} of {inputs:,} inputs")
    finally:
        fed = sum(feeder.inputs for feeder in feeders)
        kinds = sum(feeder.kinds for feeder in feeders)
        grown = _blocks() - blocks_before
        for claim in (
            "no exception escapes a parser",
            "no input takes over a second",
            "the outcome is the same however the bytes are split",
        ):
            run.check(claim, True)
            run.claims[claim].checks += fed - 1
        run.figure("inputs", fed)
        run.figure("parsers", len(feeders))
        run.figure("kinds of outcome", kinds)
        run.figure("inputs per second", round(fed / (time.perf_counter() - started)))
        run.figure("slowest input, ms", max(feeder.slowest for feeder in feeders) * 1000)
        run.figure("resident memory before and after, MiB", f"{resident_before >> 20} and {resident() >> 20}")
        run.figure("blocks of memory more at the end", grown)
        # What the corpus has kept is ours.
        bound = _BLOCKS + 20 * (kinds - kinds_before)
        run.check("memory is flat", grown <= bound, f"{grown} blocks more after {fed:,} inputs")


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()

"""A run: rounds of all workloads, in each of which the contenders take turns."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .contenders import load
from .failed import Failed
from .pair import measure
from .results import Cell, Results, Sample
from .table import short
from .workload import Scale, Workload

__all__ = ["run"]


async def run(contenders: Sequence[str], workloads: Sequence[Workload], scale: Scale, rounds: int) -> Results:
    """Measures everything, and tells of it on standard error."""
    results = Results(contenders, workloads)
    able = {name: load(name).cannot for name in contenders}
    total = rounds * sum(workload.name not in able[name] for workload in workloads for name in contenders)
    for number in range(rounds):
        # Nobody is always the first to come upon whatever the one before has left.
        order = [*contenders[number % len(contenders) :], *contenders[: number % len(contenders)]]
        for workload in workloads:
            for contender in order:
                if workload.name not in able[contender]:
                    sample = await _sample(number, contender, workload, scale, results)
                    results.samples.append(sample)
                    _tell(f"{len(results.samples)}/{total}", sample, workload)
    return results


async def _sample(number: int, contender: str, workload: Workload, scale: Scale, results: Results) -> Sample:
    try:
        measured = await measure(contender, workload, scale)
    except Failed as error:
        return Sample(number, contender, workload.name, failed=str(error))
    results.facts[contender] = measured.facts
    return Sample(number, contender, workload.name, measured.numbers)


def _tell(progress: str, sample: Sample, workload: Workload) -> None:
    metric = workload.metrics[0]
    value = sample.numbers.get(metric.key)
    cell = Cell(failed=sample.failed) if sample.failed else None if value is None else Cell(value, value, value)
    print(f"{progress:>9}  {workload.name:15} {sample.contender:25} {short(cell, metric.unit)}", file=sys.stderr)

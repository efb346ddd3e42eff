"""What a run has measured: every sample, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .workload import Metric, Workload

__all__ = ["Cell", "Results", "Sample"]


@dataclass(frozen=True)
class Sample:
    """One measurement: its numbers, or why there are none."""

    round: int
    contender: str
    workload: str
    numbers: dict[str, float] = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True)
class Cell:
    """What the samples of one contender, workload and metric come to: a median and a spread, or a failure."""

    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    failed: str | None = None


class Results:
    """The samples of a run, in the order in which they were taken."""

    def __init__(self, contenders: Iterable[str], workloads: Iterable[Workload]) -> None:
        self.contenders = list(contenders)
        self.workloads = list(workloads)
        self.samples: list[Sample] = []
        self.facts: dict[str, dict[str, Any]] = {}
        """What each contender's processes said of themselves."""

    @property
    def rows(self) -> list[tuple[Workload, Metric]]:
        """The rows of the table."""
        return [(workload, metric) for workload in self.workloads for metric in workload.metrics]

    def cell(self, contender: str, workload: str, metric: str) -> Cell | None:
        """None where there is no sample. One failure outweighs any number of numbers."""
        samples = [each for each in self.samples if (each.contender, each.workload) == (contender, workload)]
        failures = [sample.failed for sample in samples if sample.failed is not None]
        if failures:
            return Cell(failed=f"{failures[0]} ({len(failures)} of {len(samples)} times)")
        values = [sample.numbers[metric] for sample in samples if metric in sample.numbers]
        return Cell(median(values), min(values), max(values)) if values else None

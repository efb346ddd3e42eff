"""What this package is to reach, and whether it has."""

from __future__ import annotations

from dataclasses import dataclass

from .results import Cell, Results

__all__ = ["TARGETS", "Outcome", "Target"]

_MINE = "iroh-moq"
_WITHOUT = "iroh-moq without driver"


@dataclass(frozen=True)
class Place:
    """A place in the table."""

    contender: str
    workload: str
    metric: str

    def cell(self, results: Results) -> Cell | None:
        return results.cell(self.contender, self.workload, self.metric)


@dataclass(frozen=True)
class Outcome:
    """The ratio of the two medians, and whether it is what it should be; None where it was not measured."""

    ratio: float | None
    met: bool | None


@dataclass(frozen=True)
class Target:
    """That one number is at least, or at most, so many times another."""

    label: str
    against: str
    mine: Place
    theirs: Place
    factor: float
    at_least: bool

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.factor:g} times"

    def outcome(self, results: Results) -> Outcome:
        mine, theirs = self.mine.cell(results), self.theirs.cell(results)
        if mine is not None and mine.failed is not None:
            return Outcome(None, False)
        if mine is None or theirs is None or theirs.failed is not None or not theirs.median:
            return Outcome(None, None)
        ratio = mine.median / theirs.median
        return Outcome(ratio, ratio >= self.factor if self.at_least else ratio <= self.factor)


_GROUPS = ("groups", "groups_per_second", "1 KB groups/s")
_SMALL_FRAMES = ("frames-100", "frames_per_second", "100-byte frames/s, 200 to a group")
_FRAMES = ("frames-1k", "frames_per_second", "1 KB frames/s, 200 to a group")
_BULK = ("bulk-1m", "megabytes_per_second", "MB/s, 1 MiB frames")
_SMALL_BULK = ("bulk-16k", "megabytes_per_second", "MB/s, 16 KiB frames")
_P50 = ("latency-100", "p50", "latency p50, 100 a second")
_P99 = ("latency-100", "p99", "latency p99, 100 a second")
_P50_FAST = ("latency-1000", "p50", "latency p50, 1,000 a second")


def _versus(mine: str, theirs: str, what: tuple[str, str, str], factor: float, *, at_least: bool = True) -> Target:
    workload, metric, label = what
    if mine != _MINE:
        label = f"{mine}: {label}"
    return Target(label, theirs, Place(mine, workload, metric), Place(theirs, workload, metric), factor, at_least)


def _growth(metric: str, whose: str) -> Target:
    return Target(
        f"fan-out, {whose} processor time per delivered frame at 200 subscribers",
        "the same at 10",
        Place(_MINE, "fan-out-200", metric),
        Place(_MINE, "fan-out-10", metric),
        1.2,
        at_least=False,
    )


TARGETS: tuple[Target, ...] = (
    _versus(_MINE, "moq-rs", _GROUPS, 5),
    _versus(_MINE, "moq-rs", _SMALL_FRAMES, 20),
    _versus(_MINE, "moq-rs", _BULK, 2),
    _versus(_MINE, "driver", _BULK, 0.9),
    _versus(_MINE, "driver", _GROUPS, 0.6),
    _versus(_MINE, "moq-rs", _P50, 0.5, at_least=False),
    _versus(_MINE, "moq-rs", _P99, 0.5, at_least=False),
    _versus(_MINE, "rust", _BULK, 0.8),
    _versus(_MINE, "rust", _GROUPS, 0.4),
    _versus(_MINE, "rust", _P50, 1.5, at_least=False),
    _growth("publisher_per_frame", "publisher's"),
    _growth("processor_per_frame", "all"),
    *(_versus(_WITHOUT, "iroh", what, 1) for what in (_GROUPS, _SMALL_FRAMES, _FRAMES, _BULK, _SMALL_BULK)),
    *(_versus(_WITHOUT, "iroh", what, 1, at_least=False) for what in (_P50, _P50_FAST)),
)

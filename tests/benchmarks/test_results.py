"""What samples come to: medians and spreads, targets, and the table."""

from __future__ import annotations

import pytest

from benchmarks.results import Cell, Results, Sample
from benchmarks.table import show, to_markdown
from benchmarks.targets import TARGETS, Outcome, Target
from benchmarks.workload import Scale
from benchmarks.workloads import workloads

_WORKLOADS = workloads(Scale())
_ABOUT = {
    "machine": {"processors": 2, "processor": "a processor", "system": "a system", "python": "a Python"},
    "versions": {"iroh": "1.2.0"},
    "date": "2025-01-01",
    "rounds": 3,
    "seconds": 1.0,
}


def _results(**values: list[float | str]) -> Results:
    """The work with groups; a text is a failure. Underscores in names are hyphens."""
    contenders = {name.replace("_", "-"): samples for name, samples in values.items()}
    results = Results(contenders, [_WORKLOADS["groups"]])
    for contender, samples in contenders.items():
        for number, value in enumerate(samples):
            if isinstance(value, str):
                results.samples.append(Sample(number, contender, "groups", failed=value))
            else:
                results.samples.append(Sample(number, contender, "groups", {"groups_per_second": value}))
    return results


def _target(against: str) -> Target:
    return next(
        each for each in TARGETS if each.against == against and each.mine.workload == "groups" and each.at_least
    )


class TestCell:
    def test_median_and_spread(self) -> None:
        assert _results(iroh=[5.0, 1.0, 2.0]).cell("iroh", "groups", "groups_per_second") == Cell(2.0, 1.0, 5.0)

    def test_a_failure_outweighs_numbers(self) -> None:
        cell = _results(iroh=[5.0, "lost", 2.0]).cell("iroh", "groups", "groups_per_second")
        assert cell == Cell(failed="lost (1 of 3 times)")

    def test_nothing(self) -> None:
        assert _results(iroh=[]).cell("iroh", "groups", "groups_per_second") is None


class TestTargets:
    @pytest.mark.parametrize(("mine", "outcome"), [(100.0, Outcome(5.0, True)), (99.0, Outcome(4.95, False))])
    def test_at_least(self, mine: float, outcome: Outcome) -> None:
        results = _results(iroh_moq=[mine], moq_rs=[20.0])
        assert _target("moq-rs").outcome(results) == outcome

    @pytest.mark.parametrize(("mine", "met"), [(0.5, True), (0.6, False)])
    def test_at_most(self, mine: float, met: bool) -> None:
        target = next(each for each in TARGETS if not each.at_least and each.mine.metric == "p50")
        results = Results(["iroh-moq", "moq-rs"], [_WORKLOADS[target.mine.workload]])
        for contender, value in (("iroh-moq", mine), ("moq-rs", 1.0)):
            results.samples.append(Sample(0, contender, target.mine.workload, {"p50": value}))
        assert target.outcome(results).met is met

    def test_who_fails_has_missed(self) -> None:
        results = _results(iroh_moq=["lost"], moq_rs=[20.0])
        assert _target("moq-rs").outcome(results) == Outcome(None, False)

    def test_nothing_to_compare_with(self) -> None:
        assert _target("moq-rs").outcome(_results(iroh_moq=[1.0], moq_rs=["lost"])) == Outcome(None, None)
        assert _target("moq-rs").outcome(_results(iroh_moq=[1.0])) == Outcome(None, None)

    def test_all_name_what_there_is(self) -> None:
        metrics = {(name, metric.key) for name, workload in _WORKLOADS.items() for metric in workload.metrics}
        for target in TARGETS:
            for place in (target.mine, target.theirs):
                assert (place.workload, place.metric) in metrics


class TestTable:
    def test_rows(self) -> None:
        table = to_markdown(_results(iroh_moq=[1.0, 2.0, 30.0], moq_rs=["lost"], iroh=[]), _ABOUT).splitlines()
        assert "| work | unit | iroh-moq | moq-rs | iroh |" in table
        assert "| 1 KB groups | groups/s | 2.00 (1.00–30.0) | FAILED | - |" in table  # noqa: RUF001 - a range
        assert "- groups, moq-rs: lost (1 of 1 times)" in table

    def test_ratios_come_first(self) -> None:
        text = to_markdown(_results(iroh_moq=[100.0], moq_rs=[10.0]), _ABOUT)
        assert "| 1 KB groups/s | moq-rs | at least 5 times | 10.00 | met |" in text
        assert text.index("## Targets") < text.index("## All numbers")

    def test_the_driver_is_named(self) -> None:
        results = _results(iroh_moq=[1.0])
        results.facts["iroh-moq"] = {"driver": False}
        assert "The native driver was, by iroh-moq: not in use." in to_markdown(results, _ABOUT)

    @pytest.mark.parametrize(
        ("value", "text"), [(1234567.8, "1,234,568"), (12.345, "12.3"), (1.2345, "1.23"), (0.01234, "0.012"), (0, "0")]
    )
    def test_digits(self, value: float, text: str) -> None:
        assert show(value) == text

"""The results as Markdown: the ratios first, then every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .results import Cell, Results
from .targets import TARGETS, Target

__all__ = ["short", "show", "to_markdown"]

_NOT_DONE = "-"


def show(value: float) -> str:
    """A number, with no more digits than mean something."""
    size = abs(value)
    if size >= 100 or size == 0:
        return f"{value:,.0f}"
    return f"{value:.{1 if size >= 10 else 2 if size >= 1 else 3}f}"


def short(cell: Cell | None, unit: str) -> str:
    """A cell in a few words, for whoever watches."""
    if cell is None:
        return _NOT_DONE
    return f"FAILED: {cell.failed}" if cell.failed is not None else f"{show(cell.median)} {unit}"


def to_markdown(results: Results, about: Mapping[str, Any]) -> str:
    """The whole report."""
    machine = about["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parts = [
        "# Benchmarks",
        f"{machine['processors']} processors ({machine['processor']}), {machine['system']}, {machine['python']}; "
        f"{packages}. {about['date']}, {about['rounds']} round{'s' if about['rounds'] > 1 else ''}, "
        f"{about['seconds']:g} s for what can go on for any time.",
        "Each number is the median of the rounds, with the least and the greatest in brackets. Publisher and "
        "subscribers are processes of their own, on loopback, started anew for each sample; the contenders take "
        "turns within each round. A number is there only if every frame arrived, whole and in order within its group.",
        *_facts(results),
        "## Targets",
        _table(("work", "against", "wanted", "ratio", ""), [_target(target, results) for target in TARGETS], right=3),
        "## All numbers",
        _numbers(results),
        *_failures(results),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(results: Results) -> list[str]:
    """Which of the contenders that can use the native driver did, for a broken build must not go unseen."""
    known = {contender: facts["driver"] for contender, facts in results.facts.items() if "driver" in facts}
    if not known:
        return []
    said = (f"{contender}: {'in use' if driver else 'not in use'}" for contender, driver in sorted(known.items()))
    return [f"The native driver was, by {'; by '.join(said)}."]


def _target(target: Target, results: Results) -> list[str]:
    outcome = target.outcome(results)
    verdict = "not measured" if outcome.met is None else "met" if outcome.met else "**missed**"
    return [
        target.label,
        target.against,
        target.wanted,
        _NOT_DONE if outcome.ratio is None else f"{outcome.ratio:.2f}",
        verdict,
    ]


def _numbers(results: Results) -> str:
    rows = []
    for workload, metric in results.rows:
        cells = (results.cell(contender, workload.name, metric.key) for contender in results.contenders)
        rows.append([metric.label, metric.unit, *map(_cell, cells)])
    return _table(("work", "unit", *results.contenders), rows, right=2)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return _NOT_DONE
    if cell.failed is not None:
        return "FAILED"
    if cell.low == cell.high:
        return show(cell.median)
    return f"{show(cell.median)} ({show(cell.low)}–{show(cell.high)})"  # noqa: RUF001 - a range


def _failures(results: Results) -> list[str]:
    failures = {
        f"- {workload.name}, {contender}: {cell.failed}"
        for workload, metric in results.rows
        for contender in results.contenders
        if (cell := results.cell(contender, workload.name, metric.key)) is not None and cell.failed is not None
    }
    return ["## Failures", "\n".join(sorted(failures))] if failures else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: int) -> str:
    """A Markdown table, its columns from ``right`` on set to the right."""
    rules = ["---" if index < right else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rules, *rows))

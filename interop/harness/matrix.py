"""The outcomes of all cases: as a table to read, and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Matrix"]

_LEGEND = (
    "The arrow is the way that data takes; the star is on the side that dials. `python-plain` is this package without",
    "its native driver. Where a cell is empty, the case is not about that pair.",
)

_SIGNS = {"passed": "ok", "failed": "**FAILED**", "skipped": "-"}


@dataclass
class Matrix:
    """Per version of the protocol: rows are cases, columns are pairs."""

    outcomes: dict[str, dict[str, dict[str, tuple[str, float]]]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)

    def record(self, version: str, case: str, column: str, outcome: str, seconds: float) -> None:
        """Takes note of one outcome; the worst one of a case stays."""
        row = self.outcomes.setdefault(version, {}).setdefault(case, {})
        before = row.get(column)
        if before is None or before[0] != "failed":
            row[column] = outcome, seconds + (before[1] if before else 0)

    @classmethod
    def without_failures(cls, directory: Path, about: dict[str, str]) -> Matrix:
        """What was written there, except for what failed, which is tried again."""
        written = json.loads((directory / "matrix.json").read_text(encoding="utf-8"))["versions"]
        outcomes = {
            version: {
                case: {
                    column: (cell["outcome"], cell["seconds"])
                    for column, cell in row.items()
                    if cell["outcome"] != "failed"
                }
                for case, row in cases.items()
            }
            for version, cases in written.items()
        }
        return cls(outcomes, about)

    def write(self, directory: Path) -> None:
        """Writes ``matrix.md`` and ``matrix.json``."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "matrix.md").write_text(self.markdown(), encoding="utf-8")
        (directory / "matrix.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "about": self.about,
            "versions": {
                version: {
                    case: {
                        column: {"outcome": outcome, "seconds": round(seconds, 2)}
                        for column, (outcome, seconds) in row.items()
                    }
                    for case, row in cases.items()
                }
                for version, cases in self.outcomes.items()
            },
        }

    def markdown(self) -> str:
        """All of it, for people."""
        lines = ["# Interoperability", ""]
        lines += [f"- {what}: {value}" for what, value in self.about.items()]
        lines += ["", *_LEGEND, ""]
        for version, cases in self.outcomes.items():
            lines += [f"## {version}", "", self.summary(version), ""]
            columns = list(dict.fromkeys(column for row in cases.values() for column in row))
            lines += ["| case | " + " | ".join(columns) + " |", "|---|" + ":-:|" * len(columns)]
            for case, row in cases.items():
                signs = [_SIGNS[row[column][0]] if column in row else "" for column in columns]
                lines.append(f"| {case} | " + " | ".join(signs) + " |")
            lines.append("")
        return "\n".join(lines)

    def summary(self, version: str) -> str:
        """How many of each outcome."""
        counts: dict[str, int] = {}
        for row in self.outcomes[version].values():
            for outcome, _ in row.values():
                counts[outcome] = counts.get(outcome, 0) + 1
        return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))

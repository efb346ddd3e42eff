"""The report: a section to each part, in `report.json` for programs and `report.md` for people.

A part that is run again replaces its own section and leaves the others as they are.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iroh_moq import __version__

from .run import Run

__all__ = ["load", "save", "section"]

_JSON = "report.json"
_MARKDOWN = "report.md"


def section(run: Run, started: datetime, *, stopped: bool) -> dict[str, Any]:
    """What a run has found, for the report."""
    return {
        "form": "long" if run.long else "short",
        "seed": run.seed,
        "date": started.date().isoformat(),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
        "stopped": stopped,
        "failed": run.failed,
        "figures": run.figures,
        "claims": [asdict(claim) for claim in run.claims.values()],
        "notes": run.notes,
        "pictures": run.pictures,
    }


def load(folder: Path) -> dict[str, Any]:
    """The sections that are there, by part."""
    try:
        parts = json.loads((folder / _JSON).read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return parts if isinstance(parts, dict) else {}


def save(folder: Path, part: str, found: Mapping[str, Any], order: list[str]) -> None:
    """Puts a section in the place of the part's last one."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {**load(folder), part: dict(found)}
    parts = {name: parts[name] for name in sorted(parts, key=lambda name: (name not in order, order.index(name)))}
    about = {"version": __version__, "python": platform.python_version(), "processors": os.cpu_count()}
    _write(folder / _JSON, json.dumps({"about": about, "parts": parts}, indent=1, ensure_ascii=False) + "\n")
    _write(folder / _MARKDOWN, _to_markdown(about, parts))


def _write(path: Path, text: str) -> None:
    # A report that is half written would lose what the other parts have found.
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _to_markdown(about: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    lines = [
        "# Faults: what was done, what held, what failed",
        "",
        f"iroh-moq {about['version']}, CPython {about['python']}, {about['processors']} processors. "
        "Written by `python -m faults`; a failure is replayed with the seed of its section.",
        "",
        "| part | form | date | seconds | seed | outcome |",
        "|---|---|---|---|---|---|",
    ]
    for name, part in parts.items():
        outcome = ("FAILED" if part["failed"] else "held") + (", stopped early" if part["stopped"] else "")
        cells = [f"[{name}](#{name})", part["form"], part["date"], f"{part['seconds']:g}", str(part["seed"]), outcome]
        lines.append(f"| {' | '.join(cells)} |")
    for name, part in parts.items():
        lines += ["", f"## {name}", *_section(part)]
    return "\n".join(lines) + "\n"


def _section(part: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    if part["notes"]:
        lines += ["", *(f"{note}" for note in part["notes"])]
    if part["figures"]:
        lines += ["", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {_shown(value)} |" for name, value in part["figures"].items()]
    if part["claims"]:
        lines += ["", "| claim | looked at | failed |", "|---|---|---|"]
        lines += [f"| {claim['text']} | {claim['checks']:,} | {claim['failures']:,} |" for claim in part["claims"]]
    for claim in part["claims"]:
        if claim["failures"]:
            lines += ["", f"**Failed: {claim['text']}**", ""]
            lines += [f"- {detail}" for detail in claim["details"]]
    lines += [line for picture in part["pictures"] for line in ("", f"![{picture}]({picture})")]
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"

"""The benchmarks: ``python -m benchmarks``, which is what ``make bench`` runs, needs no arguments."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, load
from .machine import describe_machine
from .results import Results
from .run import run
from .table import to_markdown
from .targets import TARGETS
from .workload import QUICK, Scale
from .workloads import workloads

_RESULTS = Path(__file__).parent / "results"
_TRIAL = _RESULTS / "trial"
_ROUNDS = 5


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = list(workloads(Scale()))
    parser.add_argument("--quick", action="store_true", help="see that all of it works, in under two minutes")
    parser.add_argument("--workload", action="append", metavar="NAME", help=f"only this one: {', '.join(names)}")
    parser.add_argument(
        "--contender", action="append", metavar="NAME", help=f"only this one: {', '.join(CONTENDERS)}, or module:class"
    )
    parser.add_argument("--rounds", type=int, help=f"how many samples of each (default: {_ROUNDS}, or 1 if quick)")
    parser.add_argument(
        "--seconds", type=float, help=f"for work of any length (default: {Scale().seconds:g}, or {QUICK.seconds:g})"
    )
    parser.add_argument("--output", type=Path, help=f"a folder (default: {_RESULTS.name}, or for parts {_TRIAL.name})")
    parser.add_argument("--no-plot", action="store_true", help="do without the picture, for which matplotlib is needed")
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else Scale()
    partial = bool(options.quick or options.workload or options.contender)
    options.scale = Scale(options.seconds or scale.seconds, scale.quick)
    options.rounds = options.rounds or (1 if options.quick else _ROUNDS)
    options.output = options.output or (_TRIAL if partial else _RESULTS)
    known = workloads(options.scale)
    if unknown := [name for name in options.workload or () if name not in known]:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(known)}")
    options.workloads = [known[name] for name in options.workload or known]
    if unknown := [name for name in options.contender or () if name not in CONTENDERS and ":" not in name]:
        parser.error(f"no contender {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    options.contenders = [name for name in options.contender or CONTENDERS if _is_there(name)]
    if not options.contenders:
        parser.error("no contender is installed")
    return options


def _is_there(name: str) -> bool:
    try:
        load(name)
    except ImportError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return False
    return True


def _save(results: Results, options: argparse.Namespace, started: datetime) -> None:
    made_of: dict[str, str] = {}
    for name in results.contenders:
        made_of |= load(name).versions()
    about: dict[str, Any] = {
        "date": started.date().isoformat(),
        "rounds": options.rounds,
        "seconds": options.scale.seconds,
        "quick": options.scale.quick,
        "took": round((datetime.now(UTC) - started).total_seconds()),
        "machine": describe_machine(),
        "versions": made_of,
        "facts": results.facts,
    }
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    text = to_markdown(results, about)
    (folder / "latest.md").write_text(text, encoding="utf-8")
    summary = [
        {"workload": workload.name, "metric": metric.key, "unit": metric.unit, "contender": contender, **asdict(cell)}
        for workload, metric in results.rows
        for contender in results.contenders
        if (cell := results.cell(contender, workload.name, metric.key)) is not None
    ]
    targets = [{**asdict(target), **asdict(target.outcome(results))} for target in TARGETS]
    samples = [asdict(sample) for sample in results.samples]
    data = {**about, "summary": summary, "targets": targets, "samples": samples}
    (folder / "latest.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not options.no_plot:
        from .plot import save_plot  # noqa: PLC0415 - all but this works without matplotlib

        save_plot(results, folder / "latest.png")
    print(text)
    print(f"Written to {folder}, in {about['took']} s", file=sys.stderr)


async def _run(options: argparse.Namespace) -> Results:
    task = asyncio.current_task()
    assert task is not None
    # Windows has no signal handlers in its loop.
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(options.contenders, options.workloads, options.scale, options.rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _options(arguments)
    started = datetime.now(UTC)
    try:
        results = asyncio.run(_run(options))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    _save(results, options, started)


if __name__ == "__main__":
    main()

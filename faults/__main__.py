"""``python -m faults [PART ...]``: runs parts of the suite, all of them in their short form unless told otherwise."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .parts import PARTS, load_part
from .report import save, section
from .run import Run
from .stopping import Terminated, stoppable

_RESULTS = Path(__file__).parent / "results"
_TRIAL = _RESULTS / "trial"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--long", action="store_true", help="the long form, which takes hours in all")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: 1)")
    parser.add_argument("--minutes", type=float, help="how long parts run that can take any time")
    parser.add_argument(
        "--output", type=Path, help=f"a folder (default: {_RESULTS.name}, or {_TRIAL.name} for the short form)"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.minutes is not None and options.minutes <= 0:
        parser.error("--minutes must be positive")
    options.output = options.output or (_RESULTS if options.long else _TRIAL)
    return options


def run_part(run: Run) -> bool:
    """Runs one part and writes its section, also when it is stopped; whether all held.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    started = datetime.now(UTC)
    stopped = True
    try:
        load_part(run.part)(run)
        stopped = False
    except KeyboardInterrupt:
        raise
    except Exception:
        # Whatever it is, the other parts are to run and the report is to say it.
        stopped = False
        traceback.print_exc()
        run.check("the part itself ran to its end", False, traceback.format_exc(limit=-3).replace("\n", " "))
    finally:
        save(run.folder, run.part, section(run, started, stopped=stopped), PARTS)
        taken = (datetime.now(UTC) - started).total_seconds()
        outcome = "stopped" if stopped else "FAILED" if run.failed else "held"
        print(f"{run.part}: {outcome}, {taken:.1f} s, seed {run.seed}", file=sys.stderr, flush=True)
    return not run.failed


@contextmanager
def _errors_only() -> Iterator[None]:
    """What hostile peers do is logged, and there are very many."""
    logger = logging.getLogger("iroh_moq")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; what it returns is the exit code."""
    options = _options(arguments)
    held = True
    try:
        with _errors_only(), stoppable():
            for name in options.parts or PARTS:
                run = Run(name, long=options.long, seed=options.seed, folder=options.output, minutes=options.minutes)
                held = run_part(run) and held
    except Terminated:
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"The report is in {options.output}", file=sys.stderr)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

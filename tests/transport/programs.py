"""Runs programs that end, hang or fork in ways that the process of the tests must survive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.examples.programs import interruptible

__all__ = ["run_python"]

_ROOT = Path(__file__).parents[2]


def run_python(program: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program's outcome, with this process's environment and a little more; it can import the tests."""
    # Else an interrupt would be ignored where the tests themselves run in the background.
    with interruptible():
        return subprocess.run(
            [sys.executable, *options, "-c", program],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

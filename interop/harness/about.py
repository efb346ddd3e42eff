"""What took part in a run."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

__all__ = ["about"]

_LOCK = Path(__file__).parents[1] / "peer" / "Cargo.lock"
_CRATES = ("iroh", "web-transport-iroh", "moq-net")


def about() -> dict[str, str]:
    """The versions of both sides."""
    lock = _LOCK.read_text(encoding="utf-8")
    crates = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}, iroh {version('iroh')}",
        "Rust": ", ".join(f"{name} {crates[name]}" for name in _CRATES),
    }

"""The kinds of peers, and how each is started."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path

__all__ = ["Kind", "rust_binary"]


def rust_binary() -> Path:
    """Where the build puts the Rust peer: outside of the checkout, so that it outlives it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "iroh-moq" / "interop-target" / "release" / "interop-peer"


class Kind(Enum):
    """An implementation."""

    PYTHON = "python"
    PLAIN = "python-plain"
    RUST = "rust"

    @property
    def is_rust(self) -> bool:
        """Whether it is the other implementation."""
        return self is Kind.RUST

    def command(self) -> list[str]:
        """What to run."""
        if self.is_rust:
            return [str(rust_binary())]
        return [sys.executable, "-m", "interop.python_peer"]

    def environment(self) -> dict[str, str]:
        """What to set for it."""
        return {Kind.PYTHON: {}, Kind.PLAIN: {"IROH_MOQ_NO_EXTENSION": "1"}, Kind.RUST: {}}[self]

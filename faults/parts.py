"""The parts, by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from .run import Run

__all__ = ["PARTS", "load_part"]

PARTS = ["parsers", "hostile", "order", "crashes", "network", "load", "soak"]
"""In the order in which they run: what fails fast comes first."""


def load_part(name: str) -> Callable[[Run], None]:
    """The function that runs a part."""
    run: Callable[[Run], None] = import_module(f"faults.{name}").run
    return run

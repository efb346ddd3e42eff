"""Whether the compiled parts of this package may be used: each has another in Python that does the same."""

from __future__ import annotations

import os

__all__ = ["NO_EXTENSION", "is_turned_off"]

NO_EXTENSION = "IROH_MOQ_NO_EXTENSION"
"""The environment variable that, set to anything but nothing and 0, turns them off."""


def is_turned_off() -> bool:
    """Whether that is set."""
    return os.environ.get(NO_EXTENSION, "0") not in ("", "0")

"""What a process holds: memory and file descriptors, as Linux counts them."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

__all__ = ["descriptors", "resident"]


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process has in use."""
    try:
        pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        # Not Linux: its highest so far.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """How many file descriptors this process has open, or 0 where nothing tells."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0

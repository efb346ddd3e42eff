"""What a process holds: memory and file descriptors, as Linux counts them."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Any

__all__ = ["allocated", "descriptors", "resident"]


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _mallinfo() -> Any:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    function.restype = _MallInfo
    return function


_mallinfo2 = _mallinfo()


def allocated() -> int:
    """Bytes that this process has allocated of the C library and not freed, in C, in Rust and by Python's own
    allocator; 0 where nothing tells. Unlike what is resident, it holds nothing that is only kept for later."""
    if _mallinfo2 is None:
        return 0
    info = _mallinfo2()
    return int(info.uordblks + info.hblkhd)


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

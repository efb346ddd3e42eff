"""What this process has used: processor time and memory."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

__all__ = ["ProcessorTime", "resident_bytes"]


class ProcessorTime:
    """Seconds of processor time that all threads of this process have used since this was made."""

    def __init__(self) -> None:
        self._start = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self._start


def resident_bytes() -> int | None:
    """The memory of this process that is in RAM, garbage left out; None where the system does not tell."""
    gc.collect()
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

"""What is counted in a pause: everything that a leak would make more."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from iroh_moq import Moq
from iroh_moq.transport.driver import driver
from iroh_moq.transport.iroh_native import driver_of

from ..memory import allocated, descriptors, resident

__all__ = ["Sample", "Series", "kinds_alive", "take"]

_FEW = 12

_PACKAGES = ("iroh_moq.", "iroh.")


@dataclass(frozen=True)
class Sample:
    """The counts of one pause. Those named in `EQUAL` must be the same in every one."""

    seconds: float
    resident: int
    allocated: int
    """Of what is resident, what is in use; Python's small objects are in pools, of which blocks tell more."""
    blocks: int
    objects: int
    """Of the library and of the `iroh` package, whose objects are handles of what Rust keeps."""
    tasks: int
    files: int
    calls: int
    """Under way in the native driver."""
    peers: int

    EQUAL = ("objects", "tasks", "files", "calls", "peers")

    def same_as(self, other: Sample) -> bool:
        """Whether nothing is more, or less.

        A few objects may be: a frame that waits can hold the last error it has handled, and that what it was about.
        """
        mine, others = self.counts(), other.counts()
        few = abs(mine.pop("objects") - others.pop("objects")) <= _FEW
        return few and mine == others

    def counts(self) -> dict[str, int]:
        """Those that must be the same."""
        found: dict[str, Any] = asdict(self)
        return {name: found[name] for name in self.EQUAL}


class Series:
    """The samples of a run, each number in a row of its own. Kept as objects they would be counted as a leak."""

    def __init__(self) -> None:
        self._rows = {field.name: array("d") for field in fields(Sample)}

    def __len__(self) -> int:
        return len(self.row("seconds"))

    def append(self, sample: Sample) -> None:
        """Adds one."""
        for name, row in self._rows.items():
            row.append(getattr(sample, name))

    def row(self, name: str) -> array[float]:
        """One of the counts, over the time."""
        return self._rows[name]

    def grown(self, name: str) -> float:
        """How much more it is in the last tenth of the run than in the second."""
        row, tenth = self.row(name), max(len(self) // 10, 1)
        return fmean(row[-tenth:]) - fmean(row[tenth : 2 * tenth])


def kinds_alive() -> Counter[str]:
    """The objects of the library and of the `iroh` package, by class.

    Errors are left out: a frame that waits may hold the last one it has handled, or none yet.
    """
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        if issubclass(kind, BaseException):
            continue
        if kind.__qualname__ == "_Line":
            # What was refused, to whom and why: a table of its own bound, whose entries go after a minute.
            continue
        if isinstance(kind.__module__, str) and kind.__module__.startswith(_PACKAGES):
            found[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return found


def take(moq: Moq, started: float) -> Sample:
    """Counts everything now. Garbage is collected first: what is left is held by somebody."""
    for _ in range(3):
        gc.collect()
    pending = driver_of(asyncio.get_running_loop(), driver.module).pending() if driver.module is not None else 0
    return Sample(
        seconds=time.monotonic() - started,
        resident=resident(),
        allocated=allocated(),
        blocks=sys.getallocatedblocks(),
        objects=sum(kinds_alive().values()),
        tasks=len(asyncio.all_tasks()),
        files=descriptors(),
        calls=pending,
        peers=len(moq._actor._peers),
    )

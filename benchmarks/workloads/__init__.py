"""The workloads, in the order of the table."""

from __future__ import annotations

from ..workload import Scale, Workload
from .announcements import Announcements
from .connection import Connection, Idle
from .latency import Latency
from .live import Live
from .transfer import FanOut, bulk, frames, groups

__all__ = ["workloads"]


def workloads(scale: Scale) -> dict[str, Workload]:
    """All of them, by name, at a scale."""
    seconds, quick = scale.seconds, scale.quick
    group_bytes = (4 if quick else 16) << 20
    made: list[Workload] = [
        groups(seconds),
        frames("100", "100-byte", 100, seconds),
        frames("1k", "1 KB", 1024, seconds),
        bulk("1m", "1 MiB", 1 << 20, group_bytes, seconds),
        bulk("16k", "16 KiB", 16 << 10, group_bytes, seconds),
        Latency(100, 3 * seconds),
        Latency(1000, seconds),
        *(FanOut(count, seconds) for count in ((1, 10) if quick else (1, 10, 50, 200))),
        Announcements(1000 if quick else 10_000),
        Connection(3 if quick else 10),
        Idle(10 if quick else 100, seconds),
        Live(4 if quick else 20, 4 * seconds),
    ]
    return {workload.name: workload for workload in made}

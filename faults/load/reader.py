"""The honest subscriber: ``python -m faults.load.reader TICKET``. It reads the live track and says how late it is."""

from __future__ import annotations

import asyncio
import sys
import time

from iroh_moq import Moq

from ..told import commands, say


class _Measured:
    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.expected: int | None = None
        self.missed = 0

    def took(self, sequence: int, data: bytes) -> None:
        self.latencies.append(time.monotonic() - float(data[:20]))
        if self.expected is not None and sequence != self.expected:
            self.missed += abs(sequence - self.expected)
        self.expected = sequence + 1

    def mark(self) -> None:
        """Says what was since the last mark."""
        ordered = sorted(self.latencies)
        count = len(ordered)
        p50, p99 = (ordered[min(int(count * share), count - 1)] if count else 0.0 for share in (0.5, 0.99))
        say("mark", groups=count, missed=self.missed, p50=p50, p99=p99, most=ordered[-1] if count else 0.0)
        self.latencies, self.missed = [], 0


async def _main(ticket: str) -> None:
    measured, begun = _Measured(), list[bool]()

    async def read(moq: Moq) -> None:
        session = await moq.connect(ticket)
        broadcast = await session.subscribe("cam")
        # Reliable, so that a group that is missing was not skipped by us.
        async with broadcast.subscribe_track("video", priority=255, ordered=True) as track:
            async for group in track:
                measured.took(group.sequence, await group.read_all())
                if not begun:
                    begun.append(True)
                    say("ready")

    async with await Moq.bind(network="loopback") as moq:
        reading = asyncio.create_task(read(moq))
        reading.add_done_callback(lambda task: None if task.cancelled() else say("over", error=repr(task.exception())))
        async for _ in commands():
            measured.mark()
        reading.cancel()


def main() -> None:
    """The command line."""
    asyncio.run(_main(sys.argv[1]))


if __name__ == "__main__":
    main()

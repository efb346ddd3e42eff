"""One measurement: a publisher and a subscriber, each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from .contenders import load
from .failed import Failed, PeerEnded
from .worker import Order
from .workload import Scale, Workload

__all__ = ["Measured", "measure"]

_ROOT = Path(__file__).parent.parent
_SLACK = 150.0
"""Seconds that setting up, and a slow contender, may take beside the work."""

_GRACE = 5.0


class Measured:
    """The numbers of one measurement, and what its processes say of themselves."""

    def __init__(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        self.numbers = numbers
        self.facts = facts


async def measure(contender: str, workload: Workload, scale: Scale) -> Measured:
    """Does a workload with a contender, once.

    Raises:
        Failed: it did not do the work, or not right.
    """
    ends = socket.socketpair()
    try:
        async with (
            _worker("publisher", contender, workload, scale, ends[0]) as publisher,
            _worker("subscriber", contender, workload, scale, ends[1]) as subscriber,
        ):
            for end in ends:
                end.close()
            try:
                async with asyncio.timeout(workload.seconds + _SLACK):
                    published, subscribed = await _outcomes(publisher, subscriber)
            except TimeoutError:
                raise Failed("it did not end") from None
    finally:
        for end in ends:
            end.close()
    return Measured(workload.numbers(published["report"], subscribed["report"]), published["facts"])


@asynccontextmanager
async def _worker(
    side: str, contender: str, workload: Workload, scale: Scale, end: socket.socket
) -> AsyncIterator[Process]:
    order = Order(side, contender, workload.name, end.fileno(), scale.seconds, scale.quick)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.worker", order.to_text()),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=_ROOT,
        env={**os.environ, **load(contender).environment},
        pass_fds=[end.fileno()],
        # Ctrl-C is for the command, which ends its workers.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    """Ends a worker: by the end of its input, or the hard way if it does not listen."""
    try:
        async with asyncio.timeout(_GRACE):
            # Reads what is left in its pipes as well, so that they get closed.
            await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _outcomes(*processes: Process) -> list[dict[str, Any]]:
    """What the workers report. Where one fails, the other need not end, or fails for no reason of its own."""
    tasks = [asyncio.create_task(_outcome(process)) for process in processes]
    try:
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(PeerEnded):
                    task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _outcome(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    line, said = "", asyncio.create_task(process.stderr.read())
    try:
        line = (await process.stdout.read()).decode().rpartition("\n")[0].rpartition("\n")[2]
        if not line:
            code = await process.wait()
            last = (await said).decode(errors="replace").strip().rpartition("\n")[2]
            raise Failed(f"a process ended with code {code}: {last}")
    finally:
        said.cancel()
    outcome: dict[str, Any] = json.loads(line)
    if "failed" in outcome:
        raise PeerEnded if outcome["peer_ended"] else Failed(outcome["failed"])
    return outcome

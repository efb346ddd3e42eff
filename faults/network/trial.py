"""One trial: a reliable transfer through one kind of network, with what happens to it on the way."""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from iroh import EndpointAddr, EndpointId, EndpointTicket

from ..process import Process
from ..transfer import Content
from .namespaces import Namespace, make
from .weather import Weather

__all__ = ["CLAIMS", "Outcome", "Trial", "run_trial"]

_WORKER = "faults.crashes.worker"
_LONG_OUTAGE = 20.0
"""Seconds from which on a session may be given up, and begun again."""

_RIGHT = "a reliable transfer ends with the right SHA-256"
_NO_GAP = "nothing is skipped and nothing comes twice"
_SAME = "no session ends but for a long outage"
_WELL = "every process ends well, with nothing left"
CLAIMS = (_RIGHT, _NO_GAP, _SAME, _WELL)


@dataclass(frozen=True)
class Trial:
    """A network.

    Args:
        name: what to call it.
        weather: what it does to packets all the time.
        outage: seconds for which nothing gets through, half-way.
        changes: what changes its address half-way: "" for nobody, "router", or "subscriber".
        silence: seconds without a word from the publisher after which the subscriber begins again; None
            leaves that to the library, and holds it to keeping the session.
    """

    name: str
    weather: Weather = field(default_factory=Weather)
    outage: float = 0.0
    changes: str = ""
    silence: float | None = None


@dataclass
class Outcome:
    """How it went: the claims that did not hold; seconds in all; sessions that ended; packets."""

    wrong: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    lost_sessions: int = 0
    packets: str = ""


async def run_trial(trial: Trial, content: Content, pace: float, patience: float, seed: str) -> Outcome:
    """Runs it, in namespaces of its own."""
    outcome = Outcome()
    started = time.monotonic()
    with ExitStack() as networks, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        left, right = make(networks), make(networks)
        async with AsyncExitStack() as stack:
            running = _Running(trial, content, patience, outcome)
            try:
                await running.start(stack, left, right, Path(folder) / "file", pace, seed)
                await running.disturb(left)
                await running.finish()
            except TimeoutError as error:
                outcome.wrong[_RIGHT] = f"{error or 'time is up'}; {running.heard()}"
    outcome.seconds = time.monotonic() - started
    return outcome


class _Running:
    def __init__(self, trial: Trial, content: Content, patience: float, outcome: Outcome) -> None:
        self._trial = trial
        self._content = content
        self._patience = patience
        self._outcome = outcome
        self._processes: dict[str, Process] = {}

    def heard(self) -> str:
        return "; ".join(
            f"{name}: {process.said[-3:]} {process.complaints[-300:]}" for name, process in self._processes.items()
        )

    async def _begin(self, stack: AsyncExitStack, process: Process) -> dict[str, str]:
        self._processes[process.name] = process
        await stack.enter_async_context(process)
        ready: dict[str, str] = await process.until_event("ready", self._patience)
        return ready

    async def start(
        self, stack: AsyncExitStack, left: Namespace, right: Namespace, file: Path, pace: float, seed: str
    ) -> None:
        content = self._content
        common = ["--groups", str(content.groups), "--size", str(content.size), "--seed", str(content.seed)]
        common += ["--network", "lan", "--file", str(file), "--pace", str(pace), "--begun", str(time.time())]
        keys = [random.Random(f"{seed}/{role}").randbytes(32).hex() for role in ("publish", "subscribe")]
        publisher = Process(
            "publisher", _WORKER, ["publish", "--key", keys[0], "--host", right.there, *common], right.inside
        )
        ready = await self._begin(stack, publisher)
        target = f"{right.there}:{ready['port']}"
        proxy = Process(
            "proxy", "faults.network.proxy",
            ["--left", left.here, "--right", right.here, "--target", target, "--seed", seed],
        )  # fmt: skip
        address = (await self._begin(stack, proxy))["address"]
        proxy.tell(**asdict(self._trial.weather))
        if self._trial.silence is not None:
            common += ["--silence", str(self._trial.silence)]
        ticket = str(EndpointTicket.from_addr(EndpointAddr(EndpointId.from_string(ready["id"]), None, [address])))
        subscriber = Process(
            "subscriber", _WORKER,
            ["subscribe", "--key", keys[1], "--host", "0.0.0.0", "--remote", ticket, *common], left.inside,
        )  # fmt: skip
        await self._begin(stack, subscriber)

    async def disturb(self, left: Namespace) -> None:
        trial, proxy = self._trial, self._processes["proxy"]
        if not trial.outage and not trial.changes:
            return
        half = self._content.groups // 2
        await self._processes["subscriber"].until(
            lambda each: each["event"] == "taken" and each["groups"] >= half, self._patience
        )
        if trial.changes == "router":
            proxy.tell(rebind=True)
        elif trial.changes == "subscriber":
            left.change_address()
        if trial.outage:
            proxy.tell(**{**asdict(trial.weather), "cut": True})
            await asyncio.sleep(trial.outage)
            proxy.tell(**asdict(trial.weather))

    async def finish(self) -> None:
        outcome, subscriber = self._outcome, self._processes["subscriber"]
        last = await subscriber.until(lambda each: each["event"] in ("done", "gap"), self._patience)
        if last["event"] == "gap":
            outcome.wrong[_NO_GAP] = str(last)
        elif last["digest"] != self._content.digest():
            outcome.wrong[_RIGHT] = str(last)
        proxy = self._processes["proxy"]
        proxy.tell(count=True)
        counts = await proxy.until_event("counts", self._patience)
        outcome.packets = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("carried", "lost", "repeated", "late"))
        outcome.lost_sessions = len(subscriber.events("lost" if self._trial.silence is None else "broken"))
        if outcome.lost_sessions and self._trial.outage < _LONG_OUTAGE and self._trial.silence is None:
            outcome.wrong[_SAME] = str(subscriber.events("lost"))
        for name in ("subscriber", "publisher"):
            process = self._processes[name]
            if name == "publisher":
                process.signal(signal.SIGTERM)
            code = await process.ended()
            ended = process.events("ended")
            if code != 0 or not ended or ended[-1]["left"] or process.complaints:
                outcome.wrong[_WELL] = f"{name} ended with {code}: {ended[-1:]} {process.complaints[-600:]}"

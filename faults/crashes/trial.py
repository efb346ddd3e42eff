"""One trial: three processes, one of them crashed on the way, and the file that must come out in the end."""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..process import Process
from ..transfer import Content

__all__ = ["Crash", "Outcome", "run_trial"]

ROLES = ("publish", "relay", "subscribe")
_UPSTREAM = {"publish": "relay", "relay": "subscribe"}
"""Who has connected to whom, and so has to notice."""

_AHEAD = 3
"""Groups that may be on their way when it happens."""

_WORKER = "faults.crashes.worker"


@dataclass(frozen=True)
class Crash:
    """What is done to whom, and when.

    Args:
        victim: one of the roles.
        kind: "kill", and start again; or "freeze", and thaw.
        groups: how many groups the subscriber has when it happens.
        seconds: how long it stays down.
        silence: as for `reconnect.sessions`.
    """

    victim: str
    kind: str
    groups: int
    seconds: float
    silence: float | None

    @classmethod
    def of(cls, chance: random.Random, content: Content, victim: str, kind: str, silence: float | None) -> Crash:
        """One at a random moment."""
        groups = chance.randint(content.groups // 20, content.groups * 7 // 10)
        # Longer than a silence, so that it has to be noticed, or so short that it hardly is.
        down = chance.choice((0.1, 1.0)) if silence is None else chance.choice((0.1, 1.5 * silence))
        return cls(victim, kind, groups, down, silence)


@dataclass
class Outcome:
    """How it went: claims that did not hold, with what was found; and how long it took to go on."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    resumed: float = 0.0
    """From the crash to the next group after the victim was back."""
    reconnects: int = 0


async def run_trial(crash: Crash, content: Content, pace: float, patience: float, key: int) -> Outcome:
    """Runs it."""
    trial = _Trial(crash, content, pace, patience, key)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        async with AsyncExitStack() as stack:
            try:
                await trial.run(stack, Path(folder) / "file")
            except TimeoutError as error:
                trial.fail("the transfer ends with the right SHA-256", f"{error or 'time is up'}; {trial.heard()}")
    trial.outcome.seconds = time.monotonic() - started
    return trial.outcome


class _Trial:
    def __init__(self, crash: Crash, content: Content, pace: float, patience: float, key: int) -> None:
        self.outcome = Outcome()
        self._crash = crash
        self._content = content
        self._pace = pace
        self._patience = patience
        self._keys = {role: random.Random(f"{key}/{role}").randbytes(32).hex() for role in ROLES}
        self._begun = time.time()
        self._crashed = False
        self._file = Path()
        self._processes: dict[str, Process] = {}
        self._before: dict[str, Process] = {}
        self._ports: dict[str, int] = {}
        self._tickets: dict[str, str] = {}

    def fail(self, claim: str, detail: str) -> None:
        self.outcome.wrong.append((claim, f"{self._crash}: {detail}"))

    def heard(self) -> str:
        """What each process has said last, and complained of."""
        return "; ".join(
            f"{role}: {process.said[-3:]} {process.complaints[-300:]}" for role, process in self._processes.items()
        )

    async def run(self, stack: AsyncExitStack, file: Path) -> None:
        self._file = file
        for role, remote in zip(ROLES, (None, *ROLES), strict=False):
            await self._start(stack, role, remote)
        await self._crash_it(stack)
        subscriber = self._processes["subscribe"]
        last = await subscriber.until(lambda each: each["event"] in ("done", "gap"), self._patience)
        for process in (*self._before.values(), *self._processes.values()):
            for gap in process.events("gap"):
                self.fail("nothing is skipped and nothing comes twice", str(gap))
        if last["event"] == "done" and last["digest"] != self._content.digest():
            self.fail("the transfer ends with the right SHA-256", str(last))
        await self._noticed()
        await self._clean()

    async def _start(self, stack: AsyncExitStack, role: str, remote: str | None) -> None:
        arguments = [
            role, "--key", self._keys[role], "--port", str(self._ports.get(role, 0)),
            "--groups", str(self._content.groups), "--size", str(self._content.size), "--seed", str(self._content.seed),
            "--pace", str(self._pace), "--begun", str(self._begun), "--file", str(self._file),
        ]  # fmt: skip
        if not self._crashed:
            # The rest comes after the crash, so that it cannot have passed before by itself.
            arguments += ["--limit", str(self._crash.groups + _AHEAD)]
        if remote is not None:
            arguments += ["--remote", self._tickets[remote]]
        if self._crash.silence is not None:
            arguments += ["--silence", str(self._crash.silence)]
        process = self._processes[role] = Process(role, _WORKER, arguments)
        await stack.enter_async_context(process)
        ready = await process.until_event("ready", self._patience)
        self._ports[role] = ready["port"]
        self._tickets.setdefault(role, ready["ticket"])

    async def _crash_it(self, stack: AsyncExitStack) -> None:
        crash = self._crash
        await self._processes["subscribe"].until(
            lambda each: each["event"] == "taken" and each["groups"] >= crash.groups, self._patience
        )
        victim = self._processes[crash.victim]
        at = time.monotonic()
        self._crashed = True
        if crash.kind == "freeze":
            victim.signal(signal.SIGSTOP)
            await asyncio.sleep(crash.seconds)
            victim.signal(signal.SIGCONT)
        else:
            await victim.kill()
            self._before[crash.victim] = victim
            await asyncio.sleep(crash.seconds)
            await self._start(stack, crash.victim, dict(zip(ROLES, (None, *ROLES), strict=False))[crash.victim])
        self._processes["publish"].tell(go="on")
        subscriber = self._processes["subscribe"]
        heard = len(subscriber.events("taken"))
        await subscriber.until(
            lambda each: len(subscriber.events("taken")) > heard or each["event"] in ("done", "gap"), self._patience
        )
        self.outcome.resumed = time.monotonic() - at

    async def _noticed(self) -> None:
        """Whoever was connected to one that was killed has said so, and the one whose peer came back too."""
        self.outcome.reconnects = sum(len(process.events("lost")) for process in self._processes.values())
        if self._crash.kind != "kill":
            return
        above = _UPSTREAM.get(self._crash.victim)
        if above is not None:
            if not self._processes[above].events("lost"):
                self.fail("the others notice, and say so", f"{above} has said {self._processes[above].said[-5:]}")
            return
        relay = self._processes["relay"]
        if len(relay.events("came")) < 2 or not relay.events("left"):
            self.fail("the others notice, and say so", f"relay has said {relay.said[-5:]}")

    async def _clean(self) -> None:
        for role in reversed(ROLES):
            process = self._processes[role]
            if role != "subscribe":
                process.signal(signal.SIGTERM)
            code = await process.ended()
            ended = process.events("ended")
            if code != 0 or not ended or ended[-1]["left"] or process.complaints:
                self.fail(
                    "every process that lives on ends well, with nothing left",
                    f"{role} ended with {code}: {ended[-1:]} {process.complaints[-600:]}",
                )

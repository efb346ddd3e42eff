"""Feeds one target many inputs, and looks at what comes of each."""

from __future__ import annotations

import signal
import time
from types import FrameType

from ..run import Run
from .corpus import read_corpus
from .mutate import Mutator, split
from .targets import Target

__all__ = ["BATCH", "Feeder"]

BATCH = 1000
"""Inputs that share a source of randomness; the number of the batch and its place in it name an input."""

_SLOW = 1.0
_DOUBTFUL = 0.25
_HUNG = 60
"""Seconds: of processor time that no input may take, of time that makes one be looked at again, and after
which a batch is taken to hang."""

_KEPT = 2000
"""Inputs with an outcome of a new kind that are mutated further."""


class Hung(Exception):
    """An input took for ever."""


class Feeder:
    """One target with its corpus, which grows by whatever leads to something new."""

    def __init__(self, run: Run, target: Target) -> None:
        self._run = run
        self._target = target
        self._corpus = read_corpus(target.corpus)
        self._kinds: set[object] = set()
        self.inputs = 0
        self.slowest = 0.0

    @property
    def kinds(self) -> int:
        """How many kinds of outcome there have been."""
        return len(self._kinds)

    def warm_up(self) -> None:
        """Feeds the corpus as it is."""
        for number, data in enumerate(self._corpus):
            self._feed(data, [data], f"line {number + 1} of the corpus")

    def batch(self, number: int) -> None:
        """Feeds the inputs of one batch."""
        chance = self._run.random(self._target.name, number)
        mutator = Mutator(chance, self._corpus)
        data, place = b"", 0

        def hung(_signal: int, _frame: FrameType | None) -> None:
            raise Hung

        before = signal.signal(signal.SIGALRM, hung)
        signal.alarm(_HUNG)
        try:
            for place in range(BATCH):
                data = mutator.make()
                self._feed(data, split(chance, data), f"batch {number}, input {place}")
        except Hung:
            self._failed("every input comes to an end", data, f"batch {number}, input {place}", "it did not")
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        self._run.check("every input comes to an end", True)

    def _feed(self, data: bytes, pieces: list[bytes], where: str) -> None:
        self.inputs += 1
        started = time.perf_counter()
        try:
            outcome = self._target.feed(pieces)
            whole = self._target.feed([data] if data else []) if self._target.split else outcome
        except Hung:
            raise
        except Exception as error:
            self._failed("no exception escapes a parser", data, where, repr(error))
            return
        taken = time.perf_counter() - started
        if taken > self.slowest:
            self.slowest = taken if taken < _DOUBTFUL else self._again(data, where)
        if whole != outcome and (whole.events, whole.code) != (outcome.events, outcome.code):
            cuts = [len(piece) for piece in pieces]
            self._failed("the outcome is the same however the bytes are split", data, where, f"split as {cuts}")
        kind = outcome.signature
        if kind not in self._kinds and len(self._corpus) < _KEPT:
            self._kinds.add(kind)
            self._corpus.append(data[:4096])

    def _again(self, data: bytes, where: str) -> float:
        """What an input really takes, however busy the machine is."""
        taken = _HUNG * 1.0
        for _ in range(3):
            started = time.thread_time()
            self._target.feed([data])
            taken = min(taken, time.thread_time() - started)
        if taken > _SLOW:
            self._failed("no input takes over a second", data, where, f"{taken:.2f} s")
        return taken

    def _failed(self, claim: str, data: bytes, where: str, what: str) -> None:
        shown = data.hex() if len(data) <= 2000 else f"{data[:2000].hex()}... ({len(data)} bytes)"
        self._run.check(
            claim, False, f"{self._target.name}, {where}, seed {self._run.seed}: {what}; add `{shown} # found`"
        )

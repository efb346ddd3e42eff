"""One run of one part: its size and seed on the way in, its figures and findings on the way out."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Claim", "Run"]

_TELL_EVERY = 5.0
_DETAILS = 10
_SHOWN = 3
"""How many failures of one claim are kept in full, and shown at once; the others are counted."""


@dataclass
class Claim:
    """Something that must hold: how often it was looked at, and how often it did not."""

    text: str
    checks: int = 0
    failures: int = 0
    details: list[str] = field(default_factory=list)


class Run:
    """What a part needs to know, and where it puts what it finds.

    Args:
        part: the name of the part.
        long: whether this is the long form.
        seed: where everything random comes from.
        folder: where files of results go.
        minutes: how long it should take, for the parts that can take any time.
    """

    def __init__(
        self, part: str, *, long: bool = False, seed: int = 1, folder: Path, minutes: float | None = None
    ) -> None:
        self.part = part
        self.long = long
        self.seed = seed
        self.folder = folder
        self.minutes = minutes
        self.figures: dict[str, Any] = {}
        self.claims: dict[str, Claim] = {}
        self.notes: list[str] = []
        self.pictures: list[str] = []
        self._told = 0.0

    def random(self, *of: object) -> random.Random:
        """A source of randomness that depends on the seed and on what it is for, and on nothing else."""
        return random.Random("/".join(map(str, (self.seed, self.part, *of))))

    def choose(self, short: Any, long: Any) -> Any:
        """A size, by the form of the run."""
        return long if self.long else short

    # Findings

    def figure(self, name: str, value: Any) -> None:
        """A number for the report."""
        self.figures[name] = value

    def note(self, text: str) -> None:
        """A sentence for the report, such as what could not be done here."""
        self.notes.append(text)

    def check(self, claim: str, holds: bool, detail: str = "") -> bool:
        """Looks at a claim once; ``detail`` says what was found where it does not hold."""
        known = self.claims.setdefault(claim, Claim(claim))
        known.checks += 1
        if not holds:
            known.failures += 1
            if len(known.details) < _DETAILS:
                known.details.append(detail)
            if known.failures <= _SHOWN:
                print(f"{self.part}: FAILED: {claim}: {detail}", file=sys.stderr, flush=True)
        return holds

    @property
    def failed(self) -> bool:
        """Whether any claim has not held."""
        return any(claim.failures for claim in self.claims.values())

    # Progress

    def progress(self, text: str) -> None:
        """Says how far it is, every few seconds at most."""
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            print(f"{self.part}: {text}", file=sys.stderr, flush=True)

"""Who talks to whom."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .kinds import Kind

__all__ = ["Pair", "all_pairs", "short_pairs"]


@dataclass(frozen=True)
class Pair:
    """A publisher and a subscriber, one of which dials the other."""

    publisher: Kind
    subscriber: Kind
    publisher_dials: bool

    @property
    def name(self) -> str:
        """How it is called in the matrix; the arrow is the way that data takes, the star is on who dials."""
        star = ("*", "") if self.publisher_dials else ("", "*")
        return f"{self.publisher.value}{star[0]}->{self.subscriber.value}{star[1]}"

    @property
    def kinds(self) -> set[Kind]:
        """What takes part."""
        return {self.publisher, self.subscriber}


def all_pairs() -> list[Pair]:
    """Every pairing that has this package in it; where nobody is Rust, each with one side dialling."""
    pairs = []
    for number, (publisher, subscriber) in enumerate(itertools.product(Kind, Kind)):
        if publisher.is_rust and subscriber.is_rust:
            continue
        if publisher.is_rust or subscriber.is_rust:
            pairs += [Pair(publisher, subscriber, dials) for dials in (False, True)]
        else:
            pairs.append(Pair(publisher, subscriber, bool(number % 2)))
    return pairs


def short_pairs() -> list[Pair]:
    """Each way between the two implementations once, with and without the driver, each side dialling somewhere."""
    return [
        Pair(Kind.PYTHON, Kind.RUST, True),
        Pair(Kind.RUST, Kind.PYTHON, True),
        Pair(Kind.PLAIN, Kind.RUST, False),
        Pair(Kind.RUST, Kind.PLAIN, False),
    ]

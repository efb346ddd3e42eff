"""What happens in one scenario: everything that a seed decides beforehand."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Fault", "Plan", "ReaderPlan", "TrackPlan"]

READERS = [
    "reliable",
    "reliable",
    "reliable frames",
    "reliable arrivals",
    "live",
    "live arrivals",
    "quitter",
    "stepper",
]
"""The ways of reading, by how likely each is."""


@dataclass(frozen=True)
class TrackPlan:
    """A track: how many groups, how large, how many of them are written at once, and how hastily."""

    name: str
    groups: int
    frames: int
    size: int
    at_once: int
    pause: float


@dataclass(frozen=True)
class ReaderPlan:
    """A reader of a track at one of the subscribers."""

    subscriber: int
    track: str
    way: str
    joins: float
    pause: float
    impatience: float
    """How likely each of its waits is to be cancelled and begun again."""
    latency: float


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at some time: on a link, or at the publisher."""

    kind: str
    at: float
    link: int
    """-1 for the one to the relay, else that of a subscriber."""
    after: tuple[float, float]
    track: str


@dataclass(frozen=True)
class Plan:
    """One scenario."""

    seed: int
    relay: bool
    subscribers: int
    badness: float
    window: int
    max_streams: int
    tracks: tuple[TrackPlan, ...]
    readers: tuple[ReaderPlan, ...]
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The scenario of a seed."""
        chance = random.Random(seed)
        subscribers = chance.randint(1, 3)
        names = [f"track{number}" for number in range(chance.randint(1, 3))]
        tracks = tuple(_track(chance, name) for name in names)
        readers = tuple(_reader(chance, subscribers, names) for _ in range(chance.randint(1, 5)))
        relay = chance.random() < 0.5
        links = [*range(subscribers), *([-1] if relay else [])]
        count = chance.choice((0, 0, 1, 1, 2))
        return cls(
            seed=seed,
            relay=relay,
            subscribers=subscribers,
            badness=chance.choice((0.0, 0.3, 1.0)),
            window=chance.choice((50, 400, 5000, 1 << 20)),
            max_streams=chance.choice((8, 30, 1000)),
            tracks=tracks,
            readers=readers,
            faults=tuple(_fault(chance, links, names) for _ in range(count)),
        )


def _track(chance: random.Random, name: str) -> TrackPlan:
    return TrackPlan(
        name,
        groups=chance.randint(1, 25),
        frames=chance.randint(0, 6),
        size=chance.choice((0, 3, 30, 300)),
        at_once=chance.choice((1, 1, 3)),
        pause=chance.choice((0.0, 0.01, 0.2)),
    )


def _reader(chance: random.Random, subscribers: int, names: list[str]) -> ReaderPlan:
    return ReaderPlan(
        subscriber=chance.randrange(subscribers),
        track=chance.choice(names),
        way=chance.choice(READERS),
        joins=chance.choice((0.0, chance.uniform(0, 3))),
        pause=chance.choice((0.0, 0.005, 0.3)),
        impatience=chance.choice((0.0, 0.0, 0.5)),
        latency=chance.choice((0.0, 0.05, 1.0)),
    )


def _fault(chance: random.Random, links: list[int], names: list[str]) -> Fault:
    return Fault(
        kind=chance.choice(("lose", "lose", "close", "close here", "abort", "abort track", "unpublish")),
        at=chance.uniform(0, 4),
        link=chance.choice(links),
        after=(chance.uniform(0, 2), chance.uniform(0, 2)),
        track=chance.choice(names),
    )

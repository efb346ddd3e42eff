"""What exporters of metrics have in common: the `Moq`s they tell of, and the numbers one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import cast

from .errors import InvalidType
from .metrics import Histogram, Kind, Metrics
from .moq import Moq

__all__ = ["INSTRUMENTS", "Instrument", "Sources"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One field of `Metrics`. ``label`` is what the keys of its mapping are values of, where it is one."""

    name: str
    kind: Kind
    help: str
    label: str | None

    def histogram(self, metrics: Metrics) -> Histogram:
        """The value of a histogram."""
        return cast("Histogram", getattr(metrics, self.name))

    def samples(self, metrics: Metrics) -> Iterator[tuple[dict[str, str], int]]:
        """The numbers of a gauge or counter, each with its labels."""
        value: int | Mapping[str, int] = getattr(metrics, self.name)
        if isinstance(value, Mapping):
            for key, number in value.items():
                yield {self.label or "": key}, number
        else:
            yield {}, value


INSTRUMENTS = tuple(Instrument(field.name, **field.metadata) for field in fields(Metrics))


class Sources:
    """The `Moq`s that an exporter tells of, by the ids of their endpoints.

    Raises:
        InvalidType: one of them is no `Moq`.
    """

    def __init__(self, *moqs: Moq) -> None:
        self._moqs: dict[str, Moq] = {}
        for moq in moqs:
            self.add(moq)

    def add(self, moq: Moq) -> None:
        """Adds a `Moq`. Another one on the same endpoint is replaced.

        Raises:
            InvalidType: it is none.
        """
        if not isinstance(moq, Moq):
            raise InvalidType(f"metrics are those of a Moq, not {type(moq).__name__}")
        # Never changed in place: an exporter may be at work on another thread.
        self._moqs = {**self._moqs, str(moq.id()): moq}

    def remove(self, moq: Moq) -> None:
        """Leaves a `Moq` out from now on. One that is not there is ignored."""
        self._moqs = {endpoint: other for endpoint, other in self._moqs.items() if other is not moq}

    def metrics(self) -> dict[str, Metrics]:
        """What each of them has done so far."""
        return {endpoint: moq.metrics() for endpoint, moq in self._moqs.items()}

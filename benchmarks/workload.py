"""What a workload is: what the publishing process does, what the subscribing one does, and the numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .channel import Channel
from .contender import Contender
from .task import Task

__all__ = ["QUICK", "Metric", "Report", "Scale", "Workload"]

Report = Mapping[str, Any]
"""What one of the two processes has measured."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Args:
        seconds: how long the work goes on that can go on for any time.
        quick: the counts are smaller, too, so that all can be seen to work in little time.
    """

    seconds: float = 0.8
    quick: bool = False


QUICK = Scale(0.3, quick=True)


@dataclass(frozen=True)
class Metric:
    """One number of a workload, and a row of the table."""

    key: str
    label: str
    unit: str
    lower_is_better: bool = True


class Workload(ABC):
    """One kind of work. The two methods run in processes of their own, at the same time."""

    name: str
    """What it is called on the command line."""

    metrics: tuple[Metric, ...]

    seconds: float
    """About how long it takes, setting up left out."""

    task: Task | None = None
    """The same as data, if there is a word for it."""

    @abstractmethod
    async def publish(self, contender: Contender, channel: Channel) -> Report:
        """The publisher's part."""

    @abstractmethod
    async def subscribe(self, contender: Contender, channel: Channel) -> Report:
        """The part of the subscriber, or of all subscribers.

        Raises:
            Failed: something that was sent did not arrive.
        """

    @abstractmethod
    def numbers(self, published: Report, subscribed: Report) -> dict[str, float]:
        """The value of each metric."""

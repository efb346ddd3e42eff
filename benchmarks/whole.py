"""A contender that does the whole of one side by itself: a program of its own, without this one on its way."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .channel import Channel
from .contender import Entrant
from .task import Task
from .workload import Report

__all__ = ["WholeContender"]


class WholeContender(Entrant, ABC):
    """Its reports are what a `Task` says. What workloads have no task is among what it `cannot` do."""

    @abstractmethod
    async def publish(self, task: Task, channel: Channel) -> Report:
        """The publisher's part. The channel leads to the process of the subscribers."""

    @abstractmethod
    async def subscribe(self, task: Task, channel: Channel) -> Report:
        """The part of the subscriber, or of all subscribers.

        Raises:
            Failed: something that was sent did not arrive.
        """

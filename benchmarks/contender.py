"""What a contender is: a way to publish, and a way to subscribe, each run in a process of its own.

The methods are as coarse as the work allows (a group, not a frame), so that what is measured is the
contender and not this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar

from .channel import Channel
from .machine import versions

__all__ = [
    "BROADCAST",
    "Contender",
    "Entrant",
    "FrameSink",
    "GroupSink",
    "GroupWriter",
    "Publisher",
    "Subscriber",
    "TrackReader",
    "TrackWriter",
    "Window",
]

BROADCAST = "bench"
"""The one broadcast that all but the work with announcements use."""

GroupSink = Callable[[int, list[bytes]], None]
"""Takes a whole group: its sequence and its frames."""

FrameSink = Callable[[int, bytes], None]
"""Takes one frame: the sequence of its group, and its bytes."""


@dataclass(frozen=True)
class Window:
    """How far a publisher may be ahead of its slowest subscriber.

    The same for every contender; each uses the one of the two units in which it can count.
    """

    groups: int
    bytes: int

    @classmethod
    def of_groups(cls, group_bytes: int) -> Window:
        """About a megabyte, but at least two groups, so that one is written while another is read."""
        groups = min(max(2, (1 << 20) // group_bytes), 256)
        return cls(groups, groups * group_bytes)


class GroupWriter(ABC):
    """A group whose frames come over time."""

    @abstractmethod
    def write(self, frame: bytes) -> None:
        """Appends a frame, and never waits."""

    @abstractmethod
    def finish(self) -> None:
        """No more frames will come."""


class TrackWriter(ABC):
    @abstractmethod
    async def write_group(self, frames: Sequence[bytes]) -> None:
        """A whole group. Waits while the slowest subscriber is further behind than the window; loses nothing."""

    @abstractmethod
    def begin_group(self) -> GroupWriter:
        """A group that is written as it comes. Never waits for anybody."""

    def send(self, frame: bytes) -> None:
        """A group of one frame, at once."""
        group = self.begin_group()
        group.write(frame)
        group.finish()


class Publisher(ABC):
    """The publishing side. It listens; subscribers dial."""

    @property
    @abstractmethod
    def address(self) -> str:
        """What subscribers dial."""

    @abstractmethod
    async def publish(self, tracks: Sequence[str], window: Window, readers: int = 1) -> list[TrackWriter]:
        """Publishes the broadcast with these tracks, each for so many readers that nothing may be lost for."""

    async def announce(self, names: Sequence[str]) -> None:
        """Publishes broadcasts of these names, which stay empty."""
        raise NotImplementedError


class TrackReader(ABC):
    """Both methods read until they are cancelled. Where a track begins with a group written before, they see that."""

    @abstractmethod
    async def groups(self, sink: GroupSink) -> None:
        """Hands over whole groups."""

    @abstractmethod
    async def frames(self, sink: FrameSink) -> None:
        """Hands over each frame as soon as it is here."""


class Subscriber(ABC):
    """The subscribing side: one session, with an endpoint of its own."""

    @abstractmethod
    async def connect(self, address: str) -> None:
        """Opens the session."""

    @abstractmethod
    async def subscribe(self, track: str, window: Window | None = None) -> TrackReader:
        """Subscribes to a track of the broadcast, from its latest group on.

        With a window as the publisher's nothing may be lost, however slow the reader; without one the
        subscription is live.
        """

    async def announced(self, count: int) -> list[str]:
        """The names of so many broadcasts, as they are announced."""
        raise NotImplementedError


class Entrant:
    """Whoever takes part: a `Contender`, or a `whole.WholeContender`."""

    name: ClassVar[str]
    """What the tables call it."""

    environment: ClassVar[Mapping[str, str]] = {}
    """What its processes find in their environment beside the usual."""

    cannot: ClassVar[frozenset[str]] = frozenset()
    """The names of the workloads that it has no way to do."""

    packages: ClassVar[tuple[str, ...]] = ()
    """The distributions whose versions belong into the report."""

    def versions(self) -> dict[str, str]:
        """The versions of what it is made of."""
        return versions(self.packages)

    def facts(self) -> dict[str, object]:
        """What is worth knowing of a process that has done the work."""
        return {}


class Contender(Entrant, ABC):
    """One way to do the work, step by step as the workloads go."""

    @abstractmethod
    def publisher(self, channel: Channel) -> AbstractAsyncContextManager[Publisher]:
        """A publisher for the time of a block. The channel leads to the process of the subscribers."""

    @abstractmethod
    def subscriber(self, channel: Channel) -> AbstractAsyncContextManager[Subscriber]:
        """A subscriber for the time of a block."""

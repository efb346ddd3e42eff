"""What a workload asks for, as data: for contenders that do the whole of one side by themselves."""

from __future__ import annotations

from dataclasses import dataclass

from .contender import Window

__all__ = ["FirstFrames", "Flood", "Pace", "Paced", "Task"]


@dataclass(frozen=True)
class Flood:
    """Groups on one track, as fast as the slowest subscriber reads them. What is written then must arrive.

    The publisher reports `start`, just before the first write by `time.monotonic_ns`, how many `groups` it wrote,
    and the seconds of `processor` time that it took; the subscribers' process reports `end`, when the last group
    was read, and `processor`.
    """

    subscribers: int
    frame_size: int
    frames: int
    """How many to a group."""
    window: Window
    seconds: float


@dataclass(frozen=True)
class Pace:
    """One track with so many frames a second."""

    track: str
    rate: float
    frame_size: int
    frames: int = 1
    """How many to a group."""
    first_size: int | None = None
    """The size of each group's first frame, if it is another one."""


@dataclass(frozen=True)
class Paced:
    """Frames at a steady pace, which say when they were written.

    Both sides report the seconds of `processor` time, and the subscribers' process the `delays` of all frames, in
    seconds.
    """

    subscribers: int
    tracks: tuple[Pace, ...]
    seconds: float


@dataclass(frozen=True)
class FirstFrames:
    """Sessions one after the other; the subscriber reports the `times` from connecting to the first frame."""

    sessions: int


Task = Flood | Paced | FirstFrames

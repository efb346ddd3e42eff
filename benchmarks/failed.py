"""The error that means: there is no number, because the work was not done right."""

from __future__ import annotations

__all__ = ["Failed", "PeerEnded"]


class Failed(Exception):
    """A measurement that is none; the text says why."""


class PeerEnded(Failed):
    """The process at the other end is gone, and knows better why."""

    def __init__(self) -> None:
        super().__init__("the other process has ended")

"""Networks that lose, delay, reorder and repeat packets, that go away and come back, and that change addresses."""

from .part import run

__all__ = ["run"]

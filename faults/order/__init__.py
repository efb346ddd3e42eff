"""Sessions in a world without chance: virtual time, seeded networks, and every order of events that a seed names."""

from .part import run

__all__ = ["run"]

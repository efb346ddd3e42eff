"""Publisher, relay and subscriber of a transfer, killed or frozen half-way: the others go on, and it ends right."""

from .part import run

__all__ = ["run"]

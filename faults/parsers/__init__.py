"""Every parser of what a peer sends, fed bytes that no honest peer would send."""

from .part import run

__all__ = ["run"]

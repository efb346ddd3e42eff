"""Mixed work with sessions coming and going, for as long as one likes: in each pause all must be as it was."""

from .part import run

__all__ = ["run"]

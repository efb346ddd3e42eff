"""A peer over a real connection that sends what it likes, beside an honest one that must not notice."""

from .part import run

__all__ = ["run"]

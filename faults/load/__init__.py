"""Much to do at once: many sessions, subscriptions, announcements and tracks, lazy and restless peers, a flood."""

from .part import run

__all__ = ["run"]

"""The codes that mean one thing: Rust's moq-net gave some of them other numbers, for all versions of the protocol."""

from __future__ import annotations

__all__ = ["CANCEL", "NOT_FOUND", "OLD"]

NOT_FOUND = {13, 51, 30, 54}
"""Not found, or no way to it."""
OLD = {2, 52}
"""A group that a newer one has made useless."""
CANCEL = {0, 1}
"""Nobody wants it any more."""

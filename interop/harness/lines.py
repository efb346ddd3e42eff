"""How peers are spoken to: JSON objects, one a line."""

from __future__ import annotations

__all__ = ["LIMIT"]

LIMIT = 64 << 20
"""Bytes that a line may have: the report of very many groups."""

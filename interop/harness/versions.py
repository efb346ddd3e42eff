"""The versions of the protocol that the package offers. All of the suite takes them from here."""

from __future__ import annotations

import iroh_moq

__all__ = ["has_timestamps", "knows_the_end", "offered"]


def offered() -> list[str]:
    """All of them, the oldest first."""
    alpns = getattr(iroh_moq, "ALPNS", None) or (iroh_moq.ALPN,)
    return sorted(alpn.decode() if isinstance(alpn, bytes) else str(alpn) for alpn in alpns)


def has_timestamps(version: str) -> bool:
    """Whether frames have timestamps; tracks can be fetched from and carry datagrams then as well."""
    return _number(version) >= 5


def knows_the_end(version: str) -> bool:
    """Whether a publisher says which group of a track is the last."""
    return _number(version) >= 5


def _number(version: str) -> int:
    return int(version.rpartition("-")[2])

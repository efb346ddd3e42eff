"""Numbers and names as people read them."""

from __future__ import annotations

__all__ = ["duration", "printable", "rate", "size"]


def printable(text: str) -> str:
    """A peer's text without what could control a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def rate(count: int, seconds: float) -> str:
    """Bytes per second, or nothing where no time has passed."""
    return f", {count / seconds / 1e6:.1f} MB/s" if seconds > 0 else ""


def duration(seconds: float) -> str:
    """A time span."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

"""What the frames hold: bytes that follow from the group, the frame's index and its size.

A reader can check every frame without having been told what was sent. The Rust peer makes the same bytes.
"""

from __future__ import annotations

_HEADER = 16
_PERIOD = 251
_RAMP = bytes(range(_PERIOD))
_LONG = _RAMP * 5000


def frame(group: int, index: int, size: int) -> bytes:
    """The frame at an index of a group."""
    seed = ((group % 1_000_003) * 31 + (index % 1_000_003) * 7) % _PERIOD
    header = group.to_bytes(8, "big") + index.to_bytes(8, "big") if size >= _HEADER else b""
    return header + _ramp(seed, size - len(header))


def _ramp(seed: int, size: int) -> bytes:
    if seed + size <= len(_LONG):
        return _LONG[seed : seed + size]
    return (_RAMP * ((seed + size) // _PERIOD + 1))[seed : seed + size]

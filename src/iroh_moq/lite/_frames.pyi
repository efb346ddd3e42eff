"""Cuts frames from what has come of a group's stream, in C.

Both append the frames that are whole, and stop at the first that is not, that is larger than
``most``, or whose timestamp is out of bounds: at ``position``, which they return.
"""

def cut(data: bytes, position: int, most: int, frames: list[bytes], /) -> int:
    """Frames without timestamps."""

def cut_timed(
    data: bytes, position: int, most: int, last: int, latest: int, frames: list[bytes], times: list[int], /
) -> tuple[int, int]:
    """Frames with timestamps, from the ``last`` one before, up to ``latest``; also the last one now."""

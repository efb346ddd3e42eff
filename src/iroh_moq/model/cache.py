"""How much of a track is kept for those who come late or read slowly."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidArgument
from .checks import check_int, check_seconds

__all__ = ["DEFAULT_CACHE", "Cache"]


@dataclass(frozen=True, slots=True)
class Cache:
    """The bounds of a track's cache. The latest group is always kept, whatever its age.

    Args:
        max_bytes: bytes of frames kept, with a small charge for each group and frame. Over it, the
            oldest groups go first; if the latest group alone is over it, its oldest frames go.
        max_age: seconds that a group is kept after a newer one has appeared.

    Raises:
        InvalidType: a bound is not a number.
        InvalidArgument: a bound is not positive.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_age: float = 30.0

    def __post_init__(self) -> None:
        check_int(self.max_bytes, "max_bytes", 1)
        if check_seconds(self.max_age, "max_age", float("inf")) == 0:
            raise InvalidArgument("max_age must be positive, not 0")


DEFAULT_CACHE = Cache()

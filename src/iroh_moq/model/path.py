"""Names of broadcasts and tracks.

A broadcast's name is a path: parts between slashes, at most 32 of them, no empty one. `/a//b/` is
normalised to `a/b`. Prefixes match whole parts (draft-lcurley-moq-lite, "Path").
"""

from __future__ import annotations

from ..errors import InvalidArgument, InvalidType

__all__ = [
    "MAX_NAME_BYTES",
    "MAX_PATH_PARTS",
    "check_name",
    "has_prefix",
    "normalize_path",
    "strip_prefix",
]

MAX_PATH_PARTS = 32
MAX_NAME_BYTES = 1024
"""The longest broadcast or track name, in bytes of UTF-8."""


def check_name(name: str, what: str) -> str:
    """The name of a track, if it can be one.

    Raises:
        InvalidType: it is not a string.
        InvalidArgument: it is empty, too long, or not encodable as UTF-8.
    """
    if not isinstance(name, str):
        raise InvalidType(f"{what} must be a str, not {type(name).__name__}")
    if not name:
        raise InvalidArgument(f"{what} must not be empty")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} {name!r} cannot be encoded as UTF-8") from error
    if size > MAX_NAME_BYTES:
        raise InvalidArgument(f"{what} has {size} bytes; at most {MAX_NAME_BYTES} are allowed")
    return name


def normalize_path(path: str, what: str = "broadcast name", *, allow_empty: bool = False) -> str:
    """A path without leading, trailing or doubled slashes.

    Raises:
        InvalidType: it is not a string.
        InvalidArgument: it is empty (unless that is allowed), too long, has more than 32 parts, or
            is not encodable as UTF-8.
    """
    if not isinstance(path, str):
        raise InvalidType(f"{what} must be a str, not {type(path).__name__}")
    parts = [part for part in path.split("/") if part]
    if not parts and allow_empty:
        return ""
    if len(parts) > MAX_PATH_PARTS:
        raise InvalidArgument(f"{what} has {len(parts)} parts; at most {MAX_PATH_PARTS} are allowed")
    return check_name("/".join(parts), what)


def has_prefix(path: str, prefix: str) -> bool:
    """Whether whole parts of ``path`` begin with ``prefix``; the empty prefix matches everything."""
    return not prefix or path == prefix or path.startswith(prefix + "/")


def strip_prefix(path: str, prefix: str) -> str:
    """What follows the prefix, which must match."""
    return path[len(prefix) + 1 :] if prefix else path

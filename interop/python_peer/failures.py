"""What can go wrong with a command, and how it is told."""

from __future__ import annotations

from typing import Any

from iroh_moq import ConnectError, Error, MoqError, ServerError, SessionClosed

__all__ = ["Usage", "describe", "ending"]


class Usage(Exception):
    """The command itself makes no sense."""


def describe(error: BaseException) -> dict[str, Any]:
    """A failure as the answer to a command has it."""
    code: int | None = None
    match error:
        case MoqError():
            kind, code = "moq", error.code
        case SessionClosed():
            kind, code = "session", error.code
        case ServerError():
            kind, code = "server", error.code
        case ConnectError():
            kind = "connection"
        case Error():
            kind = "other"
        case _:
            kind = "usage"
    return {"kind": kind, "code": code, "text": f"{type(error).__name__}: {error}"}


def ending(error: Error) -> dict[str, Any]:
    """How a track or group ended, for a report."""
    code = error.code if isinstance(error, (MoqError, SessionClosed)) else None
    return {"code": code, "text": f"{type(error).__name__}: {error}"}

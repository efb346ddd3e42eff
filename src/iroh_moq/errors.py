"""Every exception this package raises, and the codes that travel on the wire.

One hierarchy: catch :class:`Error` and nothing of ours escapes. Codes are those of moq-lite
(draft-lcurley-moq-lite, and `rs/moq-net/src/error.rs` in moq-dev/moq for the numbers).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

__all__ = [
    "APPLICATION_CODE_BASE",
    "Closed",
    "ConnectError",
    "Error",
    "ErrorCode",
    "InternalConsistencyError",
    "InvalidArgument",
    "InvalidType",
    "MoqError",
    "NotAnnounced",
    "RequestError",
    "ServerError",
    "SessionClosed",
    "SessionError",
    "SubscribeError",
]

APPLICATION_CODE_BASE = 64
"""Codes from here on are the application's own: code ``64 + n`` is its ``n``."""


class ErrorCode(IntEnum):
    """Why a stream was reset or stopped, as moq-lite numbers it."""

    CANCEL = 0
    REQUIRED_EXTENSION = 1
    OLD = 2
    TIMEOUT = 3
    TRANSPORT = 4
    DECODE = 5
    UNAUTHORIZED = 6
    VERSION = 9
    UNEXPECTED_STREAM = 10
    BOUNDS_EXCEEDED = 11
    DUPLICATE = 12
    NOT_FOUND = 13
    WRONG_SIZE = 14
    PROTOCOL_VIOLATION = 15
    UNEXPECTED_MESSAGE = 16
    UNSUPPORTED = 17
    DROPPED = 24
    CLOSED = 25
    LAGGED = 26
    FRAME_TOO_LARGE = 27
    UNROUTABLE = 30
    EVICTED = 31


_MEANING = {
    ErrorCode.CANCEL: "cancelled: nobody wants it any more",
    ErrorCode.REQUIRED_EXTENSION: "the peer requires an extension",
    ErrorCode.OLD: "too old: newer groups took its place",
    ErrorCode.TIMEOUT: "timed out",
    ErrorCode.TRANSPORT: "the transport failed",
    ErrorCode.DECODE: "a malformed message",
    ErrorCode.UNAUTHORIZED: "not authorized",
    ErrorCode.VERSION: "the protocol version cannot do this",
    ErrorCode.UNEXPECTED_STREAM: "an unexpected stream type",
    ErrorCode.BOUNDS_EXCEEDED: "a value out of bounds",
    ErrorCode.DUPLICATE: "a duplicate",
    ErrorCode.NOT_FOUND: "not found",
    ErrorCode.WRONG_SIZE: "a frame that ended before its size",
    ErrorCode.PROTOCOL_VIOLATION: "a protocol violation",
    ErrorCode.UNEXPECTED_MESSAGE: "an unexpected message",
    ErrorCode.UNSUPPORTED: "not supported",
    ErrorCode.DROPPED: "dropped by its producer before it was finished",
    ErrorCode.CLOSED: "already closed",
    ErrorCode.LAGGED: "the reader fell too far behind",
    ErrorCode.FRAME_TOO_LARGE: "a frame over the size limit",
    ErrorCode.UNROUTABLE: "no route to it",
    ErrorCode.EVICTED: "evicted from the cache",
}


_LATER_NUMBERS = {
    51: ErrorCode.NOT_FOUND,
    52: ErrorCode.OLD,
    53: ErrorCode.EVICTED,
    54: ErrorCode.UNROUTABLE,
    55: ErrorCode.WRONG_SIZE,
    56: ErrorCode.FRAME_TOO_LARGE,
}


def canonical(code: int) -> int:
    """The number that this package has for a peer's code.

    Rust's moq-net renumbered some codes after moq-lite-03, for all versions of the protocol
    (observed in 0.3.16); the new numbers were unused before, so both can be understood.
    """
    return _LATER_NUMBERS.get(code, code)


def describe(code: int) -> str:
    """What a code means, in words."""
    if code >= APPLICATION_CODE_BASE:
        return f"application code {code - APPLICATION_CODE_BASE}"
    try:
        return _MEANING[ErrorCode(code)]
    except ValueError:
        return f"code {code}"


class Error(Exception):
    """The base of every exception this package raises. They can be copied and pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class again, as its arguments are not those of the exception.
        return _remake, (type(self), self.args), self.__dict__


def _remake(kind: type[Error], args: tuple[Any, ...]) -> Error:
    return kind.__new__(kind, *args)


class InvalidArgument(Error, ValueError):
    """The caller passed a value that cannot be used; the text names it."""


class InvalidType(Error, TypeError):
    """The caller passed an object of the wrong type; the text names it."""


class ConnectError(Error):
    """The peer could not be reached, or did not speak the protocol."""


class ServerError(Error):
    """The peer was reached and refused the session.

    ``code`` and ``reason`` are those it closed with.
    """

    def __init__(self, message: str, code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class RequestError(Error):
    """A request could not be sent because the connection failed under it.

    Kept for programs that catch it: the calls that there are raise :class:`SessionClosed` or :class:`ConnectError`.
    """


class InternalConsistencyError(Error):
    """The :class:`~iroh_moq.Moq` was shut down, so the call has nobody to serve it."""


class MoqError(Error):
    """A stream, group, track or broadcast ended with a code.

    ``code`` is the number on the wire; :class:`ErrorCode` names those of the protocol, and
    codes from 64 on are the application's own.
    """

    def __init__(self, code: int, message: str | None = None) -> None:
        meaning = describe(code)
        super().__init__(f"{message} ({meaning}, code {code})" if message else f"{meaning} (code {code})")
        self.code = int(code)


class SessionError(Error):
    """Why a session ended.

    ``code`` is the close code, or None where there was none (the connection was lost);
    ``reason`` is the text that came with it.
    """

    def __init__(self, code: int | None, reason: str = "", *, local: bool = False) -> None:
        who = "by this side" if local else "by the peer" if code is not None else "without a close code"
        number = "" if code is None else f": code {code}"
        super().__init__(f"session closed {who}{number}{f', {reason}' if reason else ''}")
        self.code = code
        self.reason = reason
        self.local = local


class SubscribeError(Error):
    """A broadcast could not be subscribed to."""


class NotAnnounced(SubscribeError):
    """The peer will never announce the broadcast: it has stopped announcing."""


class Closed(SubscribeError):
    """The peer took its announcement back."""


class SessionClosed(SubscribeError):
    """The session ended. ``error`` says why; ``code`` and ``reason`` are its own."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def code(self) -> int | None:
        """The close code, or None where the connection was lost."""
        return self.error.code

    @property
    def reason(self) -> str:
        """The text that came with the close code."""
        return self.error.reason

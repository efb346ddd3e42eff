"""Typed errors out of the texts of the `iroh` package, which is where it keeps its codes.

The forms were read off iroh 1.2.0: Rust's debug form where a stream or connection call fails, a
sentence from `closed()`. A text of no known form becomes an error without a code, never a guess.
"""

from __future__ import annotations

import re

from ..errors import SessionError
from . import codes
from .base import ConnectionLost, StreamReset, StreamStopped, TransportError

__all__ = ["session_error", "transport_error"]

_RESET = re.compile(r"\bReset\((\d+)\)")
_STOPPED = re.compile(r"\bStopped\((\d+)\)")
_APPLICATION = re.compile(r'ApplicationClose \{ error_code: (\d+), reason: b"((?:[^"\\]|\\.)*)" \}', re.DOTALL)
_SENTENCE = re.compile(r"^closed by peer: (?:(.*) \(code (\d+)\)|(\d+))$", re.DOTALL)
_LOCAL = re.compile(r"^closed$|\bLocallyClosed\b")
_DATAGRAM = {
    "TooLarge": "the datagram does not fit into one packet",
    "UnsupportedByPeer": "the peer takes no datagrams",
    "Disabled": "datagrams are turned off on this side",
}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0"}
_LONG = 200


def transport_error(text: str, closed: SessionError | None) -> TransportError:
    """What a failed call on a stream or connection means.

    Args:
        text: what the library says of it.
        closed: why the connection ended, if it is known to have.
    """
    if _APPLICATION.search(text):
        # First, for a peer can close the connection with a reason that reads like any of the others.
        return ConnectionLost(closed or session_error(text))
    if match := _RESET.search(text):
        return StreamReset(codes.from_wire(int(match[1])))
    if match := _STOPPED.search(text):
        return StreamStopped(codes.from_wire(int(match[1])))
    if text in _DATAGRAM:
        return TransportError(_DATAGRAM[text])
    if closed is not None:
        return ConnectionLost(closed)
    if "ClosedStream" in text or "closed stream" in text:
        # Ours, and closed by us: nobody wants what it carried.
        return StreamStopped(0)
    return ConnectionLost(session_error(text))


def session_error(text: str) -> SessionError:
    """Why a connection ended, from the debug form or from what `closed()` says."""
    if match := _APPLICATION.search(text):
        return SessionError(int(match[1]), _unescape(match[2]))
    if match := _SENTENCE.match(text):
        return SessionError(int(match[2] or match[3]), match[1] or "")
    if _LOCAL.search(text):
        return SessionError(None, "closed", local=True)
    return SessionError(None, text if len(text) <= _LONG else text[:_LONG] + "…")


def _unescape(text: str) -> str:
    """Undoes Rust's escapes of a byte string."""

    def plain(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        return bytes.fromhex(escape[1:].decode()) if len(escape) == 3 else _ESCAPES.get(escape, escape)

    return _ESCAPE.sub(plain, text.encode()).decode(errors="replace")

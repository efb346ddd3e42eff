"""Stream error codes as they travel: in WebTransport's corner of the QUIC code space.

draft-ietf-webtrans-http3, section 4.3; `web-transport-proto` does the same on connections that
carry no HTTP/3 at all, and so must we, for its peers read them back the same way.
"""

from __future__ import annotations

__all__ = ["from_wire", "to_wire"]

_FIRST = 0x52E4A40FA8DB
_LAST = 0x52E5AC983162


def to_wire(code: int) -> int:
    """The QUIC code for an application's stream code (0 to 2**32 - 1).

    One code in 0x1f is skipped, as HTTP/3 reserves those.
    """
    return _FIRST + code + code // 0x1E


def from_wire(wire: int) -> int:
    """The application's stream code; one from outside the range is taken as it is."""
    if not _FIRST <= wire <= _LAST:
        return wire
    offset = wire - _FIRST
    return offset - offset // 0x1F

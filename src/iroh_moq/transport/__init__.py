"""A session of streams over some connection; see :mod:`.base` for the contract.

Import an implementation from its own module, so that one can be used without the other.
"""

from .base import (
    READ_SIZE,
    Buffer,
    ConnectionLost,
    PathStats,
    Received,
    RecvStream,
    SendStream,
    StreamReset,
    StreamStopped,
    Transport,
    TransportError,
    TransportRates,
    TransportStats,
)

__all__ = [
    "READ_SIZE",
    "Buffer",
    "ConnectionLost",
    "PathStats",
    "Received",
    "RecvStream",
    "SendStream",
    "StreamReset",
    "StreamStopped",
    "Transport",
    "TransportError",
    "TransportRates",
    "TransportStats",
]

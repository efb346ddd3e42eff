"""Live streams between programs, peer to peer: moq-lite broadcasts over iroh connections."""

from .access import Access
from .endpoint import load_or_create_key
from .errors import (
    Closed,
    ConnectError,
    Error,
    ErrorCode,
    InternalConsistencyError,
    InvalidArgument,
    InvalidType,
    MoqError,
    NotAnnounced,
    RequestError,
    ServerError,
    SessionClosed,
    SessionError,
    SubscribeError,
)
from .limits import Limits
from .lite import ALPN, ALPNS
from .metrics import Histogram, Metrics
from .model import (
    MAX_DATAGRAM_SIZE,
    MAX_FRAME_SIZE,
    MAX_NAME_BYTES,
    BroadcastConsumer,
    BroadcastDynamic,
    BroadcastProducer,
    Cache,
    Datagram,
    GroupConsumer,
    GroupProducer,
    OriginConsumer,
    OriginProducer,
    Subscription,
    TimedFrame,
    TrackConsumer,
    TrackInfo,
    TrackProducer,
    TrackRequest,
)
from .moq import Moq, MoqProtocolHandler
from .reconnect import Reconnect
from .router import Router
from .session import IncomingSession, IncomingSessionStream, MoqSession
from .transport import PathStats, TransportRates, TransportStats
from .version import __version__

__all__ = [
    "ALPN",
    "ALPNS",
    "MAX_DATAGRAM_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_NAME_BYTES",
    "Access",
    "BroadcastConsumer",
    "BroadcastDynamic",
    "BroadcastProducer",
    "Cache",
    "Closed",
    "ConnectError",
    "Datagram",
    "Error",
    "ErrorCode",
    "GroupConsumer",
    "GroupProducer",
    "Histogram",
    "IncomingSession",
    "IncomingSessionStream",
    "InternalConsistencyError",
    "InvalidArgument",
    "InvalidType",
    "Limits",
    "Metrics",
    "Moq",
    "MoqError",
    "MoqProtocolHandler",
    "MoqSession",
    "NotAnnounced",
    "OriginConsumer",
    "OriginProducer",
    "PathStats",
    "Reconnect",
    "RequestError",
    "Router",
    "ServerError",
    "SessionClosed",
    "SessionError",
    "SubscribeError",
    "Subscription",
    "TimedFrame",
    "TrackConsumer",
    "TrackInfo",
    "TrackProducer",
    "TrackRequest",
    "TransportRates",
    "TransportStats",
    "__version__",
    "load_or_create_key",
]

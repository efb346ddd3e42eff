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
from .lite import ALPN
from .metrics import Histogram, Metrics
from .model import (
    MAX_FRAME_SIZE,
    MAX_NAME_BYTES,
    BroadcastConsumer,
    BroadcastDynamic,
    BroadcastProducer,
    Cache,
    GroupConsumer,
    GroupProducer,
    OriginConsumer,
    OriginProducer,
    Subscription,
    TrackConsumer,
    TrackProducer,
    TrackRequest,
)
from .moq import Moq, MoqProtocolHandler
from .router import Router
from .session import IncomingSession, IncomingSessionStream, MoqSession
from .transport import PathStats, TransportRates, TransportStats
from .version import __version__

__all__ = [
    "ALPN",
    "MAX_FRAME_SIZE",
    "MAX_NAME_BYTES",
    "Access",
    "BroadcastConsumer",
    "BroadcastDynamic",
    "BroadcastProducer",
    "Cache",
    "Closed",
    "ConnectError",
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
    "Metrics",
    "Moq",
    "MoqError",
    "MoqProtocolHandler",
    "MoqSession",
    "NotAnnounced",
    "OriginConsumer",
    "OriginProducer",
    "PathStats",
    "RequestError",
    "Router",
    "ServerError",
    "SessionClosed",
    "SessionError",
    "SubscribeError",
    "Subscription",
    "TrackConsumer",
    "TrackProducer",
    "TrackRequest",
    "TransportRates",
    "TransportStats",
    "__version__",
    "load_or_create_key",
]

"""Origins, broadcasts, tracks and groups: producers and consumers, with no network at all."""

from .broadcast import BroadcastConsumer, BroadcastDynamic, BroadcastProducer, TrackRequest
from .cache import Cache
from .group import MAX_FRAME_SIZE, GroupConsumer, GroupProducer
from .info import Datagram, TimedFrame, TrackInfo
from .origin import OriginConsumer, OriginProducer
from .path import MAX_NAME_BYTES, MAX_PATH_PARTS, normalize_path
from .subscription import Subscription
from .track import MAX_DATAGRAM_SIZE, TrackConsumer, TrackProducer

__all__ = [
    "MAX_DATAGRAM_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_NAME_BYTES",
    "MAX_PATH_PARTS",
    "BroadcastConsumer",
    "BroadcastDynamic",
    "BroadcastProducer",
    "Cache",
    "Datagram",
    "GroupConsumer",
    "GroupProducer",
    "OriginConsumer",
    "OriginProducer",
    "Subscription",
    "TimedFrame",
    "TrackConsumer",
    "TrackInfo",
    "TrackProducer",
    "TrackRequest",
    "normalize_path",
]

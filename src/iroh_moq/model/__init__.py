"""Origins, broadcasts, tracks and groups: producers and consumers, with no network at all."""

from .broadcast import BroadcastConsumer, BroadcastDynamic, BroadcastProducer, TrackRequest
from .cache import Cache
from .group import MAX_FRAME_SIZE, GroupConsumer, GroupProducer
from .origin import OriginConsumer, OriginProducer
from .path import MAX_NAME_BYTES, MAX_PATH_PARTS, normalize_path
from .subscription import Subscription
from .track import TrackConsumer, TrackProducer

__all__ = [
    "MAX_FRAME_SIZE",
    "MAX_NAME_BYTES",
    "MAX_PATH_PARTS",
    "BroadcastConsumer",
    "BroadcastDynamic",
    "BroadcastProducer",
    "Cache",
    "GroupConsumer",
    "GroupProducer",
    "OriginConsumer",
    "OriginProducer",
    "Subscription",
    "TrackConsumer",
    "TrackProducer",
    "TrackRequest",
    "normalize_path",
]

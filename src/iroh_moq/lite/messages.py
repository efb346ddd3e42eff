"""The messages of moq-lite-03, each with both of its directions.

`encode` gives the message with its length; where the wire puts a type before it, `TYPE` is that
type and `encode` includes it. `decode` takes the body alone. No I/O, no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple

from ..model.subscription import Subscription
from .wire import MAX_VARINT, Body, malformed, message, option, string, varint

__all__ = [
    "Announce",
    "AnnounceRequest",
    "BiType",
    "Group",
    "Probe",
    "Subscribe",
    "SubscribeDrop",
    "SubscribeOk",
    "SubscribeReply",
    "SubscribeUpdate",
    "UniType",
    "group_header",
]


class BiType(IntEnum):
    """What a bidirectional stream is for: the number it begins with."""

    ANNOUNCE = 1
    SUBSCRIBE = 2
    FETCH = 3
    PROBE = 4


class UniType(IntEnum):
    """What a unidirectional stream is for: the number it begins with."""

    GROUP = 0


_NO_LIMIT = (1 << 32) - 1
"""The latency, in milliseconds, that stands for none: the wire has no other way to say so, and 0
asks for the newest group alone. Larger numbers could overflow a peer's clock."""


def _milliseconds(latency: float | None) -> bytes:
    return varint(_NO_LIMIT if latency is None else min(round(latency * 1000), MAX_VARINT))


def _latency(body: Body) -> float | None:
    value = body.varint()
    return None if value >= _NO_LIMIT else value / 1000


def _wishes(wishes: Subscription) -> bytes:
    return b"".join(
        (
            bytes((wishes.priority, wishes.ordered)),
            _milliseconds(wishes.max_latency),
            option(wishes.start_group),
            option(wishes.end_group),
        )
    )


def _read_wishes(body: Body) -> Subscription:
    return Subscription(body.u8(), body.flag(), _latency(body), body.option(), body.option())


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
    """A subscriber asks to hear of every broadcast below a prefix."""

    prefix: str

    def encode(self) -> bytes:
        return varint(BiType.ANNOUNCE) + message(string(self.prefix))

    @classmethod
    def decode(cls, data: bytes) -> AnnounceRequest:
        body = Body(data, "ANNOUNCE request")
        request = cls(body.path())
        body.end()
        return request


@dataclass(frozen=True, slots=True)
class Announce:
    """A broadcast became available, or is no more. ``suffix`` is its path below the prefix."""

    active: bool
    suffix: str
    hops: int = 0

    def encode(self) -> bytes:
        return message(bytes((self.active,)), string(self.suffix), varint(min(self.hops, MAX_VARINT)))

    @classmethod
    def decode(cls, data: bytes) -> Announce:
        body = Body(data, "ANNOUNCE")
        status = body.u8()
        if status > 1:
            raise malformed(f"ANNOUNCE has the unknown status {status}")
        announce = cls(status == 1, body.path(), body.varint())
        body.end()
        return announce


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscriber asks for a track, under an id of its own that no other subscription has had."""

    id: int
    broadcast: str
    track: str
    wishes: Subscription

    def encode(self) -> bytes:
        return varint(BiType.SUBSCRIBE) + message(
            varint(self.id), string(self.broadcast), string(self.track), _wishes(self.wishes)
        )

    @classmethod
    def decode(cls, data: bytes) -> Subscribe:
        body = Body(data, "SUBSCRIBE")
        subscribe = cls(body.varint(), body.path(), body.string(), _read_wishes(body))
        body.end()
        return subscribe


@dataclass(frozen=True, slots=True)
class SubscribeUpdate:
    """A subscriber has changed its wishes."""

    wishes: Subscription

    def encode(self) -> bytes:
        return message(_wishes(self.wishes))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeUpdate:
        body = Body(data, "SUBSCRIBE_UPDATE")
        update = cls(_read_wishes(body))
        body.end()
        return update


@dataclass(frozen=True, slots=True)
class SubscribeOk:
    """The publisher has the track, and will serve it like this."""

    TYPE: ClassVar[int] = 0
    wishes: Subscription

    def encode(self) -> bytes:
        return varint(self.TYPE) + message(_wishes(self.wishes))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeOk:
        body = Body(data, "SUBSCRIBE_OK")
        ok = cls(_read_wishes(body))
        body.end()
        return ok


@dataclass(frozen=True, slots=True)
class SubscribeDrop:
    """The groups from ``start`` to ``end``, inclusive, will not come."""

    TYPE: ClassVar[int] = 1
    start: int
    end: int
    error: int

    def encode(self) -> bytes:
        return varint(self.TYPE) + message(varint(self.start), varint(self.end), varint(self.error))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeDrop:
        body = Body(data, "SUBSCRIBE_DROP")
        drop = cls(body.varint(), body.varint(), body.varint())
        body.end()
        return drop


SubscribeReply = SubscribeOk | SubscribeDrop


class Group(NamedTuple):
    """What a group's stream begins with: whose it is, and its number.

    A tuple, as it is by far the cheapest to make.
    """

    subscribe: int
    sequence: int

    def encode(self) -> bytes:
        return group_header(varint(self.subscribe), self.sequence)

    @classmethod
    def decode(cls, data: bytes) -> Group:
        body = Body(data, "GROUP")
        group = cls(body.varint(), body.varint())
        body.end()
        return group


def group_header(subscribe: bytes, sequence: int) -> bytes:
    """As `Group.encode`, for a subscription's id that is encoded already."""
    number = varint(sequence)
    # One byte holds the length of two numbers.
    return b"%c%c%b%b" % (UniType.GROUP, len(subscribe) + len(number), subscribe, number)


@dataclass(frozen=True, slots=True)
class Probe:
    """The publisher's estimate of what the path carries, in bits per second; None if unknown."""

    bitrate: int | None

    def encode(self) -> bytes:
        return message(varint(min(self.bitrate or 0, MAX_VARINT)))

    @classmethod
    def decode(cls, data: bytes) -> Probe:
        body = Body(data, "PROBE")
        probe = cls(body.varint() or None)
        body.end()
        return probe

"""The messages of moq-lite, each with both of its directions.

`encode` gives the message with its length, and with the number before it where the wire puts one.
`decode` takes the body alone. Those whose layout depends on the version take it. No I/O, no state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from ..model.info import MAX_TIMESCALE, TrackInfo
from ..model.subscription import Subscription
from .version import MAX_HOPS, BiType, Reply, UniType, Version
from .wire import MAX_VARINT, Body, malformed, message, option, string, varint

__all__ = [
    "MAX_OPTIONS",
    "REPLIES",
    "Announce",
    "AnnounceOk",
    "AnnounceRequest",
    "Datagram",
    "Fetch",
    "Goaway",
    "Group",
    "Probe",
    "Setup",
    "Subscribe",
    "SubscribeDrop",
    "SubscribeEnd",
    "SubscribeOk",
    "SubscribeReply",
    "SubscribeStart",
    "SubscribeUpdate",
    "TrackReply",
    "TrackRequest",
    "group_header",
]


_NO_LIMIT = (1 << 32) - 1
"""The latency, in milliseconds, that stands for none: the wire has no other way to say so, and 0
asks for the newest group alone. Larger numbers could overflow a peer's clock."""

MAX_OPTIONS = 64
"""How many options a SETUP may have."""


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
class Setup:
    """What one side can do, and who it is: `origin` is its id in lists of hops, 0 for none.

    `probe` says what it does on a PROBE stream: 0 nothing, 1 report, 2 or more also send to fill the path.
    """

    _PROBE: ClassVar[int] = 1
    _ORIGIN: ClassVar[int] = 5

    origin: int = 0
    probe: int = 0

    def encode(self) -> bytes:
        given = [(kind, value) for kind, value in ((self._ORIGIN, self.origin), (self._PROBE, self.probe)) if value]
        options = (varint(kind) + message(varint(value)) for kind, value in given)
        return varint(UniType.SETUP) + message(varint(len(given)), *options)

    @classmethod
    def decode(cls, data: bytes) -> Setup:
        body = Body(data, "SETUP")
        count = body.varint()
        if count > MAX_OPTIONS:
            raise malformed(f"SETUP has {count} options; at most {MAX_OPTIONS} are allowed")
        options: dict[int, bytes] = {}
        for _ in range(count):
            kind = body.varint()
            if kind in options:
                raise malformed(f"SETUP has option {kind} twice")
            options[kind] = body.data()
        body.end()
        return cls(_number(options.get(cls._ORIGIN)), _number(options.get(cls._PROBE)))


def _number(value: bytes | None) -> int:
    if value is None:
        return 0
    body = Body(value, "an option of SETUP")
    number = body.varint()
    body.end()
    return number


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
    """A subscriber asks to hear of every broadcast below a prefix, but for those that have passed ``exclude``.

    That is the id of an origin, usually its own, or 0.
    """

    prefix: str
    exclude: int = 0

    def encode(self, version: Version) -> bytes:
        exclude = varint(self.exclude) if version.hop_ids else b""
        return varint(BiType.ANNOUNCE) + message(string(self.prefix), exclude)

    @classmethod
    def decode(cls, data: bytes, version: Version) -> AnnounceRequest:
        body = Body(data, "ANNOUNCE request")
        request = cls(body.path(), body.varint() if version.hop_ids else 0)
        body.end()
        return request


@dataclass(frozen=True, slots=True)
class AnnounceOk:
    """The publisher says who it is, and how many broadcasts are available now: those come next."""

    origin: int
    active: int

    def encode(self) -> bytes:
        return message(varint(self.origin), varint(self.active))

    @classmethod
    def decode(cls, data: bytes) -> AnnounceOk:
        body = Body(data, "ANNOUNCE_OK")
        ok = cls(body.varint(), body.varint())
        body.end()
        return ok


@dataclass(frozen=True, slots=True)
class Announce:
    """A broadcast became available, or is no more. ``suffix`` is its path below the prefix.

    ``hops`` counts the origins it has passed, and ``route`` lists their ids; a version carries one of them.
    """

    active: bool
    suffix: str
    hops: int = 0
    route: tuple[int, ...] = field(default=())

    def encode(self, version: Version) -> bytes:
        if version.hop_ids:
            hops = varint(len(self.route)) + b"".join(map(varint, self.route))
        else:
            hops = varint(min(self.hops, MAX_VARINT))
        return message(bytes((self.active,)), string(self.suffix), hops)

    @classmethod
    def decode(cls, data: bytes, version: Version) -> Announce:
        body = Body(data, "ANNOUNCE")
        status = body.u8()
        # 2 is a broadcast that begins anew, which is the same as a second announcement of it.
        if status > (2 if version.reannounce else 1):
            raise malformed(f"ANNOUNCE has the unknown status {status}")
        suffix, hops = body.path(), body.varint()
        route: tuple[int, ...] = ()
        if version.hop_ids:
            if hops > MAX_HOPS:
                raise malformed(f"ANNOUNCE has passed {hops} origins; at most {MAX_HOPS} are allowed")
            route = tuple([body.varint() for _ in range(hops)])
        body.end()
        return cls(status > 0, suffix, hops, route)


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


def _reply(kind: Reply, version: Version, *fields: bytes) -> bytes:
    return varint(version.replies.index(kind)) + message(*fields)


@dataclass(frozen=True, slots=True)
class SubscribeOk:
    """The publisher has the track, and will serve it like this."""

    wishes: Subscription

    def encode(self, version: Version) -> bytes:
        return _reply(Reply.OK, version, _wishes(self.wishes))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeOk:
        body = Body(data, "SUBSCRIBE_OK")
        ok = cls(_read_wishes(body))
        body.end()
        return ok


@dataclass(frozen=True, slots=True)
class SubscribeStart:
    """The first group that will come."""

    group: int

    def encode(self, version: Version) -> bytes:
        return _reply(Reply.START, version, varint(self.group))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeStart:
        body = Body(data, "SUBSCRIBE_START")
        start = cls(body.varint())
        body.end()
        return start


@dataclass(frozen=True, slots=True)
class SubscribeEnd:
    """The track ends: no group of this number or a higher one will come."""

    group: int

    def encode(self, version: Version) -> bytes:
        return _reply(Reply.END, version, varint(self.group))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeEnd:
        body = Body(data, "SUBSCRIBE_END")
        end = cls(body.varint())
        body.end()
        return end


@dataclass(frozen=True, slots=True)
class SubscribeDrop:
    """The groups from ``start`` to ``end``, inclusive, will not come."""

    start: int
    end: int
    error: int

    def encode(self, version: Version) -> bytes:
        return _reply(Reply.DROP, version, varint(self.start), varint(self.end), varint(self.error))

    @classmethod
    def decode(cls, data: bytes) -> SubscribeDrop:
        body = Body(data, "SUBSCRIBE_DROP")
        drop = cls(body.varint(), body.varint(), body.varint())
        body.end()
        return drop


SubscribeReply = SubscribeOk | SubscribeStart | SubscribeEnd | SubscribeDrop

REPLIES: dict[Reply, Callable[[bytes], SubscribeReply]] = {
    Reply.OK: SubscribeOk.decode,
    Reply.START: SubscribeStart.decode,
    Reply.END: SubscribeEnd.decode,
    Reply.DROP: SubscribeDrop.decode,
}


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """A subscriber asks for the properties of a track."""

    broadcast: str
    track: str

    def encode(self) -> bytes:
        return varint(BiType.TRACK) + message(string(self.broadcast), string(self.track))

    @classmethod
    def decode(cls, data: bytes) -> TrackRequest:
        body = Body(data, "TRACK")
        request = cls(body.path(), body.string())
        body.end()
        return request


@dataclass(frozen=True, slots=True)
class TrackReply:
    """The properties of a track, which never change."""

    info: TrackInfo

    def encode(self) -> bytes:
        info = self.info
        return message(bytes((info.priority, info.ordered)), _milliseconds(info.max_age), varint(info.timescale))

    @classmethod
    def decode(cls, data: bytes) -> TrackReply:
        body = Body(data, "TRACK_INFO")
        priority, ordered, max_age, timescale = body.u8(), body.flag(), _latency(body), body.varint()
        body.end()
        if not 0 < timescale <= MAX_TIMESCALE:
            raise malformed(f"TRACK_INFO has a timescale of {timescale}")
        return cls(TrackInfo(priority, ordered, max_age, timescale))


@dataclass(frozen=True, slots=True)
class Fetch:
    """A subscriber asks for one group of a track that may be past."""

    broadcast: str
    track: str
    priority: int
    group: int

    def encode(self) -> bytes:
        return varint(BiType.FETCH) + message(
            string(self.broadcast), string(self.track), bytes((self.priority,)), varint(self.group)
        )

    @classmethod
    def decode(cls, data: bytes) -> Fetch:
        body = Body(data, "FETCH")
        fetch = cls(body.path(), body.string(), body.u8(), body.varint())
        body.end()
        return fetch


@dataclass(frozen=True, slots=True)
class Goaway:
    """A peer asks to be left soon, for the place that ``uri`` names if it is not empty."""

    uri: str

    def encode(self) -> bytes:
        return varint(BiType.GOAWAY) + message(string(self.uri))

    @classmethod
    def decode(cls, data: bytes) -> Goaway:
        body = Body(data, "GOAWAY")
        goaway = cls(body.string())
        body.end()
        return goaway


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


class Datagram(NamedTuple):
    """A group of one frame in a datagram: ``timestamp`` counts in the track's timescale."""

    subscribe: int
    sequence: int
    timestamp: int
    payload: bytes

    def encode(self) -> bytes:
        return b"".join((varint(self.subscribe), varint(self.sequence), varint(self.timestamp), self.payload))

    @classmethod
    def decode(cls, data: bytes) -> Datagram:
        body = Body(data, "a datagram")
        return cls(body.varint(), body.varint(), body.varint(), body.rest())


@dataclass(frozen=True, slots=True)
class Probe:
    """The publisher's estimate of what the path carries, in bits per second, and its round-trip time, in
    milliseconds; None if unknown."""

    bitrate: int | None
    rtt: int | None = None

    def encode(self, version: Version) -> bytes:
        rtt = varint(min(self.rtt or 0, MAX_VARINT)) if version.probe_rtt else b""
        return message(varint(min(self.bitrate or 0, MAX_VARINT)), rtt)

    @classmethod
    def decode(cls, data: bytes, version: Version) -> Probe:
        body = Body(data, "PROBE")
        probe = cls(body.varint() or None, body.varint() or None if version.probe_rtt else None)
        body.end()
        return probe

"""What a `Moq` has done so far, in numbers.

`Counters` are what the layers add to, plain ints in one object for all of a `Moq`'s sessions; the
groups and frames of a stream are added a batch at a time. `Metrics` is a picture of them, in which
each field says what it counts; exporters go by that, so a new field needs no change in them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from .errors import APPLICATION_CODE_BASE, ErrorCode

__all__ = ["BOUNDS", "Counters", "Histogram", "Metrics", "Times", "close_label", "code_label"]

Kind = Literal["gauge", "counter", "histogram"]

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of a histogram's buckets, in seconds."""


def code_label(code: int) -> str:
    """A word for a code. There are only so many of them, whatever codes a peer comes up with."""
    if code >= APPLICATION_CODE_BASE:
        return "application"
    try:
        return ErrorCode(code).name.lower()
    except ValueError:
        return "other"


def close_label(code: int | None) -> str:
    """A session's close code: its number, ``application`` from 64 on, ``lost`` where there was none."""
    if code is None:
        return "lost"
    return str(code) if code < APPLICATION_CODE_BASE else "application"


class Times:
    """Counts how long things took."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


class Counters:
    """What is counted, as it is now. Everything only grows, but for what is there at the moment."""

    __slots__ = (
        "announcements_received",
        "announcements_sent",
        "bytes_received",
        "bytes_sent",
        "connect_time",
        "dropped_receiving",
        "dropped_sending",
        "first_group_time",
        "frames_received",
        "frames_sent",
        "groups_received",
        "groups_sent",
        "handshakes_failed",
        "own_subscriptions",
        "own_subscriptions_opened",
        "peer_subscriptions",
        "peer_subscriptions_opened",
        "reconnects",
        "sessions",
        "sessions_closed",
        "sessions_opened",
    )

    def __init__(self) -> None:
        self.sessions = 0
        self.sessions_opened = {"incoming": 0, "outgoing": 0}
        self.sessions_closed: dict[str, int] = {}
        self.handshakes_failed = {"incoming": 0, "outgoing": 0}
        self.reconnects = 0
        self.announcements_sent = self.announcements_received = 0
        self.peer_subscriptions = self.peer_subscriptions_opened = 0
        self.own_subscriptions = self.own_subscriptions_opened = 0
        self.groups_sent = self.frames_sent = self.bytes_sent = 0
        self.groups_received = self.frames_received = self.bytes_received = 0
        self.dropped_sending: dict[str, int] = {}
        self.dropped_receiving: dict[str, int] = {}
        self.connect_time = Times()
        self.first_group_time = Times()

    def session_opened(self, *, incoming: bool) -> None:
        """A session was taken."""
        self.sessions += 1
        self.sessions_opened["incoming" if incoming else "outgoing"] += 1

    def session_closed(self, code: int | None) -> None:
        """A session that was counted has ended."""
        self.sessions -= 1
        label = close_label(code)
        self.sessions_closed[label] = self.sessions_closed.get(label, 0) + 1

    def dropped_to_peer(self, code: int) -> None:
        """A group was not sent, or not to its end."""
        label = code_label(code)
        self.dropped_sending[label] = self.dropped_sending.get(label, 0) + 1

    def dropped_by_peer(self, code: int) -> None:
        """A group has come, and will not be whole."""
        label = code_label(code)
        self.dropped_receiving[label] = self.dropped_receiving.get(label, 0) + 1


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long things took.

    ``bounds`` are the upper bounds of the buckets, in seconds; ``counts`` how many fell into each,
    one more than there are bounds, the last for all that took longer; ``sum`` all of them, in seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """How long one took on average, in seconds; None if there was none."""
        return self.sum / self.count if self.count else None

    @classmethod
    def of(cls, times: Times) -> Histogram:
        """A picture of what was counted so far."""
        return cls(BOUNDS, tuple(times.counts), times.sum)


def _counted(kind: Kind, text: str, label: str | None = None) -> dict[str, str | None]:
    return {"kind": kind, "help": text, "label": label}


Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a `Moq` has done so far.

    Numbers are totals since the `Moq` was made, but for those that say *now*. Bytes are those of
    frames, without any overhead; what the network carried is in `MoqSession.stats`. The metadata of
    each field has its ``kind`` (gauge, counter or histogram), its ``help``, and the ``label`` that
    the keys of a mapping are values of.

    Attributes:
        sessions: now.
        sessions_opened: by direction: ``incoming`` or ``outgoing``.
        sessions_closed: by close code: its number, ``application`` from 64 on, ``lost`` without one.
        handshakes_failed: connections that never became a session, by direction.
        reconnects: sessions that came back after a loss.
        broadcasts: published now.
        announcements_sent, announcements_received: of broadcasts that came; not of those that went.
        peer_subscriptions: of peers to tracks of ours, now; ``peer_subscriptions_opened`` in all.
        own_subscriptions: of ours to tracks of peers, now; ``own_subscriptions_opened`` in all.
        groups_sent, frames_sent, bytes_sent: given to connections; once for each subscriber.
        groups_received, frames_received, bytes_received: come from peers.
        dropped_sending: groups that a subscriber did not get whole, by reason: ``old`` (past its
            latency), ``evicted`` (left the cache), ``cancel`` (it left), ...
        dropped_receiving: groups that a peer has given up, by reason.
        refusals: what was refused to peers, by reason: ``unauthorized`` (a session), ``announcement``,
            ``subscription``, ``hidden`` (a name it may not know), ``rejected`` (by the application),
            ``authorize_failed``, or what was wrong with a request, such as ``decode`` or ``not_found``.
        connect_time: from the dial to the session, of sessions that we dialled.
        first_group_time: from a subscription of ours to its first group.
    """

    sessions: int = field(metadata=_counted("gauge", "Live sessions."))
    sessions_opened: Counts = field(metadata=_counted("counter", "Sessions opened.", "direction"))
    sessions_closed: Counts = field(metadata=_counted("counter", "Sessions closed, by close code.", "code"))
    handshakes_failed: Counts = field(
        metadata=_counted("counter", "Connections that never became a session.", "direction")
    )
    reconnects: int = field(metadata=_counted("counter", "Sessions that came back after a loss."))
    broadcasts: int = field(metadata=_counted("gauge", "Broadcasts that are published."))
    announcements_sent: int = field(metadata=_counted("counter", "Broadcasts announced to peers."))
    announcements_received: int = field(metadata=_counted("counter", "Broadcasts that peers announced."))
    peer_subscriptions: int = field(metadata=_counted("gauge", "Subscriptions of peers to our tracks."))
    peer_subscriptions_opened: int = field(
        metadata=_counted("counter", "Subscriptions of peers to our tracks that were opened.")
    )
    own_subscriptions: int = field(metadata=_counted("gauge", "Our subscriptions to tracks of peers."))
    own_subscriptions_opened: int = field(
        metadata=_counted("counter", "Our subscriptions to tracks of peers that were opened.")
    )
    groups_sent: int = field(metadata=_counted("counter", "Groups sent, once for each subscriber."))
    frames_sent: int = field(metadata=_counted("counter", "Frames sent, once for each subscriber."))
    bytes_sent: int = field(metadata=_counted("counter", "Bytes of frames sent, once for each subscriber."))
    groups_received: int = field(metadata=_counted("counter", "Groups received."))
    frames_received: int = field(metadata=_counted("counter", "Frames received."))
    bytes_received: int = field(metadata=_counted("counter", "Bytes of frames received."))
    dropped_sending: Counts = field(
        metadata=_counted("counter", "Groups that a subscriber did not get whole.", "reason")
    )
    dropped_receiving: Counts = field(metadata=_counted("counter", "Groups that a peer has given up.", "reason"))
    refusals: Counts = field(metadata=_counted("counter", "What was refused to peers.", "reason"))
    connect_time: Histogram = field(metadata=_counted("histogram", "Seconds from the dial to the session."))
    first_group_time: Histogram = field(
        metadata=_counted("histogram", "Seconds from a subscription to its first group.")
    )

    @classmethod
    def of(cls, counters: Counters, refusals: Counts, broadcasts: int) -> Metrics:
        """A picture of what was counted so far."""
        values: dict[str, Any] = {name: getattr(counters, name) for name in Counters.__slots__}
        for name, value in values.items():
            if isinstance(value, dict):
                values[name] = MappingProxyType(dict(value))
            elif isinstance(value, Times):
                values[name] = Histogram.of(value)
        return cls(**values, refusals=MappingProxyType(dict(refusals)), broadcasts=broadcasts)

"""What one endpoint lets others take of it: a number for everything that a peer could have too much of.

Beyond each of them only the peer that runs into it has less: a request is refused with a code, or
what comes next waits for a moment in the connection, where QUIC's flow control holds its sender. What
is refused or held is counted in `Moq.metrics()` under the name of the field, and logged once a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InvalidArgument, InvalidType
from .model.checks import check_int, check_seconds
from .model.group import MAX_FRAME_SIZE

__all__ = ["DEFAULT_LIMITS", "Limits", "check_limits"]

_MOST = 1 << 60
_LEAST = {"message_bytes": 64}
"""So that a group can still say what it is."""

_MOST_SECONDS = 24 * 60 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a `Moq`, or of a single session. The defaults suit an endpoint that strangers can dial.

    Args:
        sessions: sessions at a time. A peer that has none yet and dials when there are so many is refused
            with code 11. Those that this side dials count, and are never refused.
        connections_per_peer: connections that a peer has dialled at a time: that of its session, one that
            is to take its place, and those that `authorize` is deciding on. Others are refused with code 11.
        handshakes: of a `Router`: handshakes under way at a time. From half of that on a peer must first
            show that it is where it says, which costs it a round trip. When all are taken, the one that
            is under way longest, for a second at least, makes room; or else the new one is ignored, and
            its packets come again in a while.
        handshake_seconds: of a `Router`: seconds that a handshake may take.
        bi_streams: requests (announcements, subscriptions, fetches) that a peer may have open at a time.
            Others wait. Below 100 this holds only after they have reached this side.
        uni_streams: groups that may be on their way from a peer at a time; 128 more for each track that
            is read reliably. As for `bi_streams`.
        subscriptions: tracks that a peer may subscribe to at a time. Others are refused (BoundsExceeded).
        announce_streams: times that a peer may ask at a time for what is published, each of which keeps a
            table of it. Others are refused (BoundsExceeded).
        probe_streams: times that a peer may ask at a time for reports of the path, each of which looks at
            it four times a second. Others are refused (BoundsExceeded).
        announcements: broadcasts that a peer may have announced at a time. With one more, all that it
            announces ends (BoundsExceeded).
        message_bytes: of a control message. A longer one ends its stream (FrameTooLarge).
        message_seconds: from the beginning of a stream, or of a message, to the end of that message; a
            group may wait for its next frame as long as it likes. A stream on which one stays unfinished
            ends (Timeout), unless it may be a group of a track that is read reliably. A connection survives
            30 seconds without the network, so do not go below that where that may happen.
        frame_bytes: of a frame that is received. A larger one ends its group (FrameTooLarge).
        groups_per_second: groups that a peer may open; as many at once. Others wait.
        requests_per_second: requests that a peer may make, and changes to its subscriptions; as many at
            once. Others wait.
        refusals_per_second: requests, groups and announcements of a peer that are refused, for whatever
            reason; as many at once. What it asks after that waits.
        track_bytes: bytes kept of each track that is received, as `Cache.max_bytes`. The oldest groups go.
        session_bytes: bytes kept of all the tracks that a session receives, together. The oldest groups
            of the tracks that have most go, the latest too if nothing else is left; tracks that are read
            reliably lose nothing, and hold the peer back: each may have a megabyte more.
        blocked_seconds: that what is written of a group may wait for a subscriber that reads nothing. Then
            the group is given up (Timeout), and so is the subscription, if it wanted all groups.

    Raises:
        InvalidType: a value is not a number, or not a whole one where it must be.
        InvalidArgument: a value is out of range: less than 1 (64 for ``message_bytes``), or a time that is
            not positive or over a day, or a ``frame_bytes`` over `MAX_FRAME_SIZE`.
    """

    sessions: int = 1000
    connections_per_peer: int = 4
    handshakes: int = 64
    handshake_seconds: float = 10.0
    bi_streams: int = 1024
    uni_streams: int = 1024
    subscriptions: int = 1000
    announce_streams: int = 8
    probe_streams: int = 8
    announcements: int = 65_536
    message_bytes: int = 64 * 1024
    message_seconds: float = 40.0
    frame_bytes: int = MAX_FRAME_SIZE
    groups_per_second: int = 30_000
    requests_per_second: int = 2000
    refusals_per_second: int = 200
    track_bytes: int = 64 * 1024 * 1024
    session_bytes: int = 256 * 1024 * 1024
    blocked_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not name.endswith("_seconds"):
                check_int(value, name, _LEAST.get(name, 1), MAX_FRAME_SIZE if name == "frame_bytes" else _MOST)
            elif check_seconds(value, name, _MOST_SECONDS) == 0:
                raise InvalidArgument(f"{name} must be positive, not 0")


DEFAULT_LIMITS = Limits()


def check_limits(limits: Limits | None) -> Limits:
    """What a caller has given as limits; None is the defaults.

    Raises:
        InvalidType: it is no Limits.
    """
    if limits is None:
        return DEFAULT_LIMITS
    if not isinstance(limits, Limits):
        raise InvalidType(f"limits must be a Limits, not {type(limits).__name__}")
    return limits

"""The versions of the protocol, as data: what each has, and by which numbers.

A version is its name in the TLS handshake, which is all the negotiation there is. Messages take one
where their layout depends on it; whoever runs the protocol asks it what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from ..errors import ErrorCode, MoqError

__all__ = [
    "ALPN",
    "ALPNS",
    "LITE_03",
    "LITE_04",
    "LITE_05",
    "MAX_HOPS",
    "VERSIONS",
    "BiType",
    "Reply",
    "UniType",
    "Version",
    "unsupported",
    "version_of",
]

MAX_HOPS = 32
"""The longest list of origins that an announcement may have passed."""


class BiType(IntEnum):
    """What a bidirectional stream is for: the number it begins with."""

    ANNOUNCE = 1
    SUBSCRIBE = 2
    FETCH = 3
    PROBE = 4
    GOAWAY = 5
    TRACK = 6


class UniType(IntEnum):
    """What a unidirectional stream is for: the number it begins with."""

    GROUP = 0
    SETUP = 1


class Reply(Enum):
    """What a publisher can say on a SUBSCRIBE stream; each version has its own numbers."""

    OK = "SUBSCRIBE_OK"
    START = "SUBSCRIBE_START"
    END = "SUBSCRIBE_END"
    DROP = "SUBSCRIBE_DROP"


@dataclass(frozen=True, slots=True)
class Version:
    """One version: `requests` and `streams` are what a peer may open, the rest says what they hold."""

    alpn: bytes
    requests: frozenset[BiType]
    streams: frozenset[UniType]
    replies: tuple[Reply, ...]
    """By their numbers."""
    hop_ids: bool
    """An announcement lists the origins it has passed, and a request names one to leave out; else it counts them."""
    announce_ok: bool
    """ANNOUNCE_OK comes first: the publisher's own id, for its subscriber to add to every list."""
    reannounce: bool
    """A second announcement of a live broadcast is news of its way here; else it is an error."""
    probe_rtt: bool
    """PROBE has the round-trip time as well."""
    timestamps: bool
    """Every frame has its timestamp before it."""
    datagrams: bool
    """Groups of one frame may come as datagrams."""

    @property
    def name(self) -> str:
        return self.alpn.decode()

    @property
    def setup(self) -> bool:
        """Whether both sides say first what they can do."""
        return UniType.SETUP in self.streams

    @property
    def fetch(self) -> bool:
        """Whether past groups can be asked for."""
        return BiType.FETCH in self.requests

    @property
    def track_info(self) -> bool:
        """Whether the properties of a track can be asked for."""
        return BiType.TRACK in self.requests

    def __repr__(self) -> str:
        return f"<{self.name}>"


LITE_03 = Version(
    b"moq-lite-03",
    requests=frozenset({BiType.ANNOUNCE, BiType.SUBSCRIBE, BiType.PROBE}),
    streams=frozenset({UniType.GROUP}),
    replies=(Reply.OK, Reply.DROP),
    hop_ids=False,
    announce_ok=False,
    reannounce=False,
    probe_rtt=False,
    timestamps=False,
    datagrams=False,
)

LITE_04 = Version(
    b"moq-lite-04",
    requests=LITE_03.requests | {BiType.GOAWAY},
    streams=LITE_03.streams,
    replies=LITE_03.replies,
    hop_ids=True,
    announce_ok=False,
    reannounce=False,
    probe_rtt=True,
    timestamps=False,
    datagrams=False,
)

LITE_05 = Version(
    b"moq-lite-05",
    requests=LITE_04.requests | {BiType.FETCH, BiType.TRACK},
    streams=LITE_04.streams | {UniType.SETUP},
    replies=(Reply.START, Reply.END, Reply.DROP),
    hop_ids=True,
    announce_ok=True,
    reannounce=True,
    probe_rtt=True,
    timestamps=True,
    datagrams=True,
)

VERSIONS = (LITE_05, LITE_04, LITE_03)
"""All of them, the newest first."""

ALPN = LITE_03.alpn
"""The protocol's name in the TLS handshake that every peer knows."""

ALPNS = tuple(version.alpn for version in VERSIONS)
"""The names of all the versions, the newest first."""

_BY_ALPN = {version.alpn: version for version in VERSIONS}


def version_of(alpn: bytes) -> Version:
    """The version of that name; under a name of the application's own, the one that every peer knows."""
    return _BY_ALPN.get(alpn, LITE_03)


def unsupported(version: Version, what: str) -> MoqError:
    """The error for what a session cannot do, because of its version."""
    return MoqError(ErrorCode.UNSUPPORTED, f"this session speaks {version.name}, which has no {what}")

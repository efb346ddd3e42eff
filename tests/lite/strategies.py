"""What hypothesis draws for the tests of this folder: every message, with any value it can hold."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from iroh_moq.lite import messages as m
from iroh_moq.lite.version import MAX_HOPS, VERSIONS, BiType, Reply, Version
from iroh_moq.lite.wire import MAX_VARINT, varint, zigzag
from iroh_moq.model import MAX_NAME_BYTES, Subscription, TrackInfo
from iroh_moq.model.info import MAX_TIME
from iroh_moq.model.subscription import MAX_GROUP

# Numbers near the borders of the four forms of a varint are as likely as all others.
numbers = st.one_of(
    st.integers(0, MAX_VARINT),
    st.sampled_from([0x3F, 0x40, 0x3FFF, 0x4000, 0x3FFFFFFF, 0x40000000, MAX_VARINT]),
    st.integers(0, 300),
)
groups = numbers.filter(lambda number: number <= MAX_GROUP)
characters = st.characters(exclude_categories=["Cs"])
names = st.text(characters, max_size=40).filter(lambda name: len(name.encode()) <= MAX_NAME_BYTES)
paths = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=8), max_size=32
).map("/".join)
# The wire counts milliseconds, and from 2**32 - 1 on there is no limit.
seconds = st.none() | st.integers(0, (1 << 32) - 2).map(lambda count: count / 1000)
wishes = st.builds(
    Subscription,
    priority=st.integers(0, 255),
    ordered=st.booleans(),
    max_latency=seconds,
    start_group=st.none() | groups,
    end_group=st.none() | groups,
)

origins = st.lists(numbers, max_size=MAX_HOPS).map(tuple)


def announces(version: Version) -> st.SearchStrategy[m.Announce]:
    """Announcements as a version can carry them: with a count, or with a list and its length."""
    if not version.hop_ids:
        return st.builds(m.Announce, st.booleans(), paths, numbers)
    return st.tuples(st.booleans(), paths, origins).map(lambda drawn: m.Announce(*drawn[:2], len(drawn[2]), drawn[2]))


def messages_of(version: Version) -> dict[type[Any], st.SearchStrategy[Any]]:
    """The messages of a version."""
    messages: dict[type[Any], st.SearchStrategy[Any]] = {
        m.AnnounceRequest: st.builds(m.AnnounceRequest, paths, numbers if version.hop_ids else st.just(0)),
        m.Announce: announces(version),
        m.Subscribe: st.builds(m.Subscribe, numbers, paths, names, wishes),
        m.SubscribeUpdate: st.builds(m.SubscribeUpdate, wishes),
        m.SubscribeDrop: st.builds(m.SubscribeDrop, numbers, numbers, numbers),
        m.Group: st.builds(m.Group, numbers, numbers),
        m.Probe: st.builds(
            m.Probe,
            st.none() | numbers.filter(bool),
            st.none() | numbers.filter(bool) if version.probe_rtt else st.none(),
        ),
    }
    if Reply.OK in version.replies:
        messages[m.SubscribeOk] = st.builds(m.SubscribeOk, wishes)
    if Reply.START in version.replies:
        messages[m.SubscribeStart] = st.builds(m.SubscribeStart, numbers)
        messages[m.SubscribeEnd] = st.builds(m.SubscribeEnd, numbers)
    if version.announce_ok:
        messages[m.AnnounceOk] = st.builds(m.AnnounceOk, numbers, numbers)
    if version.setup:
        messages[m.Setup] = st.builds(m.Setup, numbers, numbers)
    if version.fetch:
        messages[m.Fetch] = st.builds(m.Fetch, paths, names, st.integers(0, 255), numbers)
    if version.track_info:
        messages[m.TrackRequest] = st.builds(m.TrackRequest, paths, names)
        messages[m.TrackReply] = st.builds(
            m.TrackReply,
            st.builds(TrackInfo, st.integers(0, 255), st.booleans(), seconds, numbers.filter(bool)),
        )
    if BiType.GOAWAY in version.requests:
        messages[m.Goaway] = st.builds(m.Goaway, names)
    return messages


MESSAGES = {version: messages_of(version) for version in VERSIONS}


def encode(message: Any, version: Version) -> bytes:
    """The bytes of a message, whether its layout depends on the version or not."""
    encoded: bytes = message.encode(version) if "version" in signature(message.encode).parameters else message.encode()
    return encoded


def decode(kind: type[Any], body: bytes, version: Version) -> Any:
    """A message back from its body."""
    return kind.decode(body, version) if "version" in signature(kind.decode).parameters else kind.decode(body)


def encoded(version: Version, *kinds: type[Any]) -> st.SearchStrategy[bytes]:
    """The bytes of a message of one of these kinds, as far as the version has them."""
    messages = MESSAGES[version]
    return st.one_of([messages[kind] for kind in kinds if kind in messages]).map(
        lambda message: encode(message, version)
    )


def frame(payload: bytes) -> bytes:
    return varint(len(payload)) + payload


timed_frames = st.lists(st.tuples(st.integers(0, MAX_TIME), st.binary(max_size=300)), max_size=8).map(
    lambda frames: b"".join(
        varint(zigzag(time - before)) + frame(payload) for (before, _), (time, payload) in pairwise([(0, b""), *frames])
    )
)


def frames_of(version: Version) -> st.SearchStrategy[bytes]:
    return (
        timed_frames if version.timestamps else st.lists(st.binary(max_size=300).map(frame), max_size=8).map(b"".join)
    )


def _joined(version: Version, first: st.SearchStrategy[bytes], *more: type[Any]) -> st.SearchStrategy[bytes]:
    return st.tuples(first, st.lists(encoded(version, *more), max_size=5).map(b"".join)).map(b"".join)


def streams_of(version: Version) -> dict[str, st.SearchStrategy[bytes]]:
    """For each decoder, streams that mean something in a version."""
    welcome = encoded(version, m.AnnounceOk) if version.announce_ok else st.just(b"")
    streams = {
        "RequestDecoder": st.one_of(
            encoded(version, m.AnnounceRequest, m.Fetch, m.TrackRequest, m.Goaway),
            st.just(b"\x04"),
            _joined(version, encoded(version, m.Subscribe), m.SubscribeUpdate),
        ),
        "AnnounceDecoder": _joined(version, welcome, m.Announce),
        "ProbeDecoder": _joined(version, st.just(b""), m.Probe),
        "SubscribeReplyDecoder": _joined(
            version, st.just(b""), m.SubscribeOk, m.SubscribeStart, m.SubscribeEnd, m.SubscribeDrop
        ),
        "GroupDecoder": st.tuples(encoded(version, m.Group), frames_of(version)).map(b"".join),
        "FetchDecoder": frames_of(version),
    }
    if version.setup:
        streams["SetupDecoder"] = encoded(version, m.Setup)
    if version.track_info:
        streams["TrackReplyDecoder"] = encoded(version, m.TrackReply)
    return streams


STREAMS = {version: streams_of(version) for version in VERSIONS}


@st.composite
def damaged(draw: Callable[[st.SearchStrategy[Any]], Any], streams: st.SearchStrategy[bytes]) -> bytes:
    """A stream with a part of it overwritten, inserted or cut."""
    data = draw(streams)
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 8)))
    return bytes(data[:start] + draw(st.binary(max_size=8)) + data[end:])


@st.composite
def pieces(draw: Callable[[st.SearchStrategy[Any]], Any], data: bytes) -> list[bytes]:
    """The same bytes as any number of reads, none of them empty."""
    cuts = sorted(draw(st.sets(st.integers(1, max(len(data) - 1, 1)), max_size=12)))
    borders = [0, *(cut for cut in cuts if cut < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(borders) if end > start]

"""What hypothesis draws for the tests of this folder: every message, with any value it can hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from iroh_moq.lite import messages as m
from iroh_moq.lite.wire import MAX_VARINT, varint
from iroh_moq.model import MAX_NAME_BYTES, Subscription
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
wishes = st.builds(
    Subscription,
    priority=st.integers(0, 255),
    ordered=st.booleans(),
    # The wire counts milliseconds, and from 2**32 - 1 on there is no limit.
    max_latency=st.none() | st.integers(0, (1 << 32) - 2).map(lambda count: count / 1000),
    start_group=st.none() | groups,
    end_group=st.none() | groups,
)

MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    m.AnnounceRequest: st.builds(m.AnnounceRequest, paths),
    m.Announce: st.builds(m.Announce, st.booleans(), paths, numbers),
    m.Subscribe: st.builds(m.Subscribe, numbers, paths, names, wishes),
    m.SubscribeUpdate: st.builds(m.SubscribeUpdate, wishes),
    m.SubscribeOk: st.builds(m.SubscribeOk, wishes),
    m.SubscribeDrop: st.builds(m.SubscribeDrop, numbers, numbers, numbers),
    m.Group: st.builds(m.Group, numbers, numbers),
    m.Probe: st.builds(m.Probe, st.none() | numbers.filter(bool)),
}


def encoded(*kinds: type[Any]) -> st.SearchStrategy[bytes]:
    """The bytes of a message of one of these kinds."""
    return st.one_of([MESSAGES[kind] for kind in kinds]).map(lambda message: bytes(message.encode()))


def frame(payload: bytes) -> bytes:
    return varint(len(payload)) + payload


def _joined(first: st.SearchStrategy[bytes], *more: type[Any]) -> st.SearchStrategy[bytes]:
    return st.tuples(first, st.lists(encoded(*more), max_size=5).map(b"".join)).map(b"".join)


group_streams = st.tuples(encoded(m.Group), st.lists(st.binary(max_size=300).map(frame), max_size=8).map(b"".join)).map(
    b"".join
)

STREAMS: dict[str, st.SearchStrategy[bytes]] = {
    "RequestDecoder": st.one_of(
        encoded(m.AnnounceRequest), st.just(b"\x04"), _joined(encoded(m.Subscribe), m.SubscribeUpdate)
    ),
    "AnnounceDecoder": _joined(st.just(b""), m.Announce),
    "ProbeDecoder": _joined(st.just(b""), m.Probe),
    "SubscribeReplyDecoder": _joined(st.just(b""), m.SubscribeOk, m.SubscribeDrop),
    "GroupDecoder": group_streams,
}
"""For each decoder, streams that mean something."""


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

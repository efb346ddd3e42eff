"""Every message against bytes that a live Rust peer sent, and against itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import ErrorCode, MoqError, Subscription
from iroh_moq.lite import messages as m
from iroh_moq.lite.wire import peek_varint
from tests.lite.strategies import MESSAGES

_TYPED = {m.AnnounceRequest: 1, m.Subscribe: 2, m.SubscribeOk: 0, m.SubscribeDrop: 1, m.Group: 0}
"""What goes before the length of those messages that have a type."""


def body_of(kind: type[Any], encoded: bytes) -> bytes:
    """The message without its type and length, which must be right."""
    if kind in _TYPED:
        assert encoded[0] == _TYPED[kind]
        encoded = encoded[1:]
    found = peek_varint(encoded, 0)
    assert found is not None
    size, start = found
    assert len(encoded) == start + size
    return encoded[start:]


def every_kind() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)


@every_kind()
@given(data=st.data())
def test_any_message_encodes_and_decodes_to_itself(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    assert kind.decode(body_of(kind, message.encode())) == message


@every_kind()
@given(data=st.data())
def test_a_body_that_is_shorter_or_longer_is_an_error(kind: type[Any], data: st.DataObject) -> None:
    body = body_of(kind, data.draw(MESSAGES[kind]).encode())
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(MoqError) as caught:
            kind.decode(wrong)
        assert caught.value.code == ErrorCode.DECODE


@every_kind()
@given(body=st.binary(max_size=64))
def test_any_body_is_a_message_or_one_typed_error(kind: type[Any], body: bytes) -> None:
    refused: MoqError | None = None
    try:
        message = kind.decode(body)
    except MoqError as error:
        refused = error
    if refused is not None:
        assert refused.code == ErrorCode.DECODE
        return
    # What was understood is understood the same way again.
    assert kind.decode(body_of(kind, message.encode())) == message


OBSERVED = [
    (m.AnnounceRequest(""), b"\x01\x01\x00"),
    (m.Announce(True, "room/hello", 1), b"\x0d\x01\x0aroom/hello\x01"),
    (m.Announce(False, "room/hello", 0), b"\x0d\x00\x0aroom/hello\x00"),
    (m.SubscribeOk(Subscription(128, max_latency=0.0)), b"\x00\x05\x80\x00\x00\x00\x00"),
    (m.Group(0, 0), b"\x00\x02\x00\x00"),
    (m.Group(0, 1), b"\x00\x02\x00\x01"),
]


@pytest.mark.parametrize(("message", "encoded"), OBSERVED, ids=lambda value: type(value).__name__)
def test_bytes_observed_from_the_rust_peer(message: Any, encoded: bytes) -> None:
    assert message.encode() == encoded
    assert type(message).decode(body_of(type(message), encoded)) == message


def test_every_field_has_its_place() -> None:
    """By the page on the wire, for the messages of which no bytes were observed."""
    wishes = Subscription(200, True, 1.5, 0, 6)
    fields = b"\xc8\x01\x45\xdc\x01\x07"
    assert m.Subscribe(3, "a/b", "video", wishes).encode() == b"\x02\x11\x03\x03a/b\x05video" + fields
    assert m.SubscribeUpdate(wishes).encode() == b"\x06" + fields
    assert m.SubscribeOk(wishes).encode() == b"\x00\x06" + fields
    assert m.SubscribeDrop(1, 4, 31).encode() == b"\x01\x03\x01\x04\x1f"
    assert m.Probe(300).encode() == b"\x02\x41\x2c"
    assert m.Probe(None).encode() == b"\x01\x00"


def test_no_latency_limit_is_the_longest_the_wire_can_say() -> None:
    assert m.SubscribeUpdate(Subscription()).encode() == b"\x0c\x00\x00\xc0\x00\x00\x00\xff\xff\xff\xff\x00\x00"
    for longer in (1 << 32, 1 << 61):
        body = b"\0\0" + (longer | 0xC000000000000000).to_bytes(8, "big") + b"\0\0"
        assert m.SubscribeUpdate.decode(body).wishes.max_latency is None


def test_an_announcement_of_unknown_status() -> None:
    with pytest.raises(MoqError, match="status 2"):
        m.Announce.decode(b"\x02\x01a\x00")


def test_a_relay_can_always_count_one_more_hop() -> None:
    body = body_of(m.Announce, m.Announce(True, "a", (1 << 62) - 1).encode())
    hops = m.Announce.decode(body).hops + 1
    assert m.Announce.decode(body_of(m.Announce, m.Announce(True, "a", hops).encode())).hops == (1 << 62) - 1

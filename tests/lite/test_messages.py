"""Every message of every version against bytes that a live Rust peer sent, and against itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import ErrorCode, MoqError, Subscription, TrackInfo
from iroh_moq.lite import messages as m
from iroh_moq.lite.version import LITE_03, LITE_04, LITE_05, MAX_HOPS, Version
from iroh_moq.lite.wire import MAX_VARINT, message, peek_varint, varint
from tests.lite.strategies import MESSAGES, decode, encode

_TYPES = {
    m.AnnounceRequest: 1,
    m.Subscribe: 2,
    m.Fetch: 3,
    m.Goaway: 5,
    m.TrackRequest: 6,
    m.Group: 0,
    m.Setup: 1,
}
_REPLIES = {
    LITE_03: {m.SubscribeOk: 0, m.SubscribeDrop: 1},
    LITE_04: {m.SubscribeOk: 0, m.SubscribeDrop: 1},
    LITE_05: {m.SubscribeStart: 0, m.SubscribeEnd: 1, m.SubscribeDrop: 2},
}


def body_of(kind: type[Any], encoded: bytes, version: Version = LITE_03) -> bytes:
    """The message without its type and length, which must be right."""
    typed: dict[type[Any], int] = {**_TYPES, **_REPLIES[version]}
    if kind in typed:
        assert encoded[0] == typed[kind]
        encoded = encoded[1:]
    found = peek_varint(encoded, 0)
    assert found is not None
    size, start = found
    assert len(encoded) == start + size
    return encoded[start:]


every_kind = pytest.mark.parametrize(
    ("version", "kind"),
    [
        pytest.param(version, kind, id=f"{version.name}-{kind.__name__}")
        for version, messages in MESSAGES.items()
        for kind in messages
    ],
)


@every_kind
@given(data=st.data())
def test_any_message_encodes_and_decodes_to_itself(version: Version, kind: type[Any], data: st.DataObject) -> None:
    drawn = data.draw(MESSAGES[version][kind])
    assert decode(kind, body_of(kind, encode(drawn, version), version), version) == drawn


@every_kind
@given(data=st.data())
def test_a_body_that_is_shorter_or_longer_is_an_error(version: Version, kind: type[Any], data: st.DataObject) -> None:
    body = body_of(kind, encode(data.draw(MESSAGES[version][kind]), version), version)
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(MoqError) as caught:
            decode(kind, wrong, version)
        assert caught.value.code == ErrorCode.DECODE


@every_kind
@given(body=st.binary(max_size=64))
def test_any_body_is_a_message_or_one_typed_error(version: Version, kind: type[Any], body: bytes) -> None:
    refused: MoqError | None = None
    try:
        understood = decode(kind, body, version)
    except MoqError as error:
        refused = error
    if refused is not None:
        assert refused.code == ErrorCode.DECODE
        return
    # What was understood is understood the same way again.
    assert decode(kind, body_of(kind, encode(understood, version), version), version) == understood


class TestDatagrams:
    @given(st.integers(0, MAX_VARINT), st.integers(0, MAX_VARINT), st.integers(0, MAX_VARINT), st.binary(max_size=50))
    def test_any_encodes_and_decodes_to_itself(self, subscribe: int, sequence: int, time: int, payload: bytes) -> None:
        datagram = m.Datagram(subscribe, sequence, time, payload)
        assert m.Datagram.decode(datagram.encode()) == datagram

    @given(st.binary(max_size=40))
    def test_any_bytes_are_one_or_one_typed_error(self, data: bytes) -> None:
        refused: MoqError | None = None
        try:
            datagram = m.Datagram.decode(data)
        except MoqError as error:
            refused = error
        if refused is None:
            assert m.Datagram.decode(datagram.encode()) == datagram
        else:
            assert refused.code == ErrorCode.DECODE

    def test_bytes_observed_from_the_rust_peer(self) -> None:
        observed = bytes.fromhex("00 02 803d0900") + b"dgram"
        assert m.Datagram.decode(observed) == (0, 2, 4_000_000, b"dgram")
        assert m.Datagram(0, 2, 4_000_000, b"dgram").encode() == observed


OBSERVED = [
    (LITE_03, m.AnnounceRequest(""), b"\x01\x01\x00"),
    (LITE_03, m.Announce(True, "room/hello", 1), b"\x0d\x01\x0aroom/hello\x01"),
    (LITE_03, m.Announce(False, "room/hello", 0), b"\x0d\x00\x0aroom/hello\x00"),
    (LITE_03, m.SubscribeOk(Subscription(128, max_latency=0.0)), b"\x00\x05\x80\x00\x00\x00\x00"),
    (LITE_03, m.Group(0, 0), b"\x00\x02\x00\x00"),
    (LITE_03, m.Group(0, 1), b"\x00\x02\x00\x01"),
    (LITE_04, m.AnnounceRequest("", 0x066C7FD128C82D), bytes.fromhex("01 09 00 c0066c7fd128c82d")),
    (
        LITE_04,
        m.Announce(True, "room", 1, (0x10D930AE013F53,)),
        bytes.fromhex("0f 01 04") + b"room" + bytes.fromhex("01 c010d930ae013f53"),
    ),
    (LITE_04, m.Announce(False, "room"), b"\x07\x00\x04room\x00"),
    (LITE_04, m.SubscribeOk(Subscription(9, max_latency=0.0)), b"\x00\x05\x09\x00\x00\x00\x00"),
    (LITE_04, m.Probe(0x3CAD7E7, 1), bytes.fromhex("05 83cad7e7 01")),
    (LITE_05, m.Setup(0x1E8C1B5751A0FF, 1), bytes.fromhex("01 0e 02 05 08 c01e8c1b5751a0ff 01 01 01")),
    (LITE_05, m.AnnounceRequest("", 0x190E2304CBF1D0), bytes.fromhex("01 09 00 c0190e2304cbf1d0")),
    (LITE_05, m.AnnounceOk(0x1E8C1B5751A0FF, 1), bytes.fromhex("09 c01e8c1b5751a0ff 01")),
    (LITE_05, m.Announce(True, "room"), b"\x07\x01\x04room\x00"),
    (LITE_05, m.TrackRequest("cam", "video"), b"\x06\x0a\x03cam\x05video"),
    (LITE_05, m.TrackReply(TrackInfo(127, False, 5.0, 1_000_000)), bytes.fromhex("08 7f 00 5388 800f4240")),
    (LITE_05, m.SubscribeStart(0), b"\x00\x01\x00"),
    (LITE_05, m.SubscribeEnd(3), b"\x01\x01\x03"),
    (LITE_05, m.Group(0, 1), b"\x00\x02\x00\x01"),
    (LITE_05, m.Probe(0x3DB21DA, 1), bytes.fromhex("05 83db21da 01")),
]


@pytest.mark.parametrize(("version", "sent", "encoded"), OBSERVED, ids=lambda value: type(value).__name__)
def test_bytes_observed_from_the_rust_peer(version: Version, sent: Any, encoded: bytes) -> None:
    assert encode(sent, version) == encoded
    assert decode(type(sent), body_of(type(sent), encoded, version), version) == sent


def test_every_field_has_its_place() -> None:
    """By the page on the wire, for the messages of which no bytes were observed."""
    wishes = Subscription(200, True, 1.5, 0, 6)
    fields = b"\xc8\x01\x45\xdc\x01\x07"
    assert m.Subscribe(3, "a/b", "video", wishes).encode() == b"\x02\x11\x03\x03a/b\x05video" + fields
    assert m.SubscribeUpdate(wishes).encode() == b"\x06" + fields
    assert m.SubscribeOk(wishes).encode(LITE_03) == b"\x00\x06" + fields
    assert m.SubscribeDrop(1, 4, 31).encode(LITE_03) == b"\x01\x03\x01\x04\x1f"
    assert m.SubscribeDrop(1, 4, 31).encode(LITE_05) == b"\x02\x03\x01\x04\x1f"
    assert m.Probe(300).encode(LITE_03) == b"\x02\x41\x2c"
    assert m.Probe(None).encode(LITE_03) == b"\x01\x00"
    assert m.Probe(None, None).encode(LITE_04) == b"\x02\x00\x00"
    assert m.Fetch("a/b", "video", 9, 300).encode() == b"\x03\x0d\x03a/b\x05video\x09\x41\x2c"
    assert m.Goaway("there").encode() == b"\x05\x06\x05there"


def test_no_latency_limit_is_the_longest_the_wire_can_say() -> None:
    assert m.SubscribeUpdate(Subscription()).encode() == b"\x0c\x00\x00\xc0\x00\x00\x00\xff\xff\xff\xff\x00\x00"
    for longer in (1 << 32, 1 << 61):
        body = b"\0\0" + (longer | 0xC000000000000000).to_bytes(8, "big") + b"\0\0"
        assert m.SubscribeUpdate.decode(body).wishes.max_latency is None


def test_an_announcement_of_unknown_status() -> None:
    for version, status in ((LITE_03, 2), (LITE_04, 2), (LITE_05, 3)):
        with pytest.raises(MoqError, match=f"status {status}"):
            m.Announce.decode(b"%c\x01a\x00" % status, version)
    # A broadcast that begins anew.
    assert m.Announce.decode(b"\x02\x01a\x00", LITE_05) == m.Announce(True, "a")


def test_a_relay_can_always_count_one_more_hop() -> None:
    body = body_of(m.Announce, m.Announce(True, "a", MAX_VARINT).encode(LITE_03))
    hops = m.Announce.decode(body, LITE_03).hops + 1
    again = body_of(m.Announce, m.Announce(True, "a", hops).encode(LITE_03))
    assert m.Announce.decode(again, LITE_03).hops == MAX_VARINT


def test_a_list_of_origins_is_bounded() -> None:
    body = b"\x01\x01a" + varint(MAX_HOPS + 1) + b"\x01" * (MAX_HOPS + 1)
    with pytest.raises(MoqError, match="33 origins"):
        m.Announce.decode(body, LITE_05)


class TestSetup:
    def test_options_that_nobody_knows_are_ignored(self) -> None:
        body = b"\x03" + varint(0xBEEF) + message(b"whatever") + b"\x05" + message(b"\x07") + b"\x02" + message(b"/")
        assert m.Setup.decode(body) == m.Setup(7, 0)

    def test_nothing_to_say(self) -> None:
        assert m.Setup().encode() == b"\x01\x01\x00"
        assert m.Setup.decode(b"\x00") == m.Setup(0, 0)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"\x02\x05\x01\x01\x05\x01\x01", id="an option twice"),
            pytest.param(varint(65) + b"".join(varint(kind) + b"\0" for kind in range(100, 165)), id="too many"),
            pytest.param(b"\x01\x05\x02\x01\x01", id="a number with more after it"),
            pytest.param(b"\x01\x05\x00", id="a number that is not there"),
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(MoqError) as caught:
            m.Setup.decode(body)
        assert caught.value.code == ErrorCode.DECODE


def test_a_timescale_of_nothing() -> None:
    with pytest.raises(MoqError, match="timescale of 0"):
        m.TrackReply.decode(b"\x00\x00\x00\x00")

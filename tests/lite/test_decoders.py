"""Decoders: bytes in, events out, whatever the bytes and however they are cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import MAX_FRAME_SIZE, ErrorCode, Subscription
from iroh_moq.lite import decoders as d
from iroh_moq.lite import messages as m
from iroh_moq.lite.version import LITE_03
from iroh_moq.lite.wire import MAX_MESSAGE_SIZE, varint
from tests.lite.strategies import STREAMS, damaged, frame, pieces

DECODERS: dict[str, Callable[[], Any]] = {
    "RequestDecoder": d.RequestDecoder,
    "AnnounceDecoder": d.AnnounceDecoder,
    "ProbeDecoder": d.ProbeDecoder,
    "SubscribeReplyDecoder": d.SubscribeReplyDecoder,
    "GroupDecoder": d.GroupDecoder,
}
CODES = {
    ErrorCode.DECODE,
    ErrorCode.UNEXPECTED_STREAM,
    ErrorCode.WRONG_SIZE,
    ErrorCode.UNEXPECTED_MESSAGE,
    ErrorCode.FRAME_TOO_LARGE,
}

every_decoder = pytest.mark.parametrize("name", DECODERS)


def run(decoder: Any, reads: Iterable[bytes], *, finish: bool = True) -> tuple[list[Any], int | None]:
    """Everything that comes of a stream: its events, and the code of its error."""
    events = [event for data in reads for event in decoder.feed(data)]
    if isinstance(decoder, d.GroupDecoder):
        events.insert(0, decoder.group)
    if finish:
        decoder.finish()
    return events, None if decoder.error is None else decoder.error.code


class TestAnyBytes:
    @every_decoder
    @given(data=st.data())
    def test_any_split_gives_the_same_events(self, name: str, data: st.DataObject) -> None:
        stream = data.draw(st.one_of(STREAMS[name], damaged(STREAMS[name])))
        whole = run(DECODERS[name](), [stream])
        assert run(DECODERS[name](), data.draw(pieces(stream))) == whole
        assert run(DECODERS[name](), [bytes((byte,)) for byte in stream]) == whole

    @every_decoder
    @given(data=st.data())
    def test_a_stream_that_means_something_has_no_error(self, name: str, data: st.DataObject) -> None:
        events, code = run(DECODERS[name](), [data.draw(STREAMS[name])])
        assert code is None
        assert None not in events

    @every_decoder
    @given(data=st.data())
    def test_any_bytes_give_events_or_one_typed_error(self, name: str, data: st.DataObject) -> None:
        decoder = DECODERS[name]()
        reads = data.draw(st.lists(st.one_of(st.binary(min_size=1, max_size=200), damaged(STREAMS[name])), max_size=6))
        _, code = run(decoder, reads)
        assert code is None or code in CODES
        error = decoder.error
        if error is not None:
            # It is the last word: nothing that follows is an event, or another error.
            assert decoder.feed(b"\x01\x01\x00" * 10) == []
            decoder.finish()
            assert decoder.error is error

    @every_decoder
    def test_what_is_kept_is_what_came_of_one_message_or_frame(self, name: str) -> None:
        """A peer that promises much and sends little takes up little; one that promises too much, nothing."""
        begun = {
            "RequestDecoder": b"\x01" + varint(MAX_MESSAGE_SIZE),
            "AnnounceDecoder": varint(MAX_MESSAGE_SIZE),
            "ProbeDecoder": varint(MAX_MESSAGE_SIZE),
            "SubscribeReplyDecoder": b"\x00" + varint(MAX_MESSAGE_SIZE),
            "GroupDecoder": b"\x00\x02\x00\x00" + varint(MAX_FRAME_SIZE),
        }[name]
        decoder = DECODERS[name]()
        assert decoder.feed(begun) == []
        assert decoder.buffered <= len(begun)
        sent = 0
        limit = MAX_MESSAGE_SIZE + len(begun)
        while decoder.error is None and sent < 4 * limit:
            decoder.feed(bytes(1000))
            sent += 1000
            assert decoder.buffered <= sent + len(begun)
            assert name == "GroupDecoder" or decoder.buffered <= limit

    @every_decoder
    @given(data=st.data())
    def test_whole_messages_leave_nothing_behind(self, name: str, data: st.DataObject) -> None:
        decoder = DECODERS[name]()
        run(decoder, [data.draw(STREAMS[name])], finish=False)
        assert decoder.buffered == 0

    def test_a_frame_in_tiny_pieces_takes_little_more_than_its_bytes(self) -> None:
        import tracemalloc

        decoder = d.GroupDecoder(LITE_03)
        decoder.feed(b"\x00\x02\x00\x00" + varint(1 << 20))
        tracemalloc.start()
        try:
            for index in range(1 << 17):
                # Not two equal objects, as those of a real connection are not.
                decoder.feed(index.to_bytes(4, "big"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert decoder.buffered == 1 << 19
        assert peak < 3 << 19

    @pytest.mark.parametrize("size", [1, 7, 100_000])
    def test_time_grows_with_the_bytes(self, size: int) -> None:
        """Half a million messages, and as many frames, in reads of any size."""
        announcements = m.Announce(True, "a", 1).encode(LITE_03) * 50_000
        frames = b"\x00\x02\x00\x00" + frame(b"x") * 250_000
        started = time.process_time()
        for decoder, data in ((d.AnnounceDecoder(LITE_03), announcements), (d.GroupDecoder(LITE_03), frames)):
            events, code = run(decoder, (data[start : start + size] for start in range(0, len(data), size)))
            assert code is None
            assert len(events) >= 50_000
        assert time.process_time() - started < 10


class TestRequests:
    def test_bytes_observed_from_the_rust_peer(self) -> None:
        assert run(d.RequestDecoder(LITE_03), [b"\x01\x01\x00"]) == ([m.AnnounceRequest("")], None)
        assert run(d.RequestDecoder(LITE_03), [b"\x04"]) == ([d.ProbeRequest()], None)

    def test_a_subscription_and_its_updates(self) -> None:
        first, second = m.Subscribe(7, "a", "b", Subscription(1)), m.SubscribeUpdate(Subscription(2))
        assert run(d.RequestDecoder(LITE_03), [first.encode() + second.encode() * 2]) == ([first, second, second], None)

    @pytest.mark.parametrize("kind", [0, 3, 5, 63, 64, 1 << 40])
    def test_an_unknown_type(self, kind: int) -> None:
        """FETCH, 3, is one of them, as it is for every moq-lite-03 peer seen."""
        assert run(d.RequestDecoder(LITE_03), [varint(kind)]) == ([], ErrorCode.UNEXPECTED_STREAM)

    @pytest.mark.parametrize("request_", [m.AnnounceRequest("a").encode(LITE_03), b"\x04"])
    def test_a_second_message_where_there_is_only_one(self, request_: bytes) -> None:
        events, code = run(d.RequestDecoder(LITE_03), [request_ + b"\x01\x00"])
        assert (len(events), code) == (1, ErrorCode.UNEXPECTED_MESSAGE)

    @pytest.mark.parametrize("data", [b"", b"\x01", b"\x40", b"\x01\x05ab", b"\x02\x40"])
    def test_an_end_before_the_request(self, data: bytes) -> None:
        assert run(d.RequestDecoder(LITE_03), [data]) == ([], ErrorCode.DECODE)

    def test_an_end_inside_an_update(self) -> None:
        subscribe = m.Subscribe(7, "a", "b", Subscription(1))
        assert run(d.RequestDecoder(LITE_03), [subscribe.encode() + b"\x06\x00"]) == ([subscribe], ErrorCode.DECODE)

    def test_probe_requests_are_all_the_same(self) -> None:
        assert d.ProbeRequest() == d.ProbeRequest()
        assert hash(d.ProbeRequest()) == hash(d.ProbeRequest())
        assert d.ProbeRequest() != b"\x04"


class TestReplies:
    def test_bytes_observed_from_the_rust_peer(self) -> None:
        active, ended = b"\x0d\x01\x0aroom/hello\x01", b"\x0d\x00\x0aroom/hello\x00"
        assert run(d.AnnounceDecoder(LITE_03), [active + ended]) == (
            [m.Announce(True, "room/hello", 1), m.Announce(False, "room/hello", 0)],
            None,
        )
        ok = m.SubscribeOk(Subscription(128, max_latency=0.0))
        assert run(d.SubscribeReplyDecoder(LITE_03), [b"\x00\x05\x80\x00\x00\x00\x00"]) == ([ok], None)

    def test_the_events_before_the_fault_come_out(self) -> None:
        good = m.Announce(True, "a", 1)
        assert run(d.AnnounceDecoder(LITE_03), [good.encode() * 2 + b"\x01\x05"]) == ([good, good], ErrorCode.DECODE)

    def test_an_unknown_reply(self) -> None:
        assert run(d.SubscribeReplyDecoder(LITE_03), [b"\x02\x00"]) == ([], ErrorCode.DECODE)

    @pytest.mark.parametrize("decoder", [d.AnnounceDecoder, d.ProbeDecoder])
    def test_a_message_over_the_limit(self, decoder: Callable[[], Any]) -> None:
        assert run(decoder(), [varint(MAX_MESSAGE_SIZE)], finish=False) == ([], None)
        assert run(decoder(), [varint(MAX_MESSAGE_SIZE + 1)], finish=False) == ([], ErrorCode.FRAME_TOO_LARGE)

    @pytest.mark.parametrize("decoder", [d.AnnounceDecoder, d.ProbeDecoder, d.SubscribeReplyDecoder])
    def test_an_end_inside_a_message(self, decoder: Callable[[], Any]) -> None:
        assert run(decoder(), [b"\x00\x05\x80"])[1] == ErrorCode.DECODE
        assert run(decoder(), []) == ([], None)


class TestGroups:
    def test_bytes_observed_from_the_rust_peer(self) -> None:
        assert run(d.GroupDecoder(LITE_03), [b"\x00\x02\x00\x00\x08hi there"]) == ([m.Group(0, 0), b"hi there"], None)
        assert run(d.GroupDecoder(LITE_03), [b"\x00\x02\x00\x01\x01a\x02bb"]) == ([m.Group(0, 1), b"a", b"bb"], None)

    def test_empty_groups_and_empty_frames(self) -> None:
        assert run(d.GroupDecoder(LITE_03), [b"\x00\x02\x05\x06"]) == ([m.Group(5, 6)], None)
        assert run(d.GroupDecoder(LITE_03), [b"\x00\x02\x05\x06\x00\x00"]) == ([m.Group(5, 6), b"", b""], None)

    @pytest.mark.parametrize("kind", [1, 2, 64, 1 << 40])
    def test_another_type_of_stream(self, kind: int) -> None:
        assert run(d.GroupDecoder(LITE_03), [varint(kind) + bytes(10)]) == ([None], ErrorCode.UNEXPECTED_STREAM)

    @pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x02\x00", b"\x40"])
    def test_an_end_before_the_header(self, data: bytes) -> None:
        assert run(d.GroupDecoder(LITE_03), [data]) == ([None], ErrorCode.DECODE)

    @pytest.mark.parametrize("data", [b"\x05abcd", b"\x40", b"\x05"])
    def test_an_end_inside_a_frame(self, data: bytes) -> None:
        header = b"\x00\x02\x00\x00"
        assert run(d.GroupDecoder(LITE_03), [header + b"\x01a" + data]) == ([m.Group(0, 0), b"a"], ErrorCode.WRONG_SIZE)

    def test_a_frame_over_the_limit_is_refused_before_it_comes(self) -> None:
        header = b"\x00\x02\x00\x00"
        assert run(d.GroupDecoder(LITE_03), [header + varint(MAX_FRAME_SIZE)], finish=False)[1] is None
        assert run(d.GroupDecoder(LITE_03), [header + varint(MAX_FRAME_SIZE + 1)])[1] == ErrorCode.FRAME_TOO_LARGE
        events, code = run(d.GroupDecoder(LITE_03, max_frame_size=4), [header + b"\x04good\x05"])
        assert (events, code) == ([m.Group(0, 0), b"good"], ErrorCode.FRAME_TOO_LARGE)

    def test_a_malformed_header(self) -> None:
        assert run(d.GroupDecoder(LITE_03), [b"\x00\x03\x00\x00\x00"]) == ([None], ErrorCode.DECODE)
        assert run(d.GroupDecoder(LITE_03), [b"\x00" + varint(MAX_MESSAGE_SIZE + 1)]) == (
            [None],
            ErrorCode.FRAME_TOO_LARGE,
        )

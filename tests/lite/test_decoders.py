"""Decoders: bytes in, events out, whatever the bytes and however they are cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import MAX_FRAME_SIZE, ErrorCode, Subscription, TrackInfo
from iroh_moq.lite import decoders as d
from iroh_moq.lite import messages as m
from iroh_moq.lite.version import LITE_03, LITE_05, Version
from iroh_moq.lite.wire import MAX_MESSAGE_SIZE, varint
from tests.lite.strategies import STREAMS, damaged, frame, pieces

FETCHED = m.Group(0, 7)
"""What a stream of nothing but frames is taken for."""

DECODERS: dict[str, Callable[[Version], Any]] = {
    "RequestDecoder": d.RequestDecoder,
    "AnnounceDecoder": d.AnnounceDecoder,
    "ProbeDecoder": d.ProbeDecoder,
    "SubscribeReplyDecoder": d.SubscribeReplyDecoder,
    "GroupDecoder": d.group_decoder,
    "SetupDecoder": d.group_decoder,
    "FetchDecoder": lambda version: d.group_decoder(version, FETCHED),
    "TrackReplyDecoder": lambda _: d.TrackReplyDecoder(),
}
CODES = {
    ErrorCode.DECODE,
    ErrorCode.UNEXPECTED_STREAM,
    ErrorCode.WRONG_SIZE,
    ErrorCode.UNEXPECTED_MESSAGE,
    ErrorCode.FRAME_TOO_LARGE,
}


@pytest.fixture(scope="module", autouse=True, params=["native", "python"])
def _both(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of it with the native cutting of frames, where there is one, and without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(d, "native", None)
        yield


every_decoder = pytest.mark.parametrize(
    ("version", "name"),
    [
        pytest.param(version, name, id=f"{version.name}-{name}")
        for version, streams in STREAMS.items()
        for name in streams
    ],
)


def run(decoder: Any, reads: Iterable[bytes], *, finish: bool = True) -> tuple[list[Any], int | None]:
    """Everything that comes of a stream: its events, and the code of its error."""
    if isinstance(decoder, d.GroupDecoder):
        events: list[Any] = []
        for data in reads:
            frames = decoder.feed(data)
            if isinstance(decoder, d.TimedGroupDecoder):
                # None stands for 0 every time.
                events += zip((frames and decoder.times) or [0] * len(frames), frames, strict=True)
            else:
                events += frames
        events.insert(0, decoder.group or decoder.setup)
    else:
        events = [event for data in reads for event in decoder.feed(data)]
    if finish:
        decoder.finish()
    return events, None if decoder.error is None else decoder.error.code


class TestAnyBytes:
    @every_decoder
    @given(data=st.data())
    def test_any_split_gives_the_same_events(self, version: Version, name: str, data: st.DataObject) -> None:
        stream = data.draw(st.one_of(STREAMS[version][name], damaged(STREAMS[version][name])))
        whole = run(DECODERS[name](version), [stream])
        assert run(DECODERS[name](version), data.draw(pieces(stream))) == whole
        assert run(DECODERS[name](version), [bytes((byte,)) for byte in stream]) == whole

    @every_decoder
    @given(data=st.data())
    def test_a_stream_that_means_something_has_no_error(self, version: Version, name: str, data: st.DataObject) -> None:
        events, code = run(DECODERS[name](version), [data.draw(STREAMS[version][name])])
        assert code is None
        assert None not in events

    @every_decoder
    @given(data=st.data())
    def test_any_bytes_give_events_or_one_typed_error(self, version: Version, name: str, data: st.DataObject) -> None:
        decoder = DECODERS[name](version)
        reads = data.draw(
            st.lists(st.one_of(st.binary(min_size=1, max_size=200), damaged(STREAMS[version][name])), max_size=6)
        )
        _, code = run(decoder, reads)
        assert code is None or code in CODES
        error = decoder.error
        if error is not None:
            # It is the last word: nothing that follows is an event, or another error.
            assert decoder.feed(b"\x01\x01\x00" * 10) == []
            decoder.finish()
            assert decoder.error is error

    @every_decoder
    def test_what_is_kept_is_what_came_of_one_message_or_frame(self, version: Version, name: str) -> None:
        """A peer that promises much and sends little takes up little; one that promises too much, nothing."""
        begun = {
            "RequestDecoder": b"\x01" + varint(MAX_MESSAGE_SIZE),
            "AnnounceDecoder": varint(MAX_MESSAGE_SIZE),
            "ProbeDecoder": varint(MAX_MESSAGE_SIZE),
            "SubscribeReplyDecoder": b"\x00" + varint(MAX_MESSAGE_SIZE),
            "GroupDecoder": b"\x00\x02\x00\x00" + b"\0" * version.timestamps + varint(MAX_FRAME_SIZE),
            "FetchDecoder": b"\0" * version.timestamps + varint(MAX_FRAME_SIZE),
            "SetupDecoder": b"\x01" + varint(MAX_MESSAGE_SIZE),
            "TrackReplyDecoder": varint(MAX_MESSAGE_SIZE),
        }[name]
        decoder = DECODERS[name](version)
        assert decoder.feed(begun) == []
        assert decoder.buffered <= len(begun)
        sent = 0
        limit = MAX_MESSAGE_SIZE + len(begun)
        while decoder.error is None and sent < 4 * limit:
            decoder.feed(bytes(1000))
            sent += 1000
            assert decoder.buffered <= sent + len(begun)
            assert name in ("GroupDecoder", "FetchDecoder") or decoder.buffered <= limit

    @every_decoder
    @given(data=st.data())
    def test_whole_messages_leave_nothing_behind(self, version: Version, name: str, data: st.DataObject) -> None:
        decoder = DECODERS[name](version)
        run(decoder, [data.draw(STREAMS[version][name])], finish=False)
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
        assert run(d.AnnounceDecoder(LITE_03), [good.encode(LITE_03) * 2 + b"\x01\x05"]) == (
            [good, good],
            ErrorCode.DECODE,
        )

    def test_an_unknown_reply(self) -> None:
        assert run(d.SubscribeReplyDecoder(LITE_03), [b"\x02\x00"]) == ([], ErrorCode.DECODE)

    @pytest.mark.parametrize("decoder", [d.AnnounceDecoder, d.ProbeDecoder])
    def test_a_message_over_the_limit(self, decoder: Callable[[Version], Any]) -> None:
        assert run(decoder(LITE_03), [varint(MAX_MESSAGE_SIZE)], finish=False) == ([], None)
        assert run(decoder(LITE_03), [varint(MAX_MESSAGE_SIZE + 1)], finish=False) == ([], ErrorCode.FRAME_TOO_LARGE)

    @pytest.mark.parametrize("decoder", [d.AnnounceDecoder, d.ProbeDecoder, d.SubscribeReplyDecoder])
    def test_an_end_inside_a_message(self, decoder: Callable[[Version], Any]) -> None:
        assert run(decoder(LITE_03), [b"\x00\x05\x80"])[1] == ErrorCode.DECODE
        assert run(decoder(LITE_03), []) == ([], None)


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


class TestTimedGroupDecoder:
    def test_bytes_observed_from_the_rust_peer(self) -> None:
        observed = bytes.fromhex("00 02 00 00 801e8480 03 616263 80030d3f 04 64656667 802191c0 00")
        assert run(d.group_decoder(LITE_05), [observed]) == (
            [m.Group(0, 0), (1_000_000, b"abc"), (900_000, b"defg"), (2_000_000, b"")],
            None,
        )

    def test_frames_without_a_time_of_their_own_cost_none(self) -> None:
        decoder = d.group_decoder(LITE_05)
        assert decoder.feed(b"\x00\x02\x00\x00" + b"\x00\x01a" * 50) == [b"a"] * 50
        assert decoder.times is None
        assert decoder.feed(b"\x02\x01b\x00\x01c") == [b"b", b"c"]
        assert decoder.times == [1, 1]
        assert decoder.feed(b"\x01\x01d") == [b"d"]
        assert decoder.times == [0]

    def test_a_view_is_kept_only_if_most_of_it_is_needed(self) -> None:
        large, begun = bytes(200_000), varint(1 << 20) + bytes(20_000)
        for before, kept in ((b"", memoryview), (varint(len(large)) + large, bytes)):
            decoder = d.GroupDecoder(LITE_03, m.Group(0, 0))
            decoder.feed(memoryview(before + begun))
            assert decoder._pieces is not None
            assert [type(piece) for piece in decoder._pieces] == [kept]

    def test_large_frames_are_cut_from_a_view(self) -> None:
        large = bytes(20_000)
        data = b"\x00\x02\x00\x00" + b"".join(varint(2 * 5) + varint(len(large)) + large for _ in range(3))
        decoder = d.group_decoder(LITE_05)
        assert decoder.feed(memoryview(data)) == [large] * 3
        assert decoder.times == [5, 10, 15]
        # One of which a part is there, and then one that is no time.
        assert decoder.feed(memoryview(varint(2 * 5) + varint(len(large)) + large[:30])) == []
        assert decoder.feed(memoryview(large[30:] + varint(2 * 60 - 1) + varint(len(large)) + large)) == [large]
        assert decoder.times == [20]
        assert decoder.error is not None
        assert decoder.error.code == ErrorCode.DECODE

    @pytest.mark.parametrize("time", [b"\x01", varint((1 << 62) - 2), varint((1 << 62) - 1)])
    def test_a_time_out_of_bounds(self, time: bytes) -> None:
        before = b"\x00\x02\x00\x00" + b"\x00\x01a"
        again = varint((1 << 62) - 2) + b"\x00" if len(time) == 8 and not time[-1] & 1 else b""
        events, code = run(d.group_decoder(LITE_05), [before + again + time + b"\x01b"])
        assert events[:2] == [m.Group(0, 0), (0, b"a")]
        assert code == ErrorCode.DECODE

    @pytest.mark.parametrize("rest", [b"\x00", b"\x40", b"\x00\x40", b"\x00\x05ab"])
    def test_an_end_inside_a_frame(self, rest: bytes) -> None:
        data = b"\x00\x02\x00\x00" + b"\x00\x01a" + rest
        assert run(d.group_decoder(LITE_05), [data]) == ([m.Group(0, 0), (0, b"a")], ErrorCode.WRONG_SIZE)


class TestSetupStream:
    def test_nothing_may_follow(self) -> None:
        assert run(d.group_decoder(LITE_05), [b"\x01\x01\x00"]) == ([m.Setup()], None)
        assert run(d.group_decoder(LITE_05), [b"\x01\x01\x00\x00"]) == ([m.Setup()], ErrorCode.UNEXPECTED_MESSAGE)
        assert run(d.group_decoder(LITE_05), [b"\x01\x01\x00", b"\x00"]) == (
            [m.Setup()],
            ErrorCode.UNEXPECTED_MESSAGE,
        )

    def test_older_versions_have_none(self) -> None:
        assert run(d.group_decoder(LITE_03), [b"\x01\x01\x00"]) == ([None], ErrorCode.UNEXPECTED_STREAM)


class TestTrackReplyDecoder:
    def test_one_reply_and_no_more(self) -> None:
        reply = m.TrackReply(TrackInfo())
        assert run(d.TrackReplyDecoder(), [reply.encode()]) == ([reply], None)
        assert run(d.TrackReplyDecoder(), [reply.encode() * 2]) == ([reply], ErrorCode.UNEXPECTED_MESSAGE)
        assert run(d.TrackReplyDecoder(), []) == ([], ErrorCode.DECODE)

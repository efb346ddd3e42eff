"""Errors out of the texts of the `iroh` package: those it was seen to say, and any others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import SessionError
from iroh_moq.transport import ConnectionLost, StreamReset, StreamStopped, TransportError
from iroh_moq.transport.codes import to_wire
from iroh_moq.transport.iroh_errors import session_error, transport_error

APPLICATION = 'ConnectionLost(ApplicationClosed(ApplicationClose {{ error_code: {}, reason: b"{}" }}))'


@pytest.mark.parametrize(("wire", "code"), [(to_wire(13), 13), (to_wire(31), 31), (77, 77)])
def test_resets_and_stops_have_their_codes(wire: int, code: int) -> None:
    reset, stop = (transport_error(f"{kind}({wire})", None) for kind in ("Reset", "Stopped"))
    assert isinstance(reset, StreamReset)
    assert isinstance(stop, StreamStopped)
    assert (reset.code, stop.code) == (code, code)


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        (APPLICATION.format(42, "rejected"), 42, "rejected"),
        (APPLICATION.format(0, ""), 0, ""),
        (APPLICATION.format(1, r"a \"quoted\" \\ word"), 1, 'a "quoted" \\ word'),
        (APPLICATION.format(1, r"\xc3\xbc\n\t\r\0"), 1, "ü\n\t\r\0"),
        (APPLICATION.format(1, r"\xff"), 1, "\N{REPLACEMENT CHARACTER}"),
        ("closed by peer: rejected (code 42)", 42, "rejected"),
        ("closed by peer: 0", 0, ""),
        ("closed by peer: two\nlines (code 5) (code 7)", 7, "two\nlines (code 5)"),
        ("timed out", None, "timed out"),
        ("x" * 500, None, "x" * 200 + "…"),
    ],
)
def test_why_a_connection_ended(text: str, code: int | None, reason: str) -> None:
    error = session_error(text)
    assert (error.code, error.reason, error.local) == (code, reason, False)
    lost = transport_error(text, None)
    assert isinstance(lost, ConnectionLost)
    assert (lost.error.code, lost.error.reason) == (code, reason)


DATAGRAM = ["TooLarge", "UnsupportedByPeer", "Disabled"]


@pytest.mark.parametrize("text", DATAGRAM)
def test_a_datagram_that_cannot_be_sent_is_not_the_end(text: str) -> None:
    for closed in (None, SessionError(1, "over")):
        assert type(transport_error(text, closed)) is TransportError
    assert isinstance(transport_error(APPLICATION.format(1, text), None), ConnectionLost)


@pytest.mark.parametrize("text", ["closed", "ConnectionLost(LocallyClosed)"])
def test_an_end_by_this_side(text: str) -> None:
    error = session_error(text)
    assert (error.code, error.local) == (None, True)


def test_what_is_known_of_the_end_counts_for_more_than_the_text() -> None:
    known = SessionError(3, "known")
    for text in ("ConnectionLost(LocallyClosed)", "closed stream", "whatever"):
        lost = transport_error(text, known)
        assert isinstance(lost, ConnectionLost)
        assert lost.error is known
    # But what happened to the stream before is what it says.
    assert isinstance(transport_error("Reset(5)", known), StreamReset)


@pytest.mark.parametrize("text", ["ClosedStream", "closed stream"])
def test_a_stream_that_this_side_has_closed(text: str) -> None:
    error = transport_error(text, None)
    assert isinstance(error, StreamStopped)
    assert error.code == 0


@given(st.text())
def test_any_text_becomes_some_error(text: str) -> None:
    assert len(session_error(text).reason) <= max(201, len(text))
    error = transport_error(text, None)
    # Those of datagrams have no code, and end nothing.
    assert (type(error) is TransportError) == (text in DATAGRAM)
    assert text in DATAGRAM or isinstance(error, (ConnectionLost, StreamReset, StreamStopped))


@pytest.mark.parametrize("reason", ["Reset(5)", "Stopped(5)", "closed stream", *DATAGRAM])
def test_a_peers_reason_is_not_taken_for_another_failure(reason: str) -> None:
    lost = transport_error(APPLICATION.format(7, reason), None)
    assert isinstance(lost, ConnectionLost)
    assert (lost.error.code, lost.error.reason) == (7, reason)


@given(
    st.integers(0, (1 << 32) - 1), st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'))
)
def test_any_reason_comes_back(code: int, reason: str) -> None:
    for text in (APPLICATION.format(code, reason), f"closed by peer: {reason} (code {code})"):
        error = session_error(text)
        assert (error.code, error.reason) == (code, reason)

from __future__ import annotations

import copy
import pickle

import pytest

from iroh_moq import errors
from iroh_moq.errors import (
    APPLICATION_CODE_BASE,
    Closed,
    ConnectError,
    Error,
    ErrorCode,
    InternalConsistencyError,
    InvalidArgument,
    InvalidType,
    MoqError,
    NotAnnounced,
    RequestError,
    ServerError,
    SessionClosed,
    SessionError,
    SubscribeError,
    canonical,
    describe,
)

SAMPLES: list[Error] = [
    InvalidArgument("a value"),
    InvalidType("a type"),
    ConnectError("unreachable"),
    ServerError("refused", 1, "rejected"),
    RequestError("lost"),
    InternalConsistencyError("shut down"),
    MoqError(13, "no track"),
    SessionError(7, "bye", local=True),
    SubscribeError("a broadcast"),
    NotAnnounced("never"),
    Closed("taken back"),
    SessionClosed(SessionError(None, "lost")),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_one_base_catches_everything_and_copies_are_alike(error: Error) -> None:
    assert isinstance(error, Error)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        if not isinstance(error, SessionClosed):
            assert vars(twin) == vars(error)


def test_every_exception_is_among_the_samples() -> None:
    public = {getattr(errors, name) for name in errors.__all__}
    assert {kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)} == {
        Error,
        *(type(error) for error in SAMPLES),
    }


def test_a_copy_has_no_traceback() -> None:
    original = MoqError(13)
    with pytest.raises(MoqError) as caught:
        raise original
    assert caught.value.__traceback__ is not None
    assert copy.copy(original).__traceback__ is None


def test_bad_arguments_are_caught_the_usual_way_too() -> None:
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(InvalidType, TypeError)


def test_subscribing_fails_in_one_of_three_ways() -> None:
    assert all(issubclass(kind, SubscribeError) for kind in (NotAnnounced, Closed, SessionClosed))


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_is_described(code: ErrorCode) -> None:
    assert not describe(code).startswith("code ")
    assert str(MoqError(code)) == f"{describe(code)} (code {int(code)})"


def test_other_codes_are_described_by_their_number() -> None:
    assert describe(63) == "code 63"
    assert describe(APPLICATION_CODE_BASE) == "application code 0"
    assert describe(APPLICATION_CODE_BASE + 5) == "application code 5"


def test_later_numbers_are_understood() -> None:
    assert canonical(51) == ErrorCode.NOT_FOUND
    assert canonical(56) == ErrorCode.FRAME_TOO_LARGE
    assert canonical(13) == 13
    assert canonical(99) == 99


def test_moq_error_says_what_and_why() -> None:
    error = MoqError(ErrorCode.NOT_FOUND, "no track 'a'")
    assert str(error) == "no track 'a' (not found, code 13)"
    assert error.code == 13
    assert type(error.code) is int


def test_server_error_has_code_and_reason() -> None:
    error = ServerError("refused: rejected", 1, "rejected")
    assert (error.code, error.reason, str(error)) == (1, "rejected", "refused: rejected")
    assert ServerError("refused").code is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SessionError(0, "bye", local=True), "session closed by this side: code 0, bye"),
        (SessionError(7), "session closed by the peer: code 7"),
        (SessionError(None, "timed out"), "session closed without a close code, timed out"),
    ],
)
def test_session_error_says_who_and_why(error: SessionError, text: str) -> None:
    assert str(error) == text
    closed = SessionClosed(error)
    assert closed.error is error
    assert (closed.code, closed.reason, str(closed)) == (error.code, error.reason, text)

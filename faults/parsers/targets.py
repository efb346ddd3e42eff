"""What is fed: the decoders of streams, the bodies of messages, and the texts that carry a peer's words.

A target takes an input in pieces and tells what came of it, in a form that can be compared. It
raises nothing, or else has a defect. Decoders and messages are found by their names, so that a new
one is fed as soon as it is there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iroh_moq.address import parse_remote
from iroh_moq.errors import InvalidArgument, MoqError
from iroh_moq.lite import decoders, messages
from iroh_moq.lite.wire import MAX_MESSAGE_SIZE, peek_varint
from iroh_moq.model import normalize_path
from iroh_moq.transport.iroh_errors import session_error, transport_error

__all__ = ["Outcome", "Target", "targets"]

_HEADER = 64
"""What a decoder may keep beside the body of an unfinished message: its type and size."""


class Broken(Exception):
    """A parser did what it must not do, without raising."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an input: the events (or the value), and the error."""

    events: tuple[Any, ...]
    code: int | None
    text: str

    @property
    def signature(self) -> tuple[Any, ...]:
        """What kind of outcome it is: inputs that lead to a new kind are worth mutating further."""
        kinds = tuple(type(event).__name__ for event in self.events[:6])
        return kinds, len(self.events) > 6, self.code, re.sub(r"\d+|'.*'", "", self.text)[:80]


@dataclass(frozen=True, slots=True)
class Target:
    """A parser by name, and how to feed it."""

    name: str
    feed: Callable[[list[bytes]], Outcome]
    split: bool
    """Whether the outcome must be the same however the bytes are split."""


def targets() -> list[Target]:
    """All of them."""
    found = [
        Target(name, _decoder(kind), split=True)
        for name in decoders.__all__
        if inspect.isclass(kind := getattr(decoders, name)) and hasattr(kind, "feed")
    ]
    found += [
        Target(f"message {name}", _message(kind), split=False)
        for name in messages.__all__
        if hasattr(kind := getattr(messages, name), "decode")
    ]
    return [
        *found,
        Target("text remote", _text(parse_remote, "surrogateescape"), split=False),
        Target("text path", _text(normalize_path, "surrogateescape"), split=False),
        Target("text close", _text(session_error, "replace"), split=False),
        Target("text failure", _text(lambda text: transport_error(text, None), "replace"), split=False),
    ]


def _decoder(kind: Any) -> Callable[[list[bytes]], Outcome]:
    def feed(pieces: list[bytes]) -> Outcome:
        decoder = kind()
        events: list[Any] = []
        size = 0
        for piece in pieces:
            failed = decoder.error is not None
            new = decoder.feed(piece)
            if failed and new:
                raise Broken("events after an error")
            events += new
            size += len(piece)
            buffered = decoder.buffered
            # A frame may be larger than a message, but no more is kept than has come.
            if buffered < 0 or buffered > size or (not hasattr(decoder, "group") and buffered > _MOST):
                raise Broken(f"{buffered} bytes are kept of {size}")
        decoder.finish()
        error: MoqError | None = decoder.error
        group = getattr(decoder, "group", None)
        if group is not None:
            events.insert(0, group)
        return Outcome(tuple(events), None if error is None else error.code, "" if error is None else str(error))

    return feed


_MOST = MAX_MESSAGE_SIZE + _HEADER


def _message(kind: Any) -> Callable[[list[bytes]], Outcome]:
    def feed(pieces: list[bytes]) -> Outcome:
        try:
            message = kind.decode(b"".join(pieces))
        except MoqError as error:
            return Outcome((), error.code, str(error))
        # What could be read can be written, and is the same when it is read again.
        encoded = message.encode()
        body = _body(kind, encoded)
        if kind.decode(body) != message:
            raise Broken(f"{message} became {kind.decode(body)}")
        return Outcome((message,), None, "")

    return feed


def _body(kind: Any, encoded: bytes) -> bytes:
    """The body of an encoded message: what stands before it is its type, if it has one, and its size."""
    for start in range(1, min(len(encoded), 12) + 1):
        for prefix in (0, 1):
            found = peek_varint(encoded, prefix)
            if found is not None and found[1] == start and found[0] == len(encoded) - start:
                return encoded[start:]
    raise Broken(f"{encoded!r} has no size that fits")


def _text(parse: Callable[[str], object], errors: str) -> Callable[[list[bytes]], Outcome]:
    def feed(pieces: list[bytes]) -> Outcome:
        try:
            value = parse(b"".join(pieces).decode(errors=errors))
        except InvalidArgument as error:
            return Outcome((), None, str(error))
        # What it says is shown to people, whatever it is.
        str(value)
        return Outcome((value,), None, "")

    return feed

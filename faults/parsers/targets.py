"""What is fed: the decoders of streams, the bodies of messages, and the texts that carry a peer's words.

A target takes an input in pieces and tells what came of it, in a form that can be compared. It
raises nothing, or else has a defect. Decoders and messages are found by their names, so that a new
one is fed as soon as it is there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from iroh_moq.address import parse_remote
from iroh_moq.errors import InvalidArgument, MoqError
from iroh_moq.lite import decoders, messages
from iroh_moq.lite.version import VERSIONS, Version
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
    version: str = ""
    """The version of the protocol that it is for, if not for all."""

    @property
    def corpus(self) -> str:
        """What its inputs are kept under: versions share them."""
        return self.name.removesuffix(f" {self.version}") if self.version else self.name


def targets() -> list[Target]:
    """All of them."""
    found = [
        _target(name, _decoder(kind, version), version, split=True)
        for name in decoders.__all__
        if inspect.isclass(kind := getattr(decoders, name)) and hasattr(kind, "feed")
        for version in _versions(kind)
        if "Group" not in name or version is None or version.timestamps == name.startswith("Timed")
    ]
    found += [
        _target(f"message {name}", _message(kind, version), version, split=False)
        for name in messages.__all__
        if hasattr(kind := getattr(messages, name), "decode")
        for version in _versions(kind.decode)
    ]
    return [
        *found,
        Target("text remote", _text(parse_remote, "surrogateescape"), split=False),
        Target("text path", _text(normalize_path, "surrogateescape"), split=False),
        Target("text close", _text(session_error, "replace"), split=False),
        Target("text failure", _text(lambda text: transport_error(text, None), "replace"), split=False),
    ]


def _versions(parser: Any) -> Sequence[Version | None]:
    """Those that a parser tells from each other; None for one that is for all."""
    return VERSIONS if "version" in inspect.signature(parser).parameters else (None,)


def _target(name: str, feed: Callable[[list[bytes]], Outcome], version: Version | None, *, split: bool) -> Target:
    if version is None:
        return Target(name, feed, split)
    return Target(f"{name} {version.name}", feed, split, version.name)


def _decoder(kind: Any, version: Version | None) -> Callable[[list[bytes]], Outcome]:
    def feed(pieces: list[bytes]) -> Outcome:
        decoder = kind() if version is None else kind(version)
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


def _message(kind: Any, version: Version | None) -> Callable[[list[bytes]], Outcome]:
    decoded_by = () if version is None else (version,)
    encoded_by: tuple[Version, ...] = ()
    if "version" in inspect.signature(kind.encode).parameters:
        # Where only the type before a message depends on the version, any that has the message will do.
        having = VERSIONS[-1] if kind is messages.SubscribeOk else VERSIONS[0]
        encoded_by = (version or having,)

    def feed(pieces: list[bytes]) -> Outcome:
        try:
            message = kind.decode(b"".join(pieces), *decoded_by)
        except MoqError as error:
            return Outcome((), error.code, str(error))
        # What could be read can be written, and is the same when it is read again.
        encoded = message.encode(*encoded_by)
        body = encoded if kind is messages.Datagram else _body(kind, encoded)
        if kind.decode(body, *decoded_by) != message:
            raise Broken(f"{message} became {kind.decode(body, *decoded_by)}")
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

"""From the bytes of a stream, in pieces of any size, to what they say: bytes in, events out.

One decoder per kind of stream. `feed` returns the events that became whole, and `finish` says that
the stream has ended. Neither raises: bytes that mean nothing, or an end in the middle of something,
set `error`, to a MoqError with the code that the stream's reset should carry (5 for what means
nothing, 10 for an unknown stream, 14 for a frame cut short, 16 for a message out of place, 27 for
what is too large). So the events before the fault come out the same however the bytes are split.
After an error, what is fed is ignored.

A decoder keeps at most one unfinished message (up to `MAX_MESSAGE_SIZE`, unless it is told another
bound) or frame (up to `MAX_FRAME_SIZE`, likewise), and only as much of that as has really come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import ErrorCode, MoqError
from ..extension import is_turned_off
from ..model.group import MAX_FRAME_SIZE
from ..model.info import MAX_TIME
from ..transport import Received
from .messages import (
    REPLIES,
    Announce,
    AnnounceOk,
    AnnounceRequest,
    Fetch,
    Goaway,
    Group,
    Probe,
    Setup,
    Subscribe,
    SubscribeReply,
    SubscribeUpdate,
    TrackReply,
    TrackRequest,
)
from .version import BiType, UniType, Version
from .wire import MAX_MESSAGE_SIZE, malformed, peek_varint, unzigzag

__all__ = [
    "AnnounceDecoder",
    "GroupDecoder",
    "ProbeDecoder",
    "ProbeRequest",
    "Request",
    "RequestDecoder",
    "SubscribeReplyDecoder",
    "TimedGroupDecoder",
    "TrackReplyDecoder",
    "group_decoder",
]

try:
    from . import _frames as native
except ImportError:
    native = None  # type: ignore[assignment]
if is_turned_off():
    native = None  # type: ignore[assignment]

Event = TypeVar("Event")


class ProbeRequest:
    """A subscriber asks for reports of the rate; the request has no body."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProbeRequest)

    def __hash__(self) -> int:
        return hash(ProbeRequest)


Request = AnnounceRequest | Subscribe | SubscribeUpdate | Fetch | ProbeRequest | Goaway | TrackRequest


class Decoder(Generic[Event]):
    """Collects bytes until `_next` can make an event of them."""

    def __init__(self, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        self._buffer = b""
        self._position = 0
        self._max_message_size = max_message_size
        self.error: MoqError | None = None

    @property
    def buffered(self) -> int:
        """How many bytes are kept of a message that is not yet whole."""
        return len(self._buffer) - self._position

    @property
    def is_halfway(self) -> bool:
        """Whether a message was begun, and more must follow."""
        return self.buffered > 0

    def feed(self, data: bytes) -> list[Event]:
        """Takes more of the stream and returns the events that became whole."""
        events: list[Event] = []
        if self.error is None:
            self._buffer = self._buffer[self._position :] + data
            self._position = 0
            try:
                while (event := self._next()) is not None:
                    events.append(event)
            except MoqError as error:
                self.error = error
                self._buffer, self._position = b"", 0
        return events

    def finish(self) -> None:
        """Says that the stream has ended."""
        if self.error is None and self.buffered:
            self.error = malformed("the stream ended inside a message")

    def _next(self) -> Event | None:
        raise AssertionError("each decoder has its own")

    def _varint(self) -> int | None:
        found = peek_varint(self._buffer, self._position)
        if found is None:
            return None
        value, self._position = found
        return value

    def _message(self) -> bytes | None:
        """The body of the next message, if all of it is there."""
        found = peek_varint(self._buffer, self._position)
        if found is None:
            return None
        size, start = found
        if size > self._max_message_size:
            raise MoqError(
                ErrorCode.FRAME_TOO_LARGE, f"a message of {size} bytes; at most {self._max_message_size} are allowed"
            )
        if start + size > len(self._buffer):
            return None
        self._position = start + size
        return self._buffer[start : self._position]


class RequestDecoder(Decoder[Request]):
    """What the opener of a bidirectional stream sends: a type, its request, then any updates."""

    def __init__(self, version: Version, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__(max_message_size)
        self._version = version
        self._type: int | None = None
        self._requested = False

    @property
    def is_halfway(self) -> bool:
        return not self._requested or super().is_halfway

    def finish(self) -> None:
        super().finish()
        if self.error is None and not self._requested:
            self.error = malformed("the stream ended before its request")

    def _next(self) -> Request | None:
        if self._type is None:
            self._type = self._varint()
            if self._type is None:
                return None
            if self._type not in self._version.requests:
                raise MoqError(
                    ErrorCode.UNEXPECTED_STREAM, f"a bidirectional stream of type {self._type} in {self._version.name}"
                )
            if self._type == BiType.PROBE:
                self._requested = True
                return ProbeRequest()
        body = self._message()
        if body is None:
            return None
        if not self._requested:
            self._requested = True
            if self._type == BiType.ANNOUNCE:
                return AnnounceRequest.decode(body, self._version)
            return _REQUESTS[self._type](body)
        if self._type != BiType.SUBSCRIBE:
            raise MoqError(ErrorCode.UNEXPECTED_MESSAGE, f"a second message on a {BiType(self._type).name} stream")
        return SubscribeUpdate.decode(body)


_REQUESTS: dict[int, Callable[[bytes], Request]] = {
    BiType.SUBSCRIBE: Subscribe.decode,
    BiType.FETCH: Fetch.decode,
    BiType.GOAWAY: Goaway.decode,
    BiType.TRACK: TrackRequest.decode,
}


class AnnounceDecoder(Decoder[Announce | AnnounceOk]):
    """What a publisher replies on an ANNOUNCE stream."""

    def __init__(self, version: Version, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__(max_message_size)
        self._version = version
        self._welcome = version.announce_ok

    def _next(self) -> Announce | AnnounceOk | None:
        body = self._message()
        if body is None:
            return None
        if self._welcome:
            self._welcome = False
            return AnnounceOk.decode(body)
        return Announce.decode(body, self._version)


class ProbeDecoder(Decoder[Probe]):
    """What a publisher replies on a PROBE stream."""

    def __init__(self, version: Version, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__(max_message_size)
        self._version = version

    def _next(self) -> Probe | None:
        body = self._message()
        return None if body is None else Probe.decode(body, self._version)


class TrackReplyDecoder(Decoder[TrackReply]):
    """What a publisher replies on a TRACK stream: one message."""

    def __init__(self, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__(max_message_size)
        self._replied = False

    def finish(self) -> None:
        super().finish()
        if self.error is None and not self._replied:
            self.error = malformed("the stream ended before its reply")

    def _next(self) -> TrackReply | None:
        body = self._message()
        if body is None:
            return None
        if self._replied:
            raise MoqError(ErrorCode.UNEXPECTED_MESSAGE, "a second reply on a TRACK stream")
        self._replied = True
        return TrackReply.decode(body)


class SubscribeReplyDecoder(Decoder[SubscribeReply]):
    """What a publisher replies on a SUBSCRIBE stream: messages, each with its number before it."""

    def __init__(self, version: Version, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__(max_message_size)
        self._version = version

    def _next(self) -> SubscribeReply | None:
        start = self._position
        number = self._varint()
        if number is None:
            return None
        if number >= len(self._version.replies):
            raise malformed(f"a reply of unknown type {number} on a SUBSCRIBE stream")
        body = self._message()
        if body is None:
            self._position = start
            return None
        return REPLIES[self._version.replies[number]](body)


_LARGE = 16 * 1024
"""Bytes from which a frame is cut straight from the piece in which it came, and a piece kept as it is."""


class GroupDecoder:
    """What a unidirectional stream carries: a type, the group's header, then frames.

    `group` is None until the header has come, unless it is given, as for a stream of nothing but
    frames. A frame that comes in one piece is cut from it with one copy, and so is one whose pieces
    are large. Small pieces are gathered, so that however small they are, they take no more than
    their bytes.
    """

    __slots__ = (
        "_header",
        "_max_frame_size",
        "_max_message_size",
        "_missing",
        "_pieces",
        "_rest",
        "_size",
        "_small",
        "_version",
        "error",
        "group",
        "setup",
        "times",
    )

    def __init__(
        self,
        version: Version,
        group: Group | None = None,
        max_frame_size: int = MAX_FRAME_SIZE,
        max_message_size: int = MAX_MESSAGE_SIZE,
    ) -> None:
        self.group: Group | None = group
        self.setup: Setup | None = None
        """The stream is no group's, but says what the peer can do."""
        self.error: MoqError | None = None
        self.times: list[int] | None = None
        """The timestamps of the frames that `feed` has returned last, or None while all have been 0."""
        self._version = version
        self._header: _HeaderDecoder | None = None  # while it comes in pieces
        self._max_frame_size = max_frame_size
        self._max_message_size = max_message_size
        self._rest = b""  # the beginning of a frame's size
        self._size = 0  # of the frame that is not yet whole
        self._missing = 0  # of its bytes
        # Of those that are there: the large ones, in their order, and the small ones that came last.
        self._pieces: list[Received | bytearray] | None = None
        self._small: bytearray | None = None

    @property
    def buffered(self) -> int:
        """How many bytes are kept of the header or of a frame that is not yet whole."""
        header = 0 if self._header is None else self._header.buffered
        return header + self._size - self._missing + len(self._rest)

    def feed(self, data: Received) -> list[bytes]:
        """Takes more of the stream and returns the frames that became whole."""
        if self.error is not None:
            return []
        position = 0
        if self.group is None:
            header = _whole_header(data) if self._header is None else None
            if header is not None:
                self.group, position = header
            else:
                data = self._header_piece(data)
                if self.group is None:
                    return []
        frames: list[bytes] = []
        if self._missing:
            part = data[: self._missing]
            self._gather(part)
            if self._missing:
                return frames
            frames.append(self._whole())
            position = len(part)
        if self._rest:
            data, self._rest = self._rest + bytes(data), b""
        if type(data) is not bytes:
            position = self._cut_large(data, position, frames)
            data, position = bytes(data[position:]), 0
        if position < len(data):
            self._cut(data, position, frames)
        return frames

    def _cut(self, data: bytes, position: int, frames: list[bytes]) -> None:
        """Cuts frames as far as they are whole, and begins the next."""
        if native is not None:
            # As far as there is nothing special.
            position = native.cut(data, position, self._max_frame_size, frames)
        end = len(data)
        while position < end:
            size, start = data[position], position + 1
            if size >= 0x40:
                found = peek_varint(data, position)
                if found is None:
                    self._rest = data[position:]
                    break
                size, start = found
            position = start + size
            if position <= end and size <= self._max_frame_size:
                frames.append(data[start:position])
            elif not self._begin(size, data[start:]):
                break

    def _header_piece(self, data: Received) -> bytes:
        """Takes in a piece of the header; what comes after it, once it is whole."""
        if self._header is None:
            self._header = _HeaderDecoder(self._version, self._max_message_size)
        headers = self._header.feed(bytes(data))
        self.error = self._header.error
        if not headers:
            return b""
        header = headers[0]
        if isinstance(header, Setup):
            self.setup = header
            return b""
        self.group, rest, self._header = header, self._header.rest(), None
        return rest

    def _cut_large(self, data: Received, position: int, frames: list[bytes]) -> int:
        """Cuts large frames straight from a view, up to the first that is not; where that begins."""
        while (found := peek_varint(data, position)) is not None and found[0] >= _LARGE:
            size, start = found
            position = start + size
            if position <= len(data) and size <= self._max_frame_size:
                frames.append(bytes(data[start:position]))
            else:
                part = data[start:]
                # A view keeps alive all that came with it, which counts as much as the part.
                self._begin(size, part if 2 * len(part) >= len(data) else bytes(part))
                return len(data)
        return position

    def _begin(self, size: int, part: Received) -> bool:
        """A frame of which only a part is there; whether it may be so large."""
        if size > self._max_frame_size:
            self.error = MoqError(
                ErrorCode.FRAME_TOO_LARGE, f"a frame of {size} bytes; at most {self._max_frame_size} are allowed"
            )
            return False
        self._size = self._missing = size
        self._gather(part)
        return True

    def _gather(self, part: Received) -> None:
        self._missing -= len(part)
        if len(part) < _LARGE:
            if self._small is None:
                self._small = bytearray()
            self._small += part
            return
        if self._pieces is None:
            self._pieces = []
        if self._small:
            self._pieces.append(self._small)
            self._small = None
        self._pieces.append(part)

    def _whole(self) -> bytes:
        """The frame that was gathered."""
        pieces, small = self._pieces, self._small or b""
        self._pieces, self._small, self._size = None, None, 0
        return bytes(small) if pieces is None else b"".join((*pieces, small))

    def finish(self) -> None:
        """Says that the stream has ended."""
        if self.error is not None:
            return
        if self.group is None:
            if self.setup is None:
                self.error = malformed("the stream ended before its header")
        elif self._missing:
            self.error = MoqError(
                ErrorCode.WRONG_SIZE, f"the stream ended {self._missing} bytes before the end of a frame"
            )
        elif self._rest:
            self.error = MoqError(ErrorCode.WRONG_SIZE, "the stream ended inside a frame's size")


def _whole_header(data: Received) -> tuple[Group, int] | None:
    """The header that nearly every stream begins with: short, and all in one piece; and where it ends."""
    if len(data) > 64 and data[0] == UniType.GROUP and data[1] < 0x20:
        subscribe = peek_varint(data, 2)
        sequence = peek_varint(data, subscribe[1]) if subscribe else None
        if subscribe and sequence and sequence[1] == 2 + data[1]:
            return Group(subscribe[0], sequence[0]), sequence[1]
    return None


class _HeaderDecoder(Decoder[Group | Setup]):
    """The beginning of a unidirectional stream, up to the first frame: one event, then the rest.

    What is no group has no rest.
    """

    def __init__(self, version: Version, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__(max_message_size)
        self._version = version
        self._type: int | None = None
        self._done = False

    def rest(self) -> bytes:
        return self._buffer[self._position :]

    def _next(self) -> Group | Setup | None:
        if self._done:
            if self._type != UniType.GROUP and self.buffered:
                raise MoqError(ErrorCode.UNEXPECTED_MESSAGE, "a second message on a SETUP stream")
            return None
        if self._type is None:
            self._type = self._varint()
            if self._type is None:
                return None
            if self._type not in self._version.streams:
                raise MoqError(
                    ErrorCode.UNEXPECTED_STREAM, f"a unidirectional stream of type {self._type} in {self._version.name}"
                )
        body = self._message()
        if body is None:
            return None
        self._done = True
        return Group.decode(body) if self._type == UniType.GROUP else Setup.decode(body)


class TimedGroupDecoder(GroupDecoder):
    """The same, of frames with a timestamp each: its difference from the one before comes first."""

    __slots__ = ("_last", "_stamped", "_times")

    def __init__(
        self,
        version: Version,
        group: Group | None = None,
        max_frame_size: int = MAX_FRAME_SIZE,
        max_message_size: int = MAX_MESSAGE_SIZE,
    ) -> None:
        super().__init__(version, group, max_frame_size, max_message_size)
        self._last = 0
        self._stamped = False
        self._times: list[int] = []

    def feed(self, data: Received) -> list[bytes]:
        self._times = times = [self._last] if self._missing else []
        frames = super().feed(data)
        if not frames:
            return frames
        if not self._stamped and any(times):
            self._stamped = True
        self.times = times if self._stamped else None
        return frames

    def _cut(self, data: bytes, position: int, frames: list[bytes]) -> None:
        end, times, last = len(data), self._times, self._last
        if native is not None:
            position, last = native.cut_timed(data, position, self._max_frame_size, last, MAX_TIME, frames, times)
        while position < end:
            difference, middle = data[position], position + 1
            size, start = (data[middle], middle + 1) if middle < end else (0x40, 0)
            if difference >= 0x40 or size >= 0x40:
                found = self._peek(data, position)
                if found is None:
                    self._rest = data[position:]
                    break
                difference, size, start = found
            if difference:
                last += unzigzag(difference)
                if not 0 <= last <= MAX_TIME:
                    self.error = malformed(f"a frame's timestamp is {last}")
                    break
            position = start + size
            if position <= end and size <= self._max_frame_size:
                frames.append(data[start:position])
                times.append(last)
            elif not self._begin(size, data[start:]):
                break
        self._last = last

    def _cut_large(self, data: Received, position: int, frames: list[bytes]) -> int:
        while (found := self._peek(data, position)) is not None and found[1] >= _LARGE:
            difference, size, start = found
            last = self._last + unzigzag(difference)
            if not 0 <= last <= MAX_TIME:
                # Left for `_cut` to find.
                break
            self._last = last
            position = start + size
            if position <= len(data) and size <= self._max_frame_size:
                frames.append(bytes(data[start:position]))
                self._times.append(last)
            else:
                self._begin(size, data[start:])
                return len(data)
        return position

    @staticmethod
    def _peek(data: Received, position: int) -> tuple[int, int, int] | None:
        """The difference, the size, and where the frame begins, if all of that is there."""
        difference = peek_varint(data, position)
        size = None if difference is None else peek_varint(data, difference[1])
        return None if difference is None or size is None else (difference[0], *size)


def group_decoder(
    version: Version,
    group: Group | None = None,
    max_frame_size: int = MAX_FRAME_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
) -> GroupDecoder:
    """The decoder for the frames of a version, with the header before them unless the group is given."""
    kind = TimedGroupDecoder if version.timestamps else GroupDecoder
    return kind(version, group, max_frame_size, max_message_size)

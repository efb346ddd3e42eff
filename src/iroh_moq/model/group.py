"""Groups: ordered frames that are of use only together, written once and read by many.

A producer appends frames; each consumer reads from the first one at its own pace. Both ends share
one `GroupState`. A frame is never copied: every consumer gets the bytes object that was written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from copy import copy
from types import TracebackType
from typing import Protocol

from ..aio import Signal
from ..errors import Error, ErrorCode, InvalidType, MoqError
from .checks import check_code, check_int
from .info import TimedFrame, TrackInfo, check_timestamp
from .unread import Unread

__all__ = [
    "FRAME_OVERHEAD",
    "GROUP_OVERHEAD",
    "MAX_FRAME_SIZE",
    "GroupConsumer",
    "GroupProducer",
    "GroupState",
    "check_frame",
]

MAX_FRAME_SIZE = 32 * 1024 * 1024
"""The largest frame, in bytes, that can be written or is accepted from a peer."""

GROUP_OVERHEAD = 512
FRAME_OVERHEAD = 64
"""What a group and a frame cost beside their bytes, so that empty ones are bounded as well."""

_CLOSED = -1
"""The index of a reader that wants no more: no frame is there, so every read looks for the reason."""


class Owner(Protocol):
    """What a group needs of its track."""

    progress: Signal
    unread: Unread
    info: TrackInfo | None

    async def known(self) -> TrackInfo:
        """The track's properties, once they are known."""
        raise AssertionError

    def add_cost(self, group: GroupState, cost: int) -> None:
        """Counts bytes against the cache; the group's unread bytes may have changed as well."""

    def awaited(self, group: GroupState) -> bool:
        """Whether a reader has yet to come to the group."""

    def backlog_through(self, group: GroupState) -> int:
        """Bytes that slow readers have not read, in this group and those before it."""


class GroupState:
    """What a group's producer and consumers share.

    ``size`` counts every byte ever written, the trimmed ones included, so that a reader's backlog
    is a subtraction. ``frames`` holds what is still kept; ``trimmed`` frames before it are gone.
    """

    __slots__ = (
        "arrival",
        "beheaded",
        "changed",
        "cost",
        "created",
        "cursors",
        "early",
        "encoded",
        "error",
        "finished",
        "frames",
        "overtook",
        "owner",
        "progress",
        "sequence",
        "size",
        "superseded",
        "time",
        "times",
        "trimmed",
        "unread",
    )

    def __init__(
        self,
        sequence: int,
        arrival: int,
        owner: Owner,
    ) -> None:
        self.sequence = sequence
        self.arrival = arrival
        """The group's position in the track's log of arrivals."""
        self.frames: list[bytes] = []
        self.times: list[int | None] | None = None
        """The timestamps of `frames`, from the first on that has one of its own."""
        self.time: int | None = None
        """The timestamp of every frame until then."""
        self.trimmed = 0
        self.size = 0
        self.cost = GROUP_OVERHEAD
        self.beheaded = False
        """Whether it has lost its beginning to make room for newer groups: who has not begun it never will."""
        self.finished = False
        self.error: Error | None = None
        self.created = time.monotonic()
        self.superseded: float | None = None
        """When a newer group appeared; a group's age counts from here."""
        self.encoded: tuple[int, int, int, bytes] | None = None
        """Room for whoever sends the group to several peers: some of its frames (the index of the first, how
        many, and the last timestamp or -1 for none at all) in the form in which they travel."""
        self.early = False
        """Whether an older group may still be on its way (see `TrackState.settle`)."""
        self.overtook = False
        """Whether it ever was early, so that older ones may have come after it."""
        self.changed = Signal()
        self.owner = owner
        self.progress = owner.progress
        """Some reader of the track has moved on; one signal for all of the track's groups."""
        self.cursors: set[Cursor] = set()
        self.unread = 0
        """The backlog as `Unread` has counted it last."""

    @property
    def closed(self) -> bool:
        return self.finished or self.error is not None

    def time_of(self, timestamp: float) -> int:
        """A timestamp as it is kept."""
        info = self.owner.info
        assert info is not None, "whoever writes a track knows what it is"
        return check_timestamp(timestamp, info.timescale)

    def charge(self, cost: int) -> None:
        """Counts bytes, or fewer of them, against the cache."""
        self.owner.add_cost(self, cost)

    def write(self, frame: bytes, time: int | None = None) -> None:
        if time is not None or self.times is not None:
            self._stamp().append(time)
        self.frames.append(frame)
        size = len(frame)
        self.size += size
        self.owner.add_cost(self, size + FRAME_OVERHEAD)
        self.changed.notify()

    def _stamp(self) -> list[int | None]:
        if self.times is None:
            self.times = [self.time] * len(self.frames)
        return self.times

    def extend(self, frames: list[bytes], times: list[int] | None = None) -> None:
        """Writes several frames, as far as the cache keeps the group."""
        if times is not None:
            self._stamp().extend(times)
        size = sum(map(len, frames))
        self.frames += frames
        self.size += size
        self.owner.add_cost(self, size + FRAME_OVERHEAD * len(frames))
        self.changed.notify()

    def finish(self) -> None:
        if not self.closed:
            self.finished = True
            self.changed.notify()

    def fail(self, error: Error, *, discard: bool) -> None:
        """Ends the group with an error; ``discard`` throws away what is not yet read."""
        if discard:
            self.clear()
        if not self.closed or discard:
            self.error = self.error or error
            self.changed.notify()
            self.moved()

    def moved(self) -> None:
        """A reader has read on, or will not."""
        self.owner.unread.changed(self)
        self.progress.notify()

    def clear(self) -> None:
        self.encoded = None
        self._drop(len(self.frames))
        self.charge(GROUP_OVERHEAD - self.cost)

    def _drop(self, count: int) -> None:
        """Lets go of the oldest frames."""
        self.trimmed += count
        del self.frames[:count]
        if self.times is not None:
            del self.times[:count]

    def times_of(self, first: int, count: int) -> list[int | None] | None:
        """The timestamps of some frames that are kept, by the index of the first; None if none has one of its own."""
        if self.times is None:
            return None
        start = first - self.trimmed
        return self.times[start : start + count]

    def trim(self, amount: int) -> None:
        """Drops the oldest frames, at least ``amount`` bytes of them but never the newest."""
        freed = count = 0
        while freed < amount and count < len(self.frames) - 1:
            freed += len(self.frames[count]) + FRAME_OVERHEAD
            count += 1
        if count:
            self._drop(count)
            self.charge(-freed)

    def trim_passed(self) -> bool:
        """Drops the frames that every reader has passed, if all have begun; whether there were any."""
        if not self.cursors or self.owner.awaited(self):
            return False
        passed = min(cursor.index for cursor in list(self.cursors)) - self.trimmed
        if passed <= 0:
            return False
        freed = sum(len(frame) + FRAME_OVERHEAD for frame in self.frames[:passed])
        self._drop(passed)
        self.beheaded = True
        self.charge(-freed)
        return True

    def trim_read(self, amount: int) -> None:
        """Drops the frames that every reader has passed, once they are at least ``amount`` bytes."""
        passed = min((cursor.index for cursor in list(self.cursors)), default=0) - self.trimmed
        if passed > 0 and self.cost > amount:
            freed = sum(len(frame) + FRAME_OVERHEAD for frame in self.frames[:passed])
            if freed >= amount:
                self._drop(passed)
                self.charge(-freed)

    def complete_for(self, cursor: Cursor) -> bool:
        """Whether the reader has been given the whole group."""
        return self.finished and cursor.index >= self.trimmed + len(self.frames)

    @property
    def ready(self) -> bool:
        """Whether there is a frame at all yet, or the end."""
        return bool(self.frames) or self.closed

    def backlog(self) -> int:
        """Bytes that the slowest reader has not read, counting track consumers yet to come here."""
        if self.error is not None and not self.frames:
            # What was thrown away is not there to be read.
            return 0
        if self.owner.awaited(self):
            return self.size
        unread = 0
        for cursor in list(self.cursors):
            unread = max(unread, self.size - cursor.read)
        return unread

    def idle(self) -> bool:
        """Whether every reader has read everything there is, whatever its size."""
        if self.owner.awaited(self):
            return False
        end = self.trimmed + len(self.frames)
        return all(cursor.index >= end and not cursor.holding for cursor in list(self.cursors))

    async def drained(self, limit: int) -> None:
        while self.error is None and (self.owner.backlog_through(self) > limit or (limit == 0 and not self.idle())):
            await self.progress.wait()


class Cursor:
    """Where one reader is.

    ``index`` is the frame it gets next, ``read`` the bytes it is done with. A reader that is
    ``holding`` has been given frames that it is not done with yet.
    """

    __slots__ = ("held", "holding", "index", "read")

    def __init__(self) -> None:
        self.index = 0
        self.read = 0
        self.held = 0
        self.holding = False


class GroupProducer:
    """Writes one group.

    As a context manager it finishes the group at the end of the block, or aborts it with code 24
    (Dropped) if the block raises. One that is thrown away unfinished is aborted the same way, once
    its readers have read what was written.
    """

    __slots__ = ("_state",)

    def __init__(self, state: GroupState) -> None:
        self._state = state

    @property
    def sequence(self) -> int:
        """The number of the group in its track."""
        return self._state.sequence

    @property
    def is_closed(self) -> bool:
        """Whether the group is finished or aborted, so that nothing more can be written."""
        return self._state.closed

    def write_frame(self, data: bytes | bytearray | memoryview, timestamp: float | None = None) -> None:
        """Appends a frame. Never waits; ``bytes`` are kept as they are, other buffers are copied.

        Args:
            data: the frame.
            timestamp: when it is to be shown, in seconds on the application's own clock, which need not
                grow from one frame to the next. Peers with a protocol older than moq-lite-05 do not get it.

        Raises:
            InvalidType: ``data`` is not a bytes-like object, or ``timestamp`` no number.
            InvalidArgument: ``timestamp`` is negative or too large.
            MoqError: the group is finished, aborted or out of the cache, or the frame is over
                `MAX_FRAME_SIZE`.
        """
        frame = check_frame(data)
        state = self._state
        time = None if timestamp is None else state.time_of(timestamp)
        if state.finished or state.error is not None:
            raise _not_writable(state)
        state.write(frame, time)

    def finish(self) -> None:
        """Says that the group is complete. Finishing twice is allowed.

        Raises:
            MoqError: the group was aborted.
        """
        if self._state.error is not None and not self._state.finished:
            raise _not_writable(self._state)
        self._state.finish()

    def abort(self, code: int) -> None:
        """Ends the group with an error that every reader sees at once; unread frames are lost.

        A group that is already closed stays as it is.

        Raises:
            InvalidType, InvalidArgument: the code is not a number from 0 to 2**32 - 1.
        """
        check_code(code)
        if not self._state.closed:
            self._state.fail(MoqError(code, f"group {self.sequence} was aborted"), discard=True)

    async def drained(self, limit: int = 0) -> None:
        """Waits until no reader has more than ``limit`` bytes unread, in this group and those before.

        Readers are the track's consumers here and the subscriptions of peers, also those that have
        yet to come to this group; for a peer, read means handed to the connection. Without any
        reader it returns at once. This is how a producer waits for its slowest consumer. At the end,
        wait for `TrackProducer.unused` too: what the connection has may still be on its way.

        Raises:
            InvalidType, InvalidArgument: ``limit`` is not an int from 0 up.
        """
        state = self._state
        if check_int(limit, "limit", 0) == 0 or state.owner.backlog_through(state) > limit:
            await state.drained(limit)

    def __repr__(self) -> str:
        return f"<GroupProducer {self.sequence}>"

    def __enter__(self) -> GroupProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if not self._state.closed:
                self._state.finish()
        else:
            self.abort(ErrorCode.DROPPED)

    def __del__(self) -> None:
        state = self._state
        if not state.closed:
            state.error = MoqError(ErrorCode.DROPPED, f"group {state.sequence} was thrown away; call finish() on it")
            state.changed.notify_threadsafe()
            state.progress.notify_threadsafe()


class GroupConsumer:
    """Reads one group, from its first frame. An asynchronous iterator of frames."""

    __slots__ = ("_cursor", "_returned", "_state")

    def __init__(self, state: GroupState) -> None:
        self._state = state
        self._cursor = Cursor()
        self._returned: list[bytes] | None = None
        """Frames that a cancelled `read_all` gave back: they are read first."""
        state.cursors.add(self._cursor)

    @property
    def sequence(self) -> int:
        """The number of the group in its track."""
        return self._state.sequence

    async def read_frame(self) -> bytes | None:
        """The next frame, or None once the group is complete.

        Raises:
            MoqError: the group was aborted, evicted, or this reader fell too far behind.
            SessionClosed: the session it came over has ended.
        """
        if self._returned:
            return self._returned.pop(0)
        state, cursor = self._state, self._cursor
        while True:
            offset = cursor.index - state.trimmed
            if 0 <= offset < len(state.frames):
                frame = state.frames[offset]
                cursor.index += 1
                cursor.read += len(frame)
                state.moved()
                return frame
            if self._at_end(offset):
                return None
            await state.changed.wait()

    async def read_timed_frame(self) -> TimedFrame | None:
        """As :meth:`read_frame`, with the frame's timestamp.

        Over moq-lite-05 every frame has one: where its publisher gave none, that of the frame before it in
        its group, or 0. Older versions carry none, and a publisher may refuse to say how it counts.

        Raises:
            MoqError, SessionClosed: as :meth:`read_frame`.
        """
        state, cursor, refused = self._state, self._cursor, False
        while True:
            offset = cursor.index - state.trimmed
            if self._returned or 0 <= offset < len(state.frames):
                index = offset - len(self._returned or ())
                stamped = state.times is not None or state.time is not None
                if stamped and state.owner.info is None and not refused:
                    try:
                        await state.owner.known()
                    except Error:
                        refused = True
                    continue
                time = state.time if state.times is None else state.times[index] if index >= 0 else None
                frame = await self.read_frame()
                assert frame is not None
                info = state.owner.info
                return TimedFrame(frame, None if time is None or info is None else time / info.timescale)
            if self._at_end(offset):
                return None
            await state.changed.wait()

    async def timed_frames(self) -> AsyncGenerator[TimedFrame, None]:
        """The frames with their timestamps; see :meth:`read_timed_frame`."""
        while (frame := await self.read_timed_frame()) is not None:
            yield frame

    async def read_frames(self, limit: int = 64 * 1024) -> list[bytes]:
        """All frames that are here, at least one and about ``limit`` bytes; empty once complete.

        Raises:
            InvalidType, InvalidArgument: ``limit`` is not an int from 0 up.
            MoqError, SessionClosed: as :meth:`read_frame`.
        """
        frames = await self.hold_frames(check_int(limit, "limit", 0))
        self.release()
        return frames

    async def hold_frames(self, limit: int) -> list[bytes]:
        """As :meth:`read_frames`, but the frames count as unread until :meth:`release`.

        So a producer that waits for its slowest reader waits for what is on its way, too.
        """
        while (frames := self.hold_nowait(limit)) is None:
            await self._state.changed.wait()
        return frames

    def hold_nowait(self, limit: int) -> list[bytes] | None:
        """As :meth:`hold_frames`, or None where it would have to wait."""
        if self._returned:
            returned, self._returned = self._returned, None
            return returned
        state, cursor = self._state, self._cursor
        frames = state.frames
        offset = cursor.index - state.trimmed
        if 0 <= offset < len(frames):
            end, size = offset + 1, len(frames[offset])
            while end < len(frames) and size < limit:
                size += len(frames[end])
                end += 1
            cursor.index += end - offset
            cursor.held, cursor.holding = size, True
            return frames[offset:end]
        return [] if self._at_end(offset) else None

    @property
    def position(self) -> int:
        """How many frames were read or passed."""
        return self._cursor.index

    @property
    def held(self) -> int:
        """The bytes of the frames that the reader holds."""
        return self._cursor.held

    @property
    def is_read(self) -> bool:
        """Whether the group is complete and all of it was read."""
        return self._state.complete_for(self._cursor)

    def release(self) -> None:
        """Says that the reader is done with the frames it holds."""
        cursor = self._cursor
        if cursor.holding:
            cursor.read += cursor.held
            cursor.held, cursor.holding = 0, False
            self._state.moved()

    def _at_end(self, offset: int) -> bool:
        """Whether the group is complete and read; raises if it cannot be read on."""
        state = self._state
        if self._cursor.index == _CLOSED:
            raise MoqError(ErrorCode.CLOSED, f"this consumer of group {state.sequence} was closed")
        if state.complete_for(self._cursor):
            # Even if the cache has let the group go since.
            return True
        if state.error is not None:
            raise copy(state.error)
        if offset < 0:
            # It can never read on, so nobody need wait for it.
            state.cursors.discard(self._cursor)
            state.moved()
            raise MoqError(ErrorCode.LAGGED, f"group {state.sequence} outgrew the cache before it was read")
        return False

    async def read_all(self) -> bytes:
        """All the rest of the group as one bytes object, once it is complete.

        What it has read when it is cancelled is there for the next read.

        Raises:
            MoqError, SessionClosed: as :meth:`read_frame`.
        """
        parts: list[bytes] = []
        try:
            while frames := await self.read_frames():
                parts.extend(frames)
        except asyncio.CancelledError:
            self._returned = parts
            raise
        return b"".join(parts)

    def close(self) -> None:
        """Says that this reader wants no more, so that nobody waits for it.

        Its reads, those that wait as well, end with an error (code 25).
        """
        self._cursor.index = _CLOSED
        self._returned = None
        self._state.cursors.discard(self._cursor)
        self._state.changed.notify()
        self._state.moved()

    def __repr__(self) -> str:
        return f"<GroupConsumer {self.sequence}>"

    def __aiter__(self) -> GroupConsumer:
        return self

    async def __anext__(self) -> bytes:
        frame = await self.read_frame()
        if frame is None:
            raise StopAsyncIteration
        return frame

    def __del__(self) -> None:
        if self._cursor.index == _CLOSED:
            return
        state = self._state
        state.cursors.discard(self._cursor)
        state.owner.unread.changed(state)
        state.progress.notify_threadsafe()


def check_frame(data: bytes | bytearray | memoryview) -> bytes:
    """A frame as it is kept.

    Raises:
        InvalidType: it is not a bytes-like object.
        MoqError: it is over `MAX_FRAME_SIZE`.
    """
    frame = data if type(data) is bytes else _as_bytes(data)
    if len(frame) > MAX_FRAME_SIZE:
        raise MoqError(
            ErrorCode.FRAME_TOO_LARGE, f"a frame of {len(frame)} bytes; at most {MAX_FRAME_SIZE} are allowed"
        )
    return frame


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise InvalidType(f"a frame must be bytes, bytearray or memoryview, not {type(data).__name__}")


def _not_writable(state: GroupState) -> Error:
    if state.error is not None:
        return copy(state.error) if isinstance(state.error, MoqError) else MoqError(ErrorCode.CLOSED, str(state.error))
    return MoqError(ErrorCode.CLOSED, f"group {state.sequence} is finished, so nothing more can be written")

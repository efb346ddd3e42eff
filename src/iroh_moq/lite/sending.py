"""One group on its way to one subscriber.

What there is of a group goes out where the group is begun, without a task; only what comes later,
or what flow control holds up, needs one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from ..aio import TaskScope
from ..errors import Error, ErrorCode, MoqError
from ..metrics import Counters
from ..model.group import GroupConsumer
from ..transport import ConnectionLost, SendStream, TransportError
from .messages import group_header
from .policy import Refused
from .version import Version
from .wire import varint, zigzag

__all__ = ["FrameEncoder", "GroupSender", "blocked", "reset_code", "send_frames"]

_WRITE_SIZE = 256 * 1024
"""About how many bytes of frames go out in one write."""

_SHARED = 64 * 1024
"""Bytes of frames up to which several subscribers share what is encoded once; more is not worth the memory."""

_SMALL = 1200
_BURST = 256
_SMALL_PER_SECOND = 1500
"""Writes of fewer bytes than a packet holds are slowed down to this rate, after a burst, so that what is
written meanwhile goes out together. The QUIC library ends a connection with over 1,024 separate pieces of
one stream to put in order ("too many gaps"), and each small write can become one."""

_TURN = 1024 * 1024
"""Bytes that are sent in one turn of the loop at most, so that others have theirs."""

_frame_size = lru_cache(maxsize=4096)(varint)
"""Frames of one track tend to be of few sizes."""


@lru_cache(maxsize=4096)
def _same_time_and_size(size: int) -> bytes:
    return b"\0" + varint(size)


class GroupSender:
    """Writes a group to a stream of its own, and is done once all of it was acknowledged or given up."""

    __slots__ = (
        "_counters",
        "_done",
        "_encoder",
        "_flushed",
        "_group",
        "_pace",
        "_patience",
        "_stamp",
        "_stream",
        "commitment",
        "committed",
        "given_up",
        "state",
        "stuck",
        "task",
        "written",
    )

    def __init__(
        self,
        stream: SendStream,
        group: GroupConsumer,
        version: Version,
        done: Callable[[GroupSender], None],
        counters: Counters,
        patience: float,
    ) -> None:
        self.state = group._state
        self.task: asyncio.Task[None] | None = None
        self.written = False
        """Whether the connection has all of it."""
        self.given_up = False
        """Whether the peer does not get all of it, because of this side or because it did not want it."""
        self.stuck = False
        """Whether it was given up because the peer has read nothing of it."""
        self.commitment: int | None = None
        """Its place among the groups that were committed, or None for one that is still written."""
        self.committed = 0, 0
        """The level and the bytes with which it was."""
        self._stream = stream
        self._group = group
        self._encoder = FrameEncoder(group, version)
        self._done = done
        self._counters = counters
        self._flushed = True
        self._pace = float(_BURST)
        self._patience = patience
        self._stamp = 0.0

    def start(self, subscription: bytes, shared: bool, tasks: TaskScope) -> None:
        """Sends what there is, and starts a task for the rest if there may be more.

        Args:
            subscription: the id of the subscription, encoded.
            shared: whether others send the same group.
            tasks: what owns the task.
        """
        # The subscriber learns of the group at once, not with its first frame.
        self._send((group_header(subscription, self.state.sequence),), shared, tasks)

    def announce(self, subscription: bytes) -> bool:
        """Sends what the group is, and none of it yet; whether that went well."""
        try:
            self._flushed = self._stream.write_nowait(group_header(subscription, self.state.sequence))
        except Error as error:
            self._failed(error)
            return False
        return True

    def send(self, shared: bool, tasks: TaskScope) -> None:
        """Sends the group after it was announced."""
        if self._flushed:
            self._send((), shared, tasks)
        else:
            self.task = tasks.spawn(self._run(False, shared), "group")

    def _send(self, header: tuple[bytes, ...], shared: bool, tasks: TaskScope) -> None:
        try:
            frames = self._group.hold_nowait(_WRITE_SIZE)
            self._counters.groups_sent += 1
            if frames:
                self._counters.frames_sent += len(frames)
                self._counters.bytes_sent += self._group.held
            flushed = self._stream.write_nowait(*header, *self._encoder.encode(frames or (), shared))
            if flushed:
                self._group.release()
                if frames is not None and self._group.is_read:
                    self._finish()
                    return
        except Error as error:
            self._failed(error)
            return
        self.task = tasks.spawn(self._run(flushed, shared), "group")

    async def _run(self, flushed: bool, shared: bool) -> None:
        stream, group, counters, sent = self._stream, self._group, self._counters, 0
        try:
            if not flushed:
                await self._handed_over()
                group.release()
            while frames := await group.hold_frames(_WRITE_SIZE):
                if not stream.write_nowait(*self._encoder.encode(frames, shared)):
                    await self._handed_over()
                size = group.held
                group.release()
                counters.frames_sent += len(frames)
                counters.bytes_sent += size
                sent += size
                if size < _SMALL:
                    await self._slow_down()
                elif sent > _TURN:
                    sent = 0
                    await asyncio.sleep(0)
            self._finish()
        except Error as error:
            self._failed(error)

    async def _handed_over(self) -> None:
        """Waits until the connection has what was written, but not for ever."""
        timer = asyncio.get_running_loop().call_later(self._patience, self._give_up_stuck)
        try:
            await self._stream.flushed()
        finally:
            timer.cancel()

    def _give_up_stuck(self) -> None:
        self.stuck = True
        self.give_up(ErrorCode.TIMEOUT)

    async def _slow_down(self) -> None:
        """Waits a little if there were very many small writes, so that the next one has more to carry."""
        now = time.monotonic()
        self._pace = min(self._pace + (now - self._stamp) * _SMALL_PER_SECOND, _BURST) - 1
        self._stamp = now
        if self._pace < 0:
            await asyncio.sleep(-self._pace / _SMALL_PER_SECOND)

    def _finish(self) -> None:
        self.written = True
        self._group.close()
        self._stream.finish()
        # The track's end is told only after all its groups have arrived (see the subscriber).
        self._stream.when_over(partial(self._done, self))

    def _failed(self, error: Error) -> None:
        self.given_up = True
        if not isinstance(error, ConnectionLost):
            code = reset_code(error)
            self._stream.reset(code)
            self._counters.dropped_to_peer(code)
        self._group.close()
        self._done(self)

    def set_priority(self, priority: int) -> None:
        self._stream.set_priority(priority)

    def give_up(self, code: int) -> None:
        """Resets the stream with a code, even while a write on it is blocked."""
        if self.task is not None:
            self.task.cancel()
        self.given_up = True
        # Not left to the task, which never runs if it is cancelled before its first step.
        self._stream.reset(code)
        if not self.written or code != ErrorCode.CANCEL:
            self._counters.dropped_to_peer(code)
        self._group.close()
        self._done(self)


def reset_code(error: Error | None) -> int:
    """The code for a stream whose content ends with an error."""
    if isinstance(error, MoqError):
        return error.code
    # What we serve may end for a reason of this side, such as a relay's own session.
    return ErrorCode.CANCEL if error is None or isinstance(error, TransportError) else ErrorCode.DROPPED


class FrameEncoder:
    """Puts the frames of a group into the form in which they travel, in their order."""

    __slots__ = ("_group", "_time", "_timed")

    def __init__(self, group: GroupConsumer, version: Version) -> None:
        self._group = group
        self._timed = version.timestamps
        self._time = 0
        """The timestamp of the frame before."""

    def encode(self, frames: Sequence[bytes], shared: bool = False) -> Sequence[bytes]:
        """Frames that were just taken of the group; ``shared`` says whether others send the same ones."""
        if not frames:
            return ()
        if not shared or sum(map(len, frames)) > _SHARED:
            return self._parts(frames)
        state, first, count = self._group._state, self._group.position - len(frames), len(frames)
        kind = self._time if self._timed else -1
        memo = state.encoded
        if memo is None or memo[0] != first or memo[1] != count or memo[2] != kind:
            memo = state.encoded = first, count, kind, b"".join(self._parts(frames))
        elif self._timed:
            self._time = _last_time(self._group, count, self._time)
        return (memo[3],)

    def _parts(self, frames: Sequence[bytes]) -> list[bytes]:
        if not self._timed:
            return _parts(frames)
        count = len(frames)
        times = self._group._state.times_of(self._group.position - count, count)
        if times is None:
            return _timed_parts(frames)
        parts, last = [], self._time
        for frame, stamp in zip(frames, times, strict=True):
            if stamp is None or stamp == last:
                parts.append(_same_time_and_size(len(frame)))
            else:
                parts.append(varint(zigzag(stamp - last)) + _frame_size(len(frame)))
                last = stamp
            parts.append(frame)
        self._time = last
        return parts


def _last_time(group: GroupConsumer, count: int, before: int) -> int:
    """The timestamp of the last of so many frames that were just taken of a group."""
    times = group._state.times_of(group.position - count, count) or ()
    return next((stamp for stamp in reversed(times) if stamp is not None), before)


def _parts(frames: Sequence[bytes]) -> list[bytes]:
    parts: list[bytes] = []
    for frame in frames:
        parts.append(_frame_size(len(frame)))
        parts.append(frame)
    return parts


def _timed_parts(frames: Sequence[bytes]) -> list[bytes]:
    """Of frames none of which has a timestamp of its own."""
    parts: list[bytes] = []
    for frame in frames:
        parts.append(_same_time_and_size(len(frame)))
        parts.append(frame)
    return parts


def blocked(seconds: float) -> Refused:
    """The error for a peer that reads nothing for so long."""
    return Refused(ErrorCode.TIMEOUT, "blocked_seconds", f"nothing was read for {seconds:g} seconds")


async def send_frames(stream: SendStream, group: GroupConsumer, version: Version, patience: float) -> None:
    """Writes all frames of a group, as they come, to a stream of their own, and finishes that.

    Raises:
        MoqError: the peer has read nothing for ``patience`` seconds (Timeout), or the group has failed.
        TransportError: the stream or the connection is gone.
    """
    encoder = FrameEncoder(group, version)
    while frames := await group.hold_frames(_WRITE_SIZE):
        if not stream.write_nowait(*encoder.encode(frames)):
            try:
                async with asyncio.timeout(patience):
                    await stream.flushed()
            except TimeoutError:
                raise blocked(patience) from None
        group.release()
    stream.finish()

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
from .wire import varint

__all__ = ["GroupSender", "reset_code"]

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


class GroupSender:
    """Writes a group to a stream of its own, and is done once all of it was acknowledged or given up."""

    __slots__ = ("_counters", "_done", "_group", "_pace", "_stamp", "_stream", "state", "task", "written")

    def __init__(
        self, stream: SendStream, group: GroupConsumer, done: Callable[[GroupSender], None], counters: Counters
    ) -> None:
        self.state = group._state
        self.task: asyncio.Task[None] | None = None
        self.written = False
        """Whether the connection has all of it."""
        self._stream = stream
        self._group = group
        self._done = done
        self._counters = counters
        self._pace = float(_BURST)
        self._stamp = 0.0

    def start(self, subscription: bytes, shared: bool, tasks: TaskScope) -> None:
        """Sends what there is, and starts a task for the rest if there may be more.

        Args:
            subscription: the id of the subscription, encoded.
            shared: whether others send the same group.
            tasks: what owns the task.
        """
        header = group_header(subscription, self.state.sequence)
        try:
            frames = self._group.hold_nowait(_WRITE_SIZE)
            self._counters.groups_sent += 1
            if frames:
                self._counters.frames_sent += len(frames)
                self._counters.bytes_sent += self._group.held
            # The subscriber learns of the group at once, not with its first frame.
            flushed = self._stream.write_nowait(header, *self._encoded(frames or (), shared))
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
                await stream.flushed()
                group.release()
            while frames := await group.hold_frames(_WRITE_SIZE):
                if not stream.write_nowait(*self._encoded(frames, shared)):
                    await stream.flushed()
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

    async def _slow_down(self) -> None:
        """Waits a little if there were very many small writes, so that the next one has more to carry."""
        now = time.monotonic()
        self._pace = min(self._pace + (now - self._stamp) * _SMALL_PER_SECOND, _BURST) - 1
        self._stamp = now
        if self._pace < 0:
            await asyncio.sleep(-self._pace / _SMALL_PER_SECOND)

    def _encoded(self, frames: Sequence[bytes], shared: bool) -> Sequence[bytes]:
        """Frames as they travel: each after its size."""
        if shared and frames and sum(map(len, frames)) <= _SHARED:
            first, memo = self._group.position - len(frames), self.state.encoded
            if memo is None or memo[0] != first or memo[1] != len(frames):
                memo = self.state.encoded = first, len(frames), b"".join(_parts(frames))
            return (memo[2],)
        return _parts(frames)

    def _finish(self) -> None:
        self.written = True
        self._group.close()
        self._stream.finish()
        # The track's end is told only after all its groups have arrived (see the subscriber).
        self._stream.when_over(partial(self._done, self))

    def _failed(self, error: Error) -> None:
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


def _parts(frames: Sequence[bytes]) -> list[bytes]:
    parts: list[bytes] = []
    for frame in frames:
        parts.append(_frame_size(len(frame)))
        parts.append(frame)
    return parts

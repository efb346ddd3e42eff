"""One past group on its way here: a FETCH, from its request to its last frame."""

from __future__ import annotations

import logging
from copy import copy

from ..aio import Signal, while_wanted
from ..errors import Error, ErrorCode, MoqError, SessionClosed, canonical
from ..limits import Limits
from ..model.cache import Cache
from ..model.group import GroupConsumer
from ..model.track import TrackState
from ..transport import ConnectionLost, RecvStream, StreamReset, StreamStopped, Transport
from .decoders import group_decoder
from .messages import Fetch, Group
from .priority import CONTROL_PRIORITY
from .version import Version

__all__ = ["Fetching"]

logger = logging.getLogger("iroh_moq.lite.fetching")

_CACHE = Cache(max_bytes=1 << 30, max_age=float("inf"))
"""A fetch is bounded by leaving the rest with the connection, so nothing unread may leave its cache."""

_ROOM = 1024 * 1024
"""Bytes that are here and not read, beyond which the rest is left with the connection."""


class Fetching:
    """Reads the group into a track of its own, no faster than it is read there."""

    def __init__(self, transport: Transport, version: Version, request: Fetch, limits: Limits) -> None:
        self.track = TrackState(request.track, cache=_CACHE)
        self._transport = transport
        self._request = request
        self._decoder = group_decoder(version, Group(0, request.group), limits.frame_bytes)
        self._group = self.track.create_group(request.group)
        self._group.time = 0
        self._consumer: GroupConsumer | None = GroupConsumer(self._group)

    def is_wanted(self) -> bool:
        """Whether anybody who could read the group has not thrown it away; looked at whenever it has ``changed``."""
        return bool(self._group.cursors)

    @property
    def changed(self) -> Signal:
        return self._group.progress

    async def begun(self) -> GroupConsumer:
        """The group, as soon as any of it is here.

        Raises:
            Error: it cannot be had.
        """
        group, consumer = self._group, self._consumer
        assert consumer is not None
        # From here on the caller has the only one: where that is thrown away, nobody wants the group.
        self._consumer = None
        while not group.ready:
            await group.changed.wait()
        if group.error is not None and not group.frames:
            raise copy(group.error)
        return consumer

    async def run(self) -> None:
        """Fetches the group; ends with its last byte, or when nobody wants it any more."""
        try:
            send, recv = await self._transport.open_bi()
            try:
                send.set_priority(CONTROL_PRIORITY)
                await send.write(self._request.encode())
                read = await while_wanted(self._read(recv), self.is_wanted, self.changed)
                if read is None:
                    raise MoqError(ErrorCode.CANCEL, f"nobody wants {self._what()}")
                read.result()
            except BaseException as error:
                code = error.code if isinstance(error, MoqError) else ErrorCode.CANCEL
                send.reset(code)
                recv.stop(code)
                raise
            send.finish()
        except (StreamReset, StreamStopped) as error:
            self._fail(MoqError(canonical(error.code), self._what()))
        except ConnectionLost as error:
            self._fail(SessionClosed(error.error))
        except MoqError as error:
            logger.info("%s, of %s: %s", self._what(), self._transport.remote_id, error)
            self._fail(error)
        finally:
            lost = self._transport.close_error
            self._fail(MoqError(ErrorCode.CANCEL, self._what()) if lost is None else SessionClosed(lost))

    def _what(self) -> str:
        return f"group {self._request.group} of track {self._request.track!r} of {self._request.broadcast!r}"

    def _fail(self, error: Error) -> None:
        self._group.fail(error, discard=False)

    async def _read(self, recv: RecvStream) -> None:
        decoder, group = self._decoder, self._group
        while data := await recv.read():
            frames = decoder.feed(data)
            if frames:
                group.extend(frames, decoder.times)
            if decoder.error is not None:
                raise decoder.error
            group.trim_read(_ROOM // 2)
            while group.backlog() > _ROOM:
                await group.progress.wait()
                group.trim_read(_ROOM // 2)
        decoder.finish()
        if decoder.error is not None:
            raise decoder.error
        group.finish()

"""Reads the messages of a stream, a little at a time and with a bound on how long each may take."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from ..errors import ErrorCode
from ..limits import Limits
from ..transport import RecvStream
from .decoders import Decoder
from .policy import Refused

__all__ = ["MessageReader", "silent"]

_READ = 8 * 1024
"""Bytes that are looked at in one turn of the loop: some hundred messages of the usual size."""

Event = TypeVar("Event")


def silent(seconds: float) -> Refused:
    """The error for a message that was begun and has not ended in that time."""
    return Refused(ErrorCode.TIMEOUT, "message_seconds", f"a message was not complete after {seconds:g} seconds")


class MessageReader(Generic[Event]):
    """A stream as the messages on it."""

    __slots__ = ("_deadline", "_decoder", "_recv", "_seconds", "_yield")

    def __init__(self, recv: RecvStream, decoder: Decoder[Event], limits: Limits) -> None:
        self._recv = recv
        self._decoder = decoder
        self._seconds = limits.message_seconds
        self._deadline: float | None = None
        """When the message that was begun has to be there."""
        self._yield = False

    async def next(self) -> list[Event]:
        """The next messages, at least one; none at the end of the stream. Cancelling loses nothing.

        Raises:
            MoqError: the bytes after those that were returned mean nothing, or come too slowly (Timeout).
            TransportError: the stream or the connection is gone.
        """
        decoder = self._decoder
        while decoder.error is None:
            if self._yield:
                self._yield = False
                await asyncio.sleep(0)
            if data := await self._read():
                if events := decoder.feed(bytes(data)):
                    self._deadline = None
                    return events
            else:
                decoder.finish()
                if decoder.error is None:
                    return []
        raise decoder.error

    async def _read(self) -> bytes | memoryview:
        data = self._recv.read_nowait(_READ)
        if data is not None:
            self._yield = True
            return data
        if not self._decoder.is_halfway:
            return await self._recv.read(_READ)
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._recv.read(_READ)
        except TimeoutError:
            raise silent(self._seconds) from None

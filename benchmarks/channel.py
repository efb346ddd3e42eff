"""What the two processes of a measurement tell each other, beside the transfer that is measured.

JSON lines over a pair of sockets: where to dial, when to begin, how much was written. Messages of one kind
keep their order; kinds are independent of one another.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from .failed import PeerEnded

__all__ = ["Channel", "Message"]

Message = dict[str, Any]


class Channel:
    """One end."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queues: defaultdict[str, asyncio.Queue[Message | None]] = defaultdict(asyncio.Queue)
        self._handlers: dict[str, Callable[[Message], None]] = {}
        self._ended = False

    @classmethod
    @asynccontextmanager
    async def open(cls, end: socket.socket) -> AsyncIterator[Channel]:
        """Takes over one of a pair of sockets."""
        reader, writer = await asyncio.open_connection(sock=end)
        channel = cls(writer)
        reading = asyncio.create_task(channel._read(reader))
        try:
            yield channel
        finally:
            reading.cancel()
            writer.close()

    def tell(self, kind: str, **values: Any) -> None:
        """Sends a message."""
        self._writer.write(json.dumps({"kind": kind, **values}).encode() + b"\n")

    async def hear(self, kind: str) -> Message:
        """The next message of a kind.

        Raises:
            PeerEnded: the other process has ended.
        """
        queue = self._queues[kind]
        message = None if self._ended and queue.empty() else await queue.get()
        if message is None:
            raise PeerEnded
        return message

    def on(self, kind: str, handler: Callable[[Message], None]) -> None:
        """Hands messages of a kind to a function instead, as they come."""
        self._handlers[kind] = handler

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message: Message = json.loads(line)
            if handler := self._handlers.get(message["kind"]):
                handler(message)
            else:
                self._queues[message["kind"]].put_nowait(message)
        self._ended = True
        for queue in self._queues.values():
            queue.put_nowait(None)

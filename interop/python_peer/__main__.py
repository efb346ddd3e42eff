"""Runs the Python peer, driven over standard input and output, with the same commands as the Rust one.

Each line of input is one command, a JSON object: ``id`` is the caller's, ``do`` names the command, the rest are
its arguments. Commands run at the same time; each is answered by one line with the same ``id`` and either ``ok``
or ``error``. ``bind`` begins anew with another endpoint. The process ends when its input does.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any

from ..harness.lines import LIMIT
from .failures import Usage, describe
from .peer import Peer

_ON_PUBLISHING = {"publish", "unpublish", "add_track", "write", "datagrams", "finish", "abort", "used", "unused"}
_ON_SUBSCRIPTION = {"read", "read_datagrams", "update"}
_ON_PEER = {"dial", "accept", "close", "closed", "news", "stats", "subscribe", "unsubscribe", "fetch"}


class Program:
    """The commands as they come, and the peer that they are for."""

    def __init__(self) -> None:
        self._peer: Peer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Answers commands until the input ends."""
        reader = asyncio.StreamReader(limit=LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            task = asyncio.get_running_loop().create_task(self._answer(json.loads(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for task in self._tasks:
            task.cancel()
        if self._peer is not None:
            await self._peer.shutdown()

    async def _answer(self, request: dict[str, Any]) -> None:
        number = request.pop("id")
        try:
            answer = {"id": number, "ok": await self._carry_out(**request)}
        except Exception as error:
            # Whatever it is, the suite is told and decides; the peer goes on.
            answer = {"id": number, "error": describe(error)}
        print(json.dumps(answer), flush=True)

    async def _carry_out(self, do: str, **arguments: Any) -> Any:
        if do == "bind":
            before, self._peer = self._peer, None
            if before is not None:
                await before.shutdown()
            self._peer = await Peer.bind(**arguments)
            return self._peer.where()
        if self._peer is None:
            raise Usage("not bound yet")
        if do in _ON_PUBLISHING:
            act = getattr(self._peer.publishing, do)
        elif do in _ON_SUBSCRIPTION:
            act = getattr(self._peer.subscription(arguments.pop("subscription")), do)
        elif do in _ON_PEER:
            act = getattr(self._peer, do)
        else:
            raise Usage(f"no command {do}")
        result = act(**arguments)
        return await result if inspect.isawaitable(result) else result


if __name__ == "__main__":
    asyncio.run(Program().run())

"""What a peer has announced and taken back, in the order in which it was seen."""

from __future__ import annotations

import asyncio
from typing import Any

from iroh_moq import MoqSession

__all__ = ["Announcements"]


class Announcements:
    """Follows a session from its beginning."""

    def __init__(self, session: MoqSession) -> None:
        self._origin = session.origin_consumer()
        self._seen: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._ended = False

    async def follow(self) -> None:
        """Takes note of everything, until the session ends."""
        async for name, broadcast in self._origin:
            hops = broadcast.hops if broadcast is not None else 0
            async with self._changed:
                self._seen.append({"name": name, "active": broadcast is not None, "hops": hops})
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def wait(self, count: int) -> dict[str, Any]:
        """All of it, as soon as there are so many."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or len(self._seen) >= count)
            return {"news": list(self._seen)}

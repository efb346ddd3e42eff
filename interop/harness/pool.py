"""Running peers, kept from case to case: each case binds new endpoints in them."""

from __future__ import annotations

from .kinds import Kind
from .process import PeerProcess

__all__ = ["Pool"]


class Pool:
    """At most one process for each kind and role."""

    def __init__(self) -> None:
        self._running: dict[tuple[Kind, str], PeerProcess] = {}

    async def get(self, kind: Kind, role: str) -> PeerProcess:
        """The process for a role, a new one if there is none."""
        process = self._running.get((kind, role))
        if process is None or not process.is_running:
            name = f"{kind.value} {role}"
            process = self._running[kind, role] = await PeerProcess.start(kind.command(), kind.environment(), name)
        return process

    async def discard(self) -> None:
        """Kills them all, for nobody knows what state they are in."""
        running, self._running = self._running, {}
        for process in running.values():
            await process.kill()

    async def close(self) -> None:
        """Ends them all in good order."""
        running, self._running = self._running, {}
        for process in running.values():
            await process.end()

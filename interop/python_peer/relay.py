"""Offers to each session what it gets from the others."""

from __future__ import annotations

from iroh_moq import BroadcastConsumer, MoqSession

__all__ = ["Relay"]


class Relay:
    """Sessions, and the broadcasts that came over each."""

    def __init__(self) -> None:
        self._offers: dict[MoqSession, dict[str, BroadcastConsumer]] = {}

    async def follow(self, session: MoqSession) -> None:
        """Offers what a session has to the others, and to it what they have, until it ends."""
        for offers in self._offers.values():
            for name, offer in offers.items():
                if not offer.is_closed:
                    session.publish(name, offer)
        mine = self._offers[session] = {}
        async for name, broadcast in session.origin_consumer():
            if broadcast is None:
                mine.pop(name, None)
                continue
            mine[name] = broadcast
            for other in self._offers:
                if other is not session:
                    other.publish(name, broadcast)
        del self._offers[session]

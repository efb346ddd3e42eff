"""The broadcasts that a `Moq` publishes: by name, for whom, and offered to every session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from .access import EVERYBODY, Audience, Offer
from .log import fields
from .model import BroadcastProducer
from .session import MoqSession

__all__ = ["Published"]

logger = logging.getLogger("iroh_moq.published")

Ended = Callable[[str, BroadcastProducer], None]


class _Watch:
    """Has somebody told when a published broadcast ends."""

    __slots__ = ("_ended", "_name", "_producer")

    def __init__(self, name: str, producer: BroadcastProducer, ended: Ended) -> None:
        self._name = name
        self._producer = producer
        self._ended = ended

    def rerouted(self) -> None:
        """Those that are published here are made here, or known to their origins."""

    def ended(self) -> None:
        self._ended(self._name, self._producer)


class Published:
    """The broadcasts by name.

    Args:
        sessions: those that there are now.
        ended: told when the producer of a broadcast has ended it, which :meth:`end` sees to.
    """

    def __init__(self, sessions: Callable[[], Iterable[MoqSession]], ended: Ended) -> None:
        self.offers: dict[str, Offer] = {}
        """Those that are not for everybody."""
        self._sessions = sessions
        self._ended = ended
        self._producers: dict[str, BroadcastProducer] = {}
        self._watches: dict[str, _Watch] = {}

    def __len__(self) -> int:
        return len(self._producers)

    def names(self) -> list[str]:
        """Their names."""
        return list(self._producers)

    def publish(self, name: str, producer: BroadcastProducer, audience: Audience) -> None:
        """Adds a broadcast, in place of one of the same name, or changes for whom it is."""
        before = self._producers.get(name)
        if before is not producer:
            self._forget(name)
            self._producers[name] = producer
            watch = self._watches[name] = _Watch(name, producer, self._ended)
            producer._state.watchers[watch] = None
        if producer.is_closed:
            self._forget(name)
        else:
            self.offers.pop(name, None)
            if audience != EVERYBODY:
                self.offers[name] = Offer(producer._state, audience)
            logger.debug("broadcast %r is published", name, extra=fields(broadcast=name))
        for session in self._sessions():
            self._offer(session, name, producer, before)

    def offer_all(self, session: MoqSession) -> None:
        """Offers them to the peer of a new session."""
        for name, producer in self._producers.items():
            self._offer(session, name, producer)

    def unpublish(self, name: str) -> None:
        """Takes one back, if it is there. The broadcast goes on."""
        producer = self._forget(name)
        if producer is not None:
            logger.debug("broadcast %r is published no more", name, extra=fields(broadcast=name))
            consumer = producer.consume()
            for session in self._sessions():
                session.origin_producer().unpublish_broadcast(name, consumer)

    def end(self, name: str, producer: BroadcastProducer) -> None:
        """Its producer has ended one, which may have been replaced meanwhile."""
        if self._producers.get(name) is producer:
            self.unpublish(name)

    def clear(self) -> None:
        """Forgets all of them. The sessions end by themselves."""
        for name in self.names():
            self._forget(name)

    def _offer(
        self, session: MoqSession, name: str, producer: BroadcastProducer, before: BroadcastProducer | None = None
    ) -> None:
        """Offers a broadcast to the peer of a session, if it is to learn of it, in place of the one before."""
        offer = self.offers.get(name)
        if not producer.is_closed and (offer is None or offer.audience.learns(str(session.remote_id()))):
            session.publish(name, producer.consume())
        elif before is not None:
            session.origin_producer().unpublish_broadcast(name, before.consume())

    def _forget(self, name: str) -> BroadcastProducer | None:
        producer = self._producers.pop(name, None)
        self.offers.pop(name, None)
        if producer is not None:
            producer._state.watchers.pop(self._watches.pop(name), None)
        return producer

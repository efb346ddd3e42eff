"""Origins: the broadcasts that are available now, by path, and news of their coming and going.

Each consumer has its own view: a table of what it was told, and the paths where that differs from
what is true. So news costs what has changed, never the table; a consumer that does not look holds
at most one entry per path; and one that looks late learns only what still matters.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from copy import copy

from ..aio import Signal
from ..errors import Closed, Error, InvalidType, NotAnnounced
from .broadcast import BroadcastConsumer, BroadcastState
from .checks import check_int
from .path import has_prefix, normalize_path

__all__ = ["OriginConsumer", "OriginProducer", "OriginState"]


class _Place:
    """A path of an origin, as the broadcast that is there knows it. That outlives many sessions, so what it holds of
    an origin must go with the path."""

    __slots__ = ("_origin", "_path")

    def __init__(self, origin: OriginState, path: str) -> None:
        self._origin = origin
        self._path = path

    def rerouted(self) -> None:
        self._origin.rerouted(self._path)

    def ended(self) -> None:
        self._origin.remove(self._path)


class OriginState:
    """What an origin's producers and consumers share."""

    __slots__ = ("active", "closed", "error", "places", "views", "waiters")

    def __init__(self) -> None:
        self.active: dict[str, BroadcastState] = {}
        self.places: dict[str, _Place] = {}
        self.views: set[View] = set()
        self.waiters: dict[str, set[asyncio.Future[None]]] = {}
        self.closed = False
        self.error: Error | None = None

    def publish(self, path: str, broadcast: BroadcastState) -> None:
        if self.active.get(path) is broadcast or broadcast.closed or self.closed:
            return
        self._forget(path)
        self.active[path] = broadcast
        place = self.places[path] = _Place(self, path)
        broadcast.watchers[place] = None
        self._tell(path)
        for waiter in self.waiters.pop(path, ()):
            if not waiter.done():
                waiter.set_result(None)

    def remove(self, path: str) -> None:
        if self._forget(path):
            self._tell(path)

    def _forget(self, path: str) -> bool:
        broadcast = self.active.pop(path, None)
        if broadcast is None:
            return False
        broadcast.watchers.pop(self.places.pop(path), None)
        return True

    def rerouted(self, path: str) -> None:
        """What is at the path has come to take another way here: news for those who pass on its way."""
        for view in list(self.views):
            if view.rerouted is not None and path in view.told:
                view.rerouted.add(path)
                view.tell(path)

    def close(self, error: Error | None) -> None:
        """No announcement will come any more; what is announced is taken back."""
        if self.closed:
            return
        self.closed, self.error = True, error
        for path in list(self.active):
            self.remove(path)
        for view in list(self.views):
            view.changed.notify()
        waiting, self.waiters = self.waiters, {}
        for waiters in waiting.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(self.ending())

    def reopen(self) -> None:
        """Announcements may come again."""
        self.closed, self.error = False, None

    def ending(self) -> Error:
        if self.error is not None:
            return copy(self.error)
        return NotAnnounced("the peer has stopped announcing, so the broadcast will not come")

    def _tell(self, path: str) -> None:
        # A copy, as here and wherever else such sets are gone over: the garbage collector may run
        # between two steps and finalize consumers, which leave them.
        for view in list(self.views):
            view.tell(path)


class View:
    """What one consumer has been told, and where that is out of date."""

    __slots__ = ("changed", "prefix", "rerouted", "stale", "told")

    def __init__(self, prefix: str, routes: bool) -> None:
        self.prefix = prefix
        self.rerouted: set[str] | None = set() if routes else None
        """The paths whose broadcasts are to be told once more, as they take another way; or None to tell none."""
        self.told: dict[str, BroadcastState] = {}
        # For its order: first changed, first told. A dict would look for its first key past all that were taken.
        self.stale: OrderedDict[str, None] = OrderedDict()
        self.changed = Signal()

    def tell(self, path: str) -> None:
        if has_prefix(path, self.prefix):
            self.stale[path] = None
            self.changed.notify()

    def next(self, active: dict[str, BroadcastState]) -> tuple[str, BroadcastState | None] | None:
        while self.stale:
            path = next(iter(self.stale))
            before, now = self.told.get(path), active.get(path)
            if before is not None and before is not now:
                # A replacement is told as an end and a beginning, so the path stays stale.
                del self.told[path]
                if self.rerouted is not None:
                    self.rerouted.discard(path)
                if now is None:
                    del self.stale[path]
                return path, None
            del self.stale[path]
            if before is None and now is not None:
                self.told[path] = now
                return path, now
            if self.rerouted is not None and path in self.rerouted:
                self.rerouted.discard(path)
                return path, now
        return None


class OriginProducer:
    """A set of broadcasts by path, for others to consume."""

    def __init__(self) -> None:
        self._state = OriginState()

    def publish_broadcast(self, path: str, consumer: BroadcastConsumer) -> None:
        """Makes a broadcast available until it ends or another takes its path.

        Raises:
            InvalidType, InvalidArgument: the path or the consumer cannot be used.
        """
        if not isinstance(consumer, BroadcastConsumer):
            raise InvalidType(f"consumer must be a BroadcastConsumer, not {type(consumer).__name__}")
        self._state.publish(normalize_path(path), consumer._state)

    def unpublish_broadcast(self, path: str, consumer: BroadcastConsumer | None = None) -> None:
        """Takes a path back, whether or not its broadcast goes on.

        With ``consumer``, only if the path is that broadcast's (still).
        """
        path = normalize_path(path)
        if consumer is None or self._state.active.get(path) is consumer._state:
            self._state.remove(path)

    def consume(self, prefix: str = "") -> OriginConsumer:
        """A consumer of everything below the prefix, with its own view of what it has been told."""
        return OriginConsumer(self._state, normalize_path(prefix, "prefix", allow_empty=True))

    def consume_broadcast(self, path: str) -> BroadcastConsumer | None:
        """The broadcast at a path now, or None."""
        return _lookup(self._state, path)


class OriginConsumer:
    """Finds broadcasts: those that are there, and those that come and go."""

    def __init__(self, state: OriginState, prefix: str = "", *, routes: bool = False) -> None:
        self._state = state
        self._prefix = prefix
        self._routes = routes
        self._view: View | None = None

    def consume(self, prefix: str | None = None) -> OriginConsumer:
        """Another consumer of the same origin that starts from the beginning."""
        wanted = self._prefix if prefix is None else normalize_path(prefix, "prefix", allow_empty=True)
        return OriginConsumer(self._state, wanted)

    def consume_routes(self, prefix: str) -> OriginConsumer:
        """Another one, for those who pass the news on: it tells a broadcast again when that takes another way here."""
        return OriginConsumer(self._state, prefix, routes=True)

    def consume_broadcast(self, path: str) -> BroadcastConsumer | None:
        """The broadcast at a path now, or None."""
        return _lookup(self._state, path)

    async def announced(self) -> tuple[str, BroadcastConsumer | None] | None:
        """The next news: a path with its broadcast, or with None when it has gone.

        First comes all that is available. A broadcast that came and went unseen is left out; one
        that was replaced is told as gone and then as come. None once nothing can come any more, or
        this consumer is closed while it waits.
        """
        batch = await self.announced_batch(1)
        return batch[0] if batch else None

    async def announced_batch(self, limit: int = 1000) -> list[tuple[str, BroadcastConsumer | None]]:
        """As :meth:`announced`, all the news there is, up to ``limit``; empty once nothing can come.

        Raises:
            InvalidType, InvalidArgument: the limit is not an int from 1 up.
        """
        while not (batch := self.announced_nowait(limit)):
            view = self._view
            if self._state.closed or view is None:
                break
            await view.changed.wait()
            if self._view is not view:
                break
        return batch

    def announced_nowait(self, limit: int) -> list[tuple[str, BroadcastConsumer | None]]:
        """As :meth:`announced_batch`, or nothing where that would wait."""
        check_int(limit, "limit", 1)
        view = self._view
        if view is None:
            view = self._view = View(self._prefix, self._routes)
            for path in self._state.active:
                view.tell(path)
            self._state.views.add(view)
        batch: list[tuple[str, BroadcastConsumer | None]] = []
        while len(batch) < limit and (news := view.next(self._state.active)) is not None:
            path, broadcast = news
            batch.append((path, None if broadcast is None else BroadcastConsumer(broadcast)))
        return batch

    async def wait_broadcast(self, path: str) -> BroadcastConsumer:
        """The broadcast at a path, as soon as there is one. Takes no news from :meth:`announced`.

        Raises:
            Closed: it came and was taken back before this could return it.
            NotAnnounced: nothing can come any more.
            SessionClosed: the session it would come over has ended.
        """
        path = normalize_path(path)
        broadcast = self._state.active.get(path)
        if broadcast is None:
            if self._state.closed:
                raise self._state.ending()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiters = self._state.waiters.setdefault(path, set())
            waiters.add(waiter)
            try:
                await waiter
            finally:
                waiters.discard(waiter)
                if not waiters and self._state.waiters.get(path) is waiters:
                    del self._state.waiters[path]
            broadcast = self._state.active.get(path)
            if broadcast is None:
                if self._state.closed:
                    raise self._state.ending()
                raise Closed(f"broadcast {path!r} was announced and taken back at once")
        return BroadcastConsumer(broadcast)

    def close(self) -> None:
        """Forgets the view, so that this consumer is told nothing more."""
        if self._view is not None:
            self._state.views.discard(self._view)
            self._view.changed.notify()
            self._view = None

    def __aiter__(self) -> OriginConsumer:
        return self

    async def __anext__(self) -> tuple[str, BroadcastConsumer | None]:
        news = await self.announced()
        if news is None:
            raise StopAsyncIteration
        return news

    def __del__(self) -> None:
        self.close()


def _lookup(state: OriginState, path: str) -> BroadcastConsumer | None:
    broadcast = state.active.get(normalize_path(path))
    return None if broadcast is None else BroadcastConsumer(broadcast)

"""Broadcasts: named collections of tracks, offered by one producer.

A consumer asks for tracks by name. A name that nobody made is either not found, or, where the
producer is `dynamic`, becomes a request that the producer answers by writing the track. The peer's
broadcasts are the same thing: a producer whose dynamic tracks come over the network.
"""

from __future__ import annotations

from copy import copy
from types import TracebackType
from typing import Protocol

from ..aio import Signal
from ..errors import Error, ErrorCode, InvalidType, MoqError
from .cache import DEFAULT_CACHE, Cache
from .checks import check_code
from .group import GroupConsumer
from .info import DEFAULT_TIMESCALE, TrackInfo, check_timescale
from .path import check_name
from .subscription import Subscription, check_priority, check_sequence
from .track import TrackConsumer, TrackProducer, TrackState, max_age_of

__all__ = ["BroadcastConsumer", "BroadcastDynamic", "BroadcastProducer", "BroadcastState", "TrackRequest"]


class Source(Protocol):
    """Where a broadcast comes from, if it is not made here."""

    def subscribe(self, track: TrackState) -> None:
        """Serves a track that nobody has made."""

    async def track_info(self, name: str) -> TrackInfo:
        """The properties of a track.

        Raises:
            MoqError: there is no such track.
            SessionClosed: the session it would come over has ended.
        """

    async def fetch_group(self, name: str, sequence: int, priority: int) -> GroupConsumer:
        """A group of the past.

        Raises:
            MoqError, SessionClosed: as for :meth:`track_info`.
        """


class Watcher(Protocol):
    """Somebody who has to know what becomes of a broadcast."""

    def rerouted(self) -> None:
        """It takes another way here."""

    def ended(self) -> None:
        """It has ended."""


class BroadcastState:
    """What a broadcast's producer and consumers share."""

    __slots__ = (
        "__weakref__",
        "cache",
        "changed",
        "dynamic",
        "error",
        "finished",
        "hops",
        "requested",
        "requests",
        "route",
        "source",
        "tracks",
        "watchers",
    )

    def __init__(self, cache: Cache, hops: int = 0, route: tuple[int, ...] = ()) -> None:
        self.cache = cache
        self.hops = hops
        """How many origins it has passed; 0 for one made here."""
        self.route = route
        """Their ids, from the first on, where they are known; 0 for one that is not."""
        self.tracks: dict[str, TrackState] = {}
        self.dynamic = 0
        """How many `BroadcastDynamic` serve requests now."""
        self.source: Source | None = None
        """Where it comes from, if from elsewhere. A reliable consumer then gets a track of its own, so
        that it can hold that back and no other."""
        self.requests: list[TrackState] = []
        self.requested = Signal()
        self.finished = False
        self.error: Error | None = None
        self.changed = Signal()
        self.watchers: dict[Watcher, None] = {}

    @property
    def closed(self) -> bool:
        return self.finished or self.error is not None

    def reroute(self, route: tuple[int, ...]) -> None:
        """The same broadcast has come to take another way here."""
        if route != self.route:
            self.route, self.hops = route, len(route)
            for watcher in list(self.watchers):
                watcher.rerouted()

    def add_track(
        self, name: str, priority: int, cache: Cache | None, timescale: int = DEFAULT_TIMESCALE
    ) -> TrackState:
        if self.closed:
            raise self.not_writable()
        existing = self.tracks.get(name)
        if existing is not None and existing in self.requests:
            # Whoever has asked for it (and may have left again) has it now.
            self.requests.remove(existing)
            existing.priority, existing.cache = priority, cache or self.cache
            existing.info = TrackInfo(priority, False, max_age_of(existing.cache), timescale)
            return existing
        if existing is not None and not existing.closed:
            raise MoqError(ErrorCode.DUPLICATE, f"the broadcast has a track {name!r} already")
        track = self.tracks[name] = TrackState(name, priority, cache or self.cache, timescale)
        return track

    def subscribe(self, name: str, subscription: Subscription) -> TrackState:
        """The track of that name, or one that will end in the error that its reader must get."""
        private = self.source is not None and subscription.reliable
        track = None if private else self.tracks.get(name)
        if track is not None and (track.error is None or not self.dynamic):
            return track
        track = TrackState(name, cache=self.cache)
        if self.closed:
            track.error = self._gone(name)
        elif self.source is not None:
            if not private:
                self.tracks[name] = track
            self.source.subscribe(track)
        elif self.dynamic:
            self.forget_requests()
            self.tracks[name] = track
            self.requests.append(track)
            self.requested.notify()
        else:
            track.error = MoqError(ErrorCode.NOT_FOUND, f"the broadcast has no track {name!r}")
        return track

    def known_info(self, name: str) -> TrackInfo | None:
        """The properties of a track, where nobody has to be asked."""
        track = self.tracks.get(name)
        return None if track is None else track.told_info

    async def track_info(self, name: str) -> TrackInfo:
        """The properties of a track. One that is yet to be made has those of a track made without any.

        Raises:
            MoqError: there is no such track.
            SessionClosed: the session it would come over has ended.
        """
        if (known := self.known_info(name)) is not None:
            return known
        if self.closed:
            raise self._gone(name)
        if self.source is not None:
            return await self.source.track_info(name)
        if self.dynamic:
            return TrackInfo(max_age=max_age_of(self.cache))
        raise MoqError(ErrorCode.NOT_FOUND, f"the broadcast has no track {name!r}")

    async def fetch_group(self, name: str, sequence: int, priority: int) -> GroupConsumer:
        """A group that is kept, here or where the broadcast comes from.

        Raises:
            MoqError: there is no such group, or no way to ask for it.
            SessionClosed: the session it would come over has ended.
        """
        track = self.tracks.get(name)
        if track is not None:
            group = track.groups.get(sequence)
            if group is not None and not group.trimmed and (group.finished or self.source is None):
                return GroupConsumer(group)
        if self.closed:
            raise self._gone(name)
        if self.source is not None:
            return await self.source.fetch_group(name, sequence, priority)
        if track is None:
            raise MoqError(ErrorCode.NOT_FOUND, f"the broadcast has no track {name!r}")
        raise MoqError(ErrorCode.NOT_FOUND, f"group {sequence} of track {name!r} is not kept")

    def _gone(self, name: str) -> Error:
        if self.error is not None:
            return copy(self.error)
        return MoqError(ErrorCode.NOT_FOUND, f"the broadcast with track {name!r} has ended")

    def remove_track(self, track: TrackState) -> None:
        if self.tracks.get(track.name) is track:
            del self.tracks[track.name]

    def forget_requests(self) -> None:
        """Lets go of the requests of those who have left again."""
        for track in [track for track in self.requests if not track.readers]:
            self.requests.remove(track)
            self.remove_track(track)

    def reject_requests(self) -> None:
        while self.requests:
            track = self.requests.pop(0)
            self.remove_track(track)
            track.fail(MoqError(ErrorCode.NOT_FOUND, f"nobody serves track {track.name!r} any more"), discard=True)

    def close(self, error: Error | None) -> None:
        """Ends the broadcast and every track that has not ended; without an error, well."""
        if self.closed:
            return
        for track in list(self.tracks.values()):
            if error is None:
                track.finish()
            else:
                track.fail(error, discard=True)
        self.end(error)

    def end(self, error: Error | None) -> None:
        """Ends the broadcast and leaves its tracks to end by themselves."""
        if self.closed:
            return
        self.finished, self.error = error is None, error
        self.reject_requests()
        self.changed.notify()
        self.requested.notify()
        watchers, self.watchers = self.watchers, {}
        for watcher in watchers:
            watcher.ended()

    def not_writable(self) -> Error:
        if isinstance(self.error, MoqError):
            return copy(self.error)
        return MoqError(ErrorCode.CLOSED, "the broadcast has ended, so no track can be added")


class BroadcastProducer:
    """Offers tracks. It needs no network and no running loop to be made.

    As a context manager it finishes itself, or aborts with code 24 (Dropped) if the block raises.

    Args:
        cache: the bounds for each track's cache where `create_track` gives none.
    """

    def __init__(self, *, cache: Cache = DEFAULT_CACHE) -> None:
        self._state = BroadcastState(_check_cache(cache))

    def create_track(
        self, name: str, priority: int = 0, *, cache: Cache | None = None, timescale: int = DEFAULT_TIMESCALE
    ) -> TrackProducer:
        """Adds a track; one of the same name that has ended is replaced, and a request for it that
        nobody has taken is answered.

        Args:
            name: at most 1024 bytes of UTF-8, not empty.
            priority: 0 to 255; decides between tracks to which subscribers give equal priority.
            cache: how much of the track is kept for late and slow readers.
            timescale: the parts of a second in which timestamps are counted, such as 90,000 for video.

        Raises:
            InvalidType, InvalidArgument: a value cannot be used.
            MoqError: the track exists (code 12), or the broadcast has ended.
        """
        check_name(name, "track name")
        check_priority(priority)
        if cache is not None:
            _check_cache(cache)
        check_timescale(timescale)
        return TrackProducer(self._state.add_track(name, priority, cache, timescale))

    def dynamic(self) -> BroadcastDynamic:
        """Serves tracks that are made only when somebody asks for them.

        While one of these is open, subscribing to an unknown track is a request that waits here
        instead of an error.

        Raises:
            MoqError: the broadcast has ended.
        """
        if self._state.closed:
            raise self._state.not_writable()
        return BroadcastDynamic(self._state)

    def consume(self) -> BroadcastConsumer:
        """A consumer of this broadcast, any number of which can exist."""
        return BroadcastConsumer(self._state)

    @property
    def is_closed(self) -> bool:
        """Whether the broadcast has ended."""
        return self._state.closed

    def finish(self) -> None:
        """Ends the broadcast well: tracks that have not ended are finished, and it is announced no
        longer. Finishing twice is allowed.

        Raises:
            MoqError: the broadcast was aborted.
        """
        if self._state.error is not None:
            raise self._state.not_writable()
        self._state.close(None)

    def abort(self, code: int) -> None:
        """Ends the broadcast, its tracks and their groups with an error that all readers see at once.

        A broadcast that has ended stays as it is.

        Raises:
            InvalidType, InvalidArgument: the code is not a number from 0 to 2**32 - 1.
        """
        self._state.close(MoqError(check_code(code), "the broadcast was aborted"))

    async def closed(self) -> None:
        """Waits until the broadcast has ended."""
        while not self._state.closed:
            await self._state.changed.wait()

    async def unused(self) -> None:
        """Waits until nobody reads any of its tracks.

        After :meth:`finish` this is how a program ends without losing anything: a reader, here or at
        a peer, leaves once it has all of it.
        """
        while (track := next((track for track in self._state.tracks.values() if track.readers), None)) is not None:
            await track.demand.wait()

    def __repr__(self) -> str:
        return f"<BroadcastProducer of {', '.join(map(repr, self._state.tracks)) or 'no tracks'}>"

    def __enter__(self) -> BroadcastProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort(ErrorCode.DROPPED)
        elif not self._state.closed:
            self.finish()


class TrackRequest(TrackProducer):
    """A track that somebody has asked for: write it, or reject it."""

    def __init__(self, state: TrackState, broadcast: BroadcastState) -> None:
        super().__init__(state)
        self._broadcast = broadcast

    def accept(self, priority: int = 0) -> TrackProducer:
        """The same track as a producer, with a priority from 0 to 255. Writing at once is as good.

        Raises:
            InvalidType, InvalidArgument: the priority cannot be used.
        """
        self._state.priority = check_priority(priority)
        return self

    def reject(self, code: int = ErrorCode.NOT_FOUND) -> None:
        """Tells those who asked that the track is not to be had.

        Raises:
            InvalidType, InvalidArgument: the code is not a number from 0 to 2**32 - 1.
        """
        check_code(code)
        self._broadcast.remove_track(self._state)
        if not self._state.closed:
            self._state.fail(MoqError(code, f"track {self.name!r} was rejected"), discard=True)


class BroadcastDynamic:
    """Yields a `TrackRequest` for each track that is asked for and does not exist.

    An asynchronous iterator, which ends with the broadcast. Closing it (``with``, :meth:`close`)
    rejects what is asked for from then on.
    """

    def __init__(self, state: BroadcastState) -> None:
        self._state = state
        self._open = True
        state.dynamic += 1

    async def requested_track(self) -> TrackRequest | None:
        """The next track asked for, or None once the broadcast has ended or this was closed."""
        state = self._state
        while self._open:
            state.forget_requests()
            if state.requests:
                return TrackRequest(state.requests.pop(0), state)
            if state.closed:
                return None
            await state.requested.wait()
        return None

    def close(self) -> None:
        """Serves no more; requests nobody has taken are rejected unless another one is open."""
        if self._open:
            self._open = False
            self._state.dynamic -= 1
            if not self._state.dynamic:
                self._state.reject_requests()
            self._state.requested.notify()

    def __aiter__(self) -> BroadcastDynamic:
        return self

    async def __anext__(self) -> TrackRequest:
        request = await self.requested_track()
        if request is None:
            raise StopAsyncIteration
        return request

    def __enter__(self) -> BroadcastDynamic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BroadcastConsumer:
    """A broadcast as its readers see it, here or over the network."""

    __slots__ = ("_state",)

    def __init__(self, state: BroadcastState) -> None:
        self._state = state

    def subscribe_track(
        self,
        name: str,
        priority: int = 0,
        ordered: bool = False,
        max_latency: float | None = None,
        start_group: int | None = None,
        end_group: int | None = None,
    ) -> TrackConsumer:
        """Asks for a track, from its latest group on.

        Never waits; whether the track exists shows when it is read.

        Args:
            name: the track's name.
            priority: 0 to 255; of several tracks in one session, higher ones are sent first.
            ordered: under congestion send the oldest group first, not the newest.
            max_latency: seconds that a group is still wanted once a newer one exists; None leaves
                that to the cache. ``ordered=True`` without a limit is a reliable subscription:
                nothing is skipped, and a slow reader holds the stream back.
            start_group: the first group wanted, if the cache still has it; None for the latest.
            end_group: the last group wanted, inclusive. Later ones are held back, not lost, until
                `TrackConsumer.update` raises it.

        Raises:
            InvalidType, InvalidArgument: a value cannot be used.
        """
        check_name(name, "track name")
        subscription = Subscription(priority, ordered, max_latency, start_group, end_group)
        return TrackConsumer(self._state.subscribe(name, subscription), subscription)

    async def fetch_group(self, track_name: str, sequence: int, priority: int = 0) -> GroupConsumer:
        """One group of a track, which may be past: from the cache of whoever has it, through relays as well.

        Returns once the group has begun to come. A group that is still being written is given as it grows.

        Args:
            track_name: the track's name.
            sequence: the group's number.
            priority: as for :meth:`subscribe_track`.

        Raises:
            InvalidType, InvalidArgument: a value cannot be used.
            MoqError: the group is not kept (any more), or there is no such track (code 13); or the version of the
                protocol that the session speaks cannot fetch (code 17).
            SessionClosed: the session it would come over has ended.
        """
        check_name(track_name, "track name")
        return await self._state.fetch_group(track_name, check_sequence(sequence, "sequence"), check_priority(priority))

    @property
    def hops(self) -> int:
        """How many origins the broadcast has passed on its way; 0 for one made here."""
        return self._state.hops

    @property
    def is_closed(self) -> bool:
        """Whether the broadcast has ended."""
        return self._state.closed

    async def closed(self) -> Error | None:
        """Waits until the broadcast has ended, and says why: None if it was finished."""
        while not self._state.closed:
            await self._state.changed.wait()
        return self._state.error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BroadcastConsumer) and other._state is self._state

    def __hash__(self) -> int:
        return id(self._state)

    def __repr__(self) -> str:
        ended = ", which has ended" if self._state.closed else ""
        return f"<BroadcastConsumer {id(self._state):x}{ended}>"


def _check_cache(cache: Cache) -> Cache:
    if not isinstance(cache, Cache):
        raise InvalidType(f"cache must be a Cache, not {type(cache).__name__}")
    return cache

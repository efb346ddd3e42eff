"""The model against a simple one of itself, under any sequence of calls.

After every step all calls that wait are compared as well: each must have returned exactly if there
is something to return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from iroh_moq.errors import ErrorCode, MoqError
from iroh_moq.model import BroadcastProducer, GroupProducer, OriginProducer, Subscription
from tests.conftest import idle, within
from tests.model.reference import (
    CACHE,
    FRAMES_PER_GROUP,
    Broadcast,
    Consumer,
    Failed,
    Group,
    Listener,
    Reader,
    Track,
)
from tests.model.tools import cancel

# A failure may take long to be made small.
pytestmark = pytest.mark.timeout(900)

T = TypeVar("T")

PATHS = ["room", "room/a", "hall"]
WAYS = st.sampled_from(["order", "arrivals", "frames"])
MAYBE_NUMBER = st.none() | st.integers(0, 6)
CODES = st.none() | st.sampled_from([5, 77])
"""How something ends: without an error, or with one."""
SIZES = st.lists(st.sampled_from([0, 1, 100, 300]), max_size=3)
LIMITS = st.sampled_from([None, 0, 0, 1, 150])
CALLS = st.integers(1, 4)
RARELY = st.sampled_from([False] * 9 + [True])
"""Whether to do what leaves little to be done."""


async def outcome(call: Coroutine[Any, Any, object]) -> object:
    try:
        return await call
    except MoqError as error:
        return Failed(error.code)


def attempt(call: Callable[[], T]) -> T | Failed:
    """What a plain call returns, or the code that it raises."""
    try:
        return call()
    except MoqError as error:
        return Failed(error.code)


class Machine(RuleBasedStateMachine):
    """Calls with a loop of its own. What is shared by the machines below."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # There are very many small steps, and what debugging looks for is looked for elsewhere.
        self.loop.set_debug(False)
        self.unseen: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.unseen.append(context))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with within():
                return await call

        return self.loop.run_until_complete(bounded())

    async def start(self, call: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.ensure_future(outcome(call))
        await idle()
        return task

    async def start_or_cancel(self, call: Coroutine[Any, Any, object]) -> asyncio.Task[object] | None:
        """As :meth:`start`, but a call that waits is cancelled, which must change nothing."""
        task = await self.start(call)
        if task.done():
            return task
        await cancel(task)
        return None

    def call(self, who: Consumer | Reader | Listener, *, wait: bool) -> None:
        """Calls the real one, unless it has been called, and compares what has come of it."""
        if who.pending is None:
            who.pending = self.run((self.start if wait else self.start_or_cancel)(who.call()))
            if who.pending is None:
                assert who.must_wait()
        self.compare(who)

    def compare(self, who: Consumer | Reader | Listener) -> None:
        if who.pending is not None:
            if who.pending.done():
                result, who.pending = who.pending.result(), None
                who.compare(result)
            else:
                assert who.must_wait()

    def waiting(self) -> list[asyncio.Task[object]]:
        """The calls that wait when all is over."""
        return []

    def teardown(self) -> None:
        tasks = self.waiting()
        for task in tasks:
            task.cancel()
        if tasks:
            self.run(asyncio.wait(tasks))
        self.loop.close()
        assert not self.unseen


class Tracks(Machine):
    """There are few rules, as they are chosen alike, and each must come often enough to meet the others."""

    tracks: Bundle[Track] = Bundle("tracks")
    groups: Bundle[Group] = Bundle("groups")
    consumers: Bundle[Consumer] = Bundle("consumers")
    readers: Bundle[Reader] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.all_tracks: list[Track] = []
        self.all_readers: list[Reader] = []
        self.drains: list[tuple[Group, int, asyncio.Task[object]]] = []
        self.broadcast = Broadcast(BroadcastProducer(cache=CACHE))
        self.add_track()

    def add_track(self) -> Track:
        track = self.broadcast.tracks["video"] = Track(self.broadcast.producer.create_track("video"))
        self.all_tracks.append(track)
        return track

    def everybody(self) -> list[Consumer | Reader]:
        consumers = [consumer for track in self.all_tracks for consumer in track.consumers]
        return [*consumers, *self.all_readers]

    def waiting(self) -> list[asyncio.Task[object]]:
        reads = [each.pending for each in self.everybody() if each.pending is not None]
        return [*reads, *(task for _, _, task in self.drains)]

    # Something to begin with, so that every rule has something to do.

    @initialize(target=tracks)
    def first_track(self) -> Track:
        return self.all_tracks[0]

    @initialize(target=groups, sizes=SIZES)
    def first_group(self, sizes: list[int]) -> MultipleResults[Group]:
        return self.add_group(self.all_tracks[0], None, sizes)

    @initialize(target=consumers, way=WAYS, start=MAYBE_NUMBER, end=MAYBE_NUMBER)
    def first_consumer(self, way: str, start: int | None, end: int | None) -> Consumer:
        return self.add_consumer(self.all_tracks[0], way, Subscription(start_group=start, end_group=end))

    # Producing

    @rule(target=groups, track=tracks, number=MAYBE_NUMBER, sizes=SIZES)
    def create_group(self, track: Track, number: int | None, sizes: list[int]) -> MultipleResults[Group]:
        return self.add_group(track, number, sizes)

    def add_group(self, track: Track, number: int | None, sizes: list[int]) -> MultipleResults[Group]:
        producer = track.producer
        result = attempt(producer.append_group if number is None else partial(producer.create_group, number))
        if track.closed:
            assert result == Failed(ErrorCode.CLOSED if track.error is None else track.error)
            return multiple()
        if number in [group.number for group in track.kept()]:
            assert result == Failed(ErrorCode.DUPLICATE)
            return multiple()
        assert isinstance(result, GroupProducer)
        latest = track.latest
        following = 0 if latest is None else latest.number + 1
        assert result.sequence == (following if number is None else number)
        group = Group(track, result.sequence, result)
        track.groups.append(group)
        track.evict()
        self.write(group, sizes)
        return multiple(group)

    def write(self, group: Group, sizes: list[int]) -> None:
        for size in sizes:
            frame = bytes([group.number, len(group.frames)]) * size
            if group.closed:
                code = ErrorCode.CLOSED if group.error is None else group.error
                assert attempt(partial(group.producer.write_frame, frame)) == Failed(code)
            elif len(group.frames) < FRAMES_PER_GROUP:
                group.producer.write_frame(frame)
                group.frames.append(frame)
                group.track.evict()

    @rule(group=groups, sizes=SIZES, end=st.sampled_from(["", "finish", "finish", "abort"]), limit=LIMITS)
    def write_more(self, group: Group, sizes: list[int], end: str, limit: int | None) -> None:
        self.write(group, sizes)
        if end == "finish":
            failure = None if group.error is None or group.finished else Failed(group.error)
            assert attempt(group.producer.finish) == failure
            group.finished = failure is None
        elif end == "abort":
            group.producer.abort(77)
            if not group.closed:
                group.fail(77)
        if limit is not None:
            self.drains.append((group, limit, self.run(self.start(group.producer.drained(limit)))))

    @rule(target=tracks, track=tracks, code=CODES, everything=st.booleans(), really=RARELY)
    def end_track(self, track: Track, code: int | None, everything: bool, really: bool) -> MultipleResults[Track]:
        """It ends, or its whole broadcast does, and another takes its place."""
        if not really:
            return multiple()
        producer = self.broadcast.producer
        if everything:
            self.broadcast.end(code)
            assert attempt(partial(producer.create_track, "more")) == Failed(code or ErrorCode.CLOSED)
            late = producer.consume().subscribe_track("more")
            assert self.run(outcome(late.next_group())) == Failed(code or ErrorCode.NOT_FOUND)
            self.broadcast = Broadcast(BroadcastProducer(cache=CACHE))
        else:
            track.end(code)
            if not self.broadcast.tracks["video"].closed:
                assert attempt(partial(producer.create_track, "video")) == Failed(ErrorCode.DUPLICATE)
                return multiple()
        return multiple(self.add_track())

    # Consuming

    @rule(target=consumers, track=tracks, way=WAYS, ordered=st.booleans(), start=MAYBE_NUMBER, end=MAYBE_NUMBER)
    def subscribe(self, track: Track, way: str, ordered: bool, start: int | None, end: int | None) -> Consumer:
        return self.add_consumer(track, way, Subscription(ordered=ordered, start_group=start, end_group=end))

    def add_consumer(self, track: Track, way: str, wishes: Subscription) -> Consumer:
        real = track.producer.consume(
            ordered=wishes.ordered, start_group=wishes.start_group, end_group=wishes.end_group
        )
        latest = track.latest
        if wishes.start_group is not None:
            start, joined = wishes.start_group, 0
        elif latest is not None:
            start, joined = latest.number, track.groups.index(latest)
        else:
            start, joined = 0, len(track.groups)
        consumer = Consumer(track, real, way, wishes.ordered, start, joined, wishes.end_group)
        track.consumers.append(consumer)
        return consumer

    @rule(target=readers, consumer=consumers, calls=CALLS, wait=st.booleans())
    def read(self, consumer: Consumer, calls: int, wait: bool) -> MultipleResults[Reader]:
        for _ in range(calls):
            self.call(consumer, wait=wait)
        given, consumer.readers = consumer.readers, []
        self.all_readers += given
        return multiple(*given)

    @rule(reader=readers, calls=CALLS, wait=st.booleans(), close=RARELY)
    def read_frames(self, reader: Reader, calls: int, wait: bool, close: bool) -> None:
        for _ in range(calls):
            self.call(reader, wait=wait)
        if close:
            reader.close()

    @rule(consumer=consumers, start=MAYBE_NUMBER, end=MAYBE_NUMBER, ordered=st.booleans(), close=RARELY)
    def update(self, consumer: Consumer, start: int | None, end: int | None, ordered: bool, close: bool) -> None:
        if close:
            consumer.close()
            return
        consumer.consumer.update(start_group=start, end_group=end, ordered=ordered)
        consumer.start = max(consumer.start, start or 0)
        consumer.end, consumer.ordered = end, ordered

    # What must always hold

    @invariant()
    def calls_return_exactly_when_they_can(self) -> None:
        self.run(idle())
        for each in self.everybody():
            self.compare(each)
        left = []
        for group, limit, task in self.drains:
            assert task.done() is group.drained(limit)
            if task.done():
                assert task.result() is None
            else:
                left.append((group, limit, task))
        self.drains = left

    @invariant()
    def the_state_is_the_same(self) -> None:
        for track in self.all_tracks:
            state, kept = track.producer._state, track.kept()
            assert track.producer.is_closed == track.closed
            assert track.producer.is_used == any(not consumer.closed for consumer in track.consumers)
            assert state.sequences == sorted(state.groups) == sorted(group.number for group in kept)
            assert state.cost == sum(group.cost for group in kept)


class Origins(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.origin = OriginProducer()
        self.active: dict[str, BroadcastProducer] = {}
        self.broadcasts = [BroadcastProducer() for _ in range(3)]
        self.listeners = [Listener(self.origin.consume(prefix), prefix, self.active) for prefix in ("", "room")]

    def waiting(self) -> list[asyncio.Task[object]]:
        return [each.pending for each in self.listeners if each.pending is not None]

    @rule(which=st.integers(0, 2), path=st.sampled_from(PATHS))
    def publish(self, which: int, path: str) -> None:
        self.origin.publish_broadcast(path, self.broadcasts[which].consume())
        self.active[path] = self.broadcasts[which]

    @rule(path=st.sampled_from(PATHS))
    def unpublish(self, path: str) -> None:
        self.origin.unpublish_broadcast(path)
        self.active.pop(path, None)

    @rule(which=st.integers(0, 2), code=CODES)
    def end_broadcast(self, which: int, code: int | None) -> None:
        """It ends, and another takes its place, but not at its paths."""
        broadcast = self.broadcasts[which]
        broadcast.finish() if code is None else broadcast.abort(code)
        self.origin.publish_broadcast(PATHS[0], broadcast.consume())
        self.broadcasts[which] = BroadcastProducer()
        for path in [path for path, other in self.active.items() if other is broadcast]:
            del self.active[path]

    @rule(which=st.integers(0, 1), wait=st.booleans())
    def follow(self, which: int, wait: bool) -> None:
        self.call(self.listeners[which], wait=wait)

    @rule(which=st.integers(0, 1))
    def start_again(self, which: int) -> None:
        listener = self.listeners[which]
        if listener.pending is None:
            listener.consumer.close()
            listener.consumer, listener.told = listener.consumer.consume(), {}

    @invariant()
    def calls_return_exactly_when_they_can(self) -> None:
        self.run(idle())
        for listener in self.listeners:
            self.compare(listener)

    @invariant()
    def the_state_is_the_same(self) -> None:
        for path in PATHS:
            expected = self.active[path].consume() if path in self.active else None
            assert self.origin.consume_broadcast(path) == expected


TestTracks = Tracks.TestCase
TestTracks.settings = settings(max_examples=150, stateful_step_count=80)
TestOrigins = Origins.TestCase
TestOrigins.settings = settings(max_examples=80, stateful_step_count=40)

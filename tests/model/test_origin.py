from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from iroh_moq.errors import Closed, Error, InvalidArgument, InvalidType, NotAnnounced, SessionClosed, SessionError
from iroh_moq.model import BroadcastConsumer, BroadcastProducer, Cache, OriginConsumer, OriginProducer
from iroh_moq.model.broadcast import BroadcastState
from tests.conftest import idle
from tests.model.tools import BAD_NAMES, at_once, cancel, soon, waiting

News = tuple[str, BroadcastConsumer | None]

ENDINGS = [
    pytest.param(None, NotAnnounced, "the peer has stopped announcing", id="announcements"),
    pytest.param(SessionClosed(SessionError(7, "bye")), SessionClosed, "code 7, bye", id="session"),
]


def published(origin: OriginProducer, path: str) -> BroadcastProducer:
    """A new broadcast at a path."""
    broadcast = BroadcastProducer()
    origin.publish_broadcast(path, broadcast.consume())
    return broadcast


async def news(consumer: OriginConsumer) -> list[News | None]:
    """All the news there is now, ending with None if nothing can come any more."""
    told: list[News | None] = []
    while (call := await at_once(consumer.announced())) is not None:
        told.append(call[0])
        if call[0] is None:
            break
    return told


class TestLookup:
    async def test_broadcasts_are_found_by_path(self) -> None:
        origin = OriginProducer()
        broadcast = published(origin, "/room//alice/")
        for finder in (origin, origin.consume(), origin.consume("other")):
            assert finder.consume_broadcast("room/alice") == broadcast.consume()
            assert finder.consume_broadcast("/room/alice/") == broadcast.consume()
            assert finder.consume_broadcast("room") is None
        broadcast.finish()
        assert origin.consume_broadcast("room/alice") is None

    @pytest.mark.parametrize("path", [*BAD_NAMES, "/", "a/" * 33])
    async def test_bad_paths_are_named(self, path: Any) -> None:
        origin, broadcast = OriginProducer(), BroadcastProducer()
        consumer = origin.consume()
        calls: list[Callable[[], object]] = [
            partial(origin.publish_broadcast, path, broadcast.consume()),
            partial(origin.unpublish_broadcast, path),
            partial(origin.consume_broadcast, path),
            partial(consumer.consume_broadcast, path),
        ]
        for call in calls:
            with pytest.raises((InvalidType, InvalidArgument), match="broadcast name"):
                call()
        with pytest.raises((InvalidType, InvalidArgument), match="broadcast name"):
            await soon(consumer.wait_broadcast(path))

    async def test_bad_prefixes_are_named(self) -> None:
        origin = OriginProducer()
        for call in (origin.consume, origin.consume().consume):
            with pytest.raises(InvalidArgument, match="prefix"):
                call("a/" * 33)

    async def test_what_is_no_consumer_is_named(self) -> None:
        broadcast: Any = BroadcastProducer()
        with pytest.raises(InvalidType, match="consumer must be a BroadcastConsumer, not BroadcastProducer"):
            OriginProducer().publish_broadcast("room", broadcast)


class TestPublish:
    async def test_what_has_ended_is_not_published(self) -> None:
        origin = OriginProducer()
        current, ended = published(origin, "room"), BroadcastProducer()
        ended.finish()
        origin.publish_broadcast("room", ended.consume())
        origin.publish_broadcast("other", ended.consume())
        assert await news(origin.consume()) == [("room", current.consume())]

    async def test_the_end_of_a_broadcast_that_was_replaced_takes_nothing_down(self) -> None:
        origin = OriginProducer()
        first, second = published(origin, "room"), published(origin, "room")
        first.finish()
        assert origin.consume_broadcast("room") == second.consume()
        second.abort(5)
        assert origin.consume_broadcast("room") is None

    async def test_one_broadcast_at_two_paths(self) -> None:
        origin, broadcast = OriginProducer(), BroadcastProducer()
        for path in ("one", "two"):
            origin.publish_broadcast(path, broadcast.consume())
        origin.unpublish_broadcast("one")
        assert await news(origin.consume()) == [("two", broadcast.consume())]
        broadcast.finish()
        assert await news(origin.consume()) == []

    async def test_taking_back_what_is_not_there(self) -> None:
        origin = OriginProducer()
        broadcast = published(origin, "room")
        origin.unpublish_broadcast("other")
        origin.unpublish_broadcast("room", BroadcastProducer().consume())
        assert origin.consume_broadcast("room") == broadcast.consume()
        origin.unpublish_broadcast("/room/", broadcast.consume())
        assert origin.consume_broadcast("room") is None
        assert not broadcast.is_closed

    async def test_a_broadcast_keeps_nothing_of_an_origin_that_took_it_back(self) -> None:
        origin, broadcast = OriginProducer(), BroadcastProducer()
        for _ in range(3):
            origin.publish_broadcast("room", broadcast.consume())
            origin.publish_broadcast("room", broadcast.consume())
            assert len(broadcast._state.watchers) == 1
            origin.unpublish_broadcast("room")
            assert len(broadcast._state.watchers) == 0


class TestNews:
    async def test_first_all_that_is_there_and_then_what_comes_and_goes(self) -> None:
        origin = OriginProducer()
        alice, bob = published(origin, "alice"), published(origin, "bob")
        consumer = origin.consume()
        assert await news(consumer) == [("alice", alice.consume()), ("bob", bob.consume())]
        call = await waiting(consumer.announced())
        carol = published(origin, "carol")
        assert await soon(call) == ("carol", carol.consume())
        call = await waiting(consumer.announced())
        alice.finish()
        assert await soon(call) == ("alice", None)
        origin.unpublish_broadcast("bob")
        assert await news(consumer) == [("bob", None)]

    async def test_every_consumer_is_told(self) -> None:
        origin = OriginProducer()
        first, second = origin.consume(), origin.consume()
        assert await news(first) == await news(second) == []
        broadcast = published(origin, "room")
        again = first.consume()
        for consumer in (first, second, again):
            assert await news(consumer) == [("room", broadcast.consume())]

    async def test_what_came_and_went_unseen_is_left_out(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        assert await news(consumer) == []
        published(origin, "room").finish()
        other = published(origin, "other")
        assert await news(consumer) == [("other", other.consume())]

    async def test_what_went_and_came_back_unseen_is_left_out(self) -> None:
        origin = OriginProducer()
        consumer, broadcast = origin.consume(), published(origin, "room")
        assert len(await news(consumer)) == 1
        origin.unpublish_broadcast("room")
        origin.publish_broadcast("room", broadcast.consume())
        assert await news(consumer) == []

    async def test_a_replacement_is_told_as_gone_and_then_as_come(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        published(origin, "room")
        assert len(await news(consumer)) == 1
        published(origin, "room")
        last = published(origin, "room")
        assert await news(consumer) == [("room", None), ("room", last.consume())]

    async def test_a_replacement_that_goes_between_is_told_as_gone(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        published(origin, "room")
        assert len(await news(consumer)) == 1
        last = published(origin, "room")
        assert await soon(consumer.announced()) == ("room", None)
        last.finish()
        assert await news(consumer) == []

    async def test_only_what_is_below_the_prefix(self) -> None:
        origin = OriginProducer()
        paths = ("room", "room/alice", "roommate", "other/room")
        early = origin.consume("/room/")
        assert await news(early) == []
        for path in paths:
            published(origin, path)
        for consumer in (early, origin.consume("room"), origin.consume().consume("room"), early.consume()):
            assert [told[0] for told in await news(consumer) if told] == ["room", "room/alice"]
        assert [told[0] for told in await news(early.consume("")) if told] == list(paths)

    async def test_a_consumer_that_does_not_look_holds_one_entry_per_path(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        assert await news(consumer) == []
        for _ in range(100):
            published(origin, "room")
        assert consumer._view is not None
        assert len(consumer._view.stale) == 1

    async def test_several_at_once(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        call = await waiting(consumer.announced_batch())
        for number in range(5):
            published(origin, str(number))
        assert [path for path, _ in await soon(call)] == ["0", "1", "2", "3", "4"]
        for number in range(5):
            published(origin, str(number))
        batches = [await soon(consumer.announced_batch(4)) for _ in range(3)]
        assert [(path, told is not None) for batch in batches for path, told in batch] == [
            (str(number), there) for number in range(5) for there in (False, True)
        ]
        assert [len(batch) for batch in batches] == [4, 4, 2]
        for limit in (0, True, "1"):
            bad: Any = limit
            with pytest.raises((InvalidType, InvalidArgument), match="limit must be"):
                await consumer.announced_batch(bad)

    async def test_a_cancelled_call_loses_nothing(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        call = await waiting(consumer.announced())
        broadcast = published(origin, "room")
        await cancel(call)
        assert await news(consumer) == [("room", broadcast.consume())]

    async def test_closing_ends_a_wait(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        told: list[News] = []

        async def follow() -> None:
            async for each in consumer:
                told.append(each)  # noqa: PERF401 - they come one at a time

        following = asyncio.ensure_future(follow())
        await idle()
        broadcast = published(origin, "room")
        await idle()
        consumer.close()
        consumer.close()
        await soon(following)
        assert told == [("room", broadcast.consume())]
        assert origin._state.views == set()

    async def test_a_consumer_that_is_thrown_away_is_forgotten(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        assert await news(consumer) == []
        assert len(origin._state.views) == 1
        del consumer
        gc.collect()
        assert origin._state.views == set()


class TestWait:
    async def test_at_once_for_what_is_there(self) -> None:
        origin = OriginProducer()
        broadcast = published(origin, "room")
        assert await soon(origin.consume().wait_broadcast("/room/")) == broadcast.consume()

    async def test_until_it_comes_and_for_all_who_wait(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        calls = [await waiting(consumer.wait_broadcast("room")) for _ in range(2)]
        other = published(origin, "other")
        await idle()
        assert not any(call.done() for call in calls)
        broadcast = published(origin, "room")
        for call in calls:
            assert await soon(call) == broadcast.consume()
        # Waiting for one takes no news from anybody.
        assert await news(consumer) == [("other", other.consume()), ("room", broadcast.consume())]
        assert origin._state.waiters == {}

    async def test_the_one_that_is_there_when_it_returns(self) -> None:
        origin = OriginProducer()
        call = await waiting(origin.consume().wait_broadcast("room"))
        published(origin, "room")
        second = published(origin, "room")
        assert await soon(call) == second.consume()

    async def test_what_comes_and_goes_at_once(self) -> None:
        origin = OriginProducer()
        call = await waiting(origin.consume().wait_broadcast("room"))
        published(origin, "room").finish()
        with pytest.raises(Closed, match="broadcast 'room' was announced and taken back at once"):
            await soon(call)

    async def test_a_cancelled_wait_leaves_the_others(self) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        calls = [await waiting(consumer.wait_broadcast("room")) for _ in range(3)]
        await cancel(calls[0])
        broadcast = published(origin, "room")
        await cancel(calls[1])
        assert await soon(calls[2]) == broadcast.consume()
        for path in ("room/2", "room/3"):
            await cancel(await waiting(consumer.wait_broadcast(path)))
        assert origin._state.waiters == {}

    async def test_a_wait_that_is_cancelled_as_it_ends(self) -> None:
        origin = OriginProducer()
        calls = [await waiting(origin.consume().wait_broadcast(path)) for path in ("one", "two")]
        for call in calls:
            call.cancel()
        published(origin, "one")
        origin._state.close(None)
        for call in calls:
            with pytest.raises(asyncio.CancelledError):
                await call
        assert origin._state.waiters == {}


class TestEnd:
    @pytest.mark.parametrize(("error", "kind", "text"), ENDINGS)
    async def test_whoever_waits_is_told_why(self, error: Error | None, kind: type[Error], text: str) -> None:
        origin = OriginProducer()
        consumer = origin.consume()
        calls = [await waiting(consumer.wait_broadcast(path)) for path in ("room", "room", "other", "came")]
        published(origin, "came")
        origin._state.close(error)
        origin._state.close(None)
        for call in (*calls, consumer.wait_broadcast("late")):
            with pytest.raises(kind, match=text) as caught:
                await soon(call)
            assert caught.value is not error

    async def test_what_is_there_is_taken_back_and_then_nothing_comes(self) -> None:
        origin = OriginProducer()
        consumer, broadcast = origin.consume(), published(origin, "room")
        assert await news(consumer) == [("room", broadcast.consume())]
        call = await waiting(consumer.announced())
        origin._state.close(None)
        assert await soon(call) == ("room", None)
        published(origin, "late")
        for each in (consumer, origin.consume()):
            assert await news(each) == [None]
            assert [told async for told in each] == []
            assert await soon(each.announced_batch()) == []
        assert not broadcast.is_closed
        assert len(broadcast._state.watchers) == 0


class TestRoutes:
    async def test_another_way_is_told_to_those_who_pass_it_on(self) -> None:
        origin = OriginProducer()
        state = BroadcastState(Cache(), 1, (1,))
        broadcast = BroadcastConsumer(state)
        origin.publish_broadcast("cam", broadcast)
        relay, reader = origin.consume().consume_routes(""), origin.consume()
        for consumer in (relay, reader):
            assert consumer.announced_nowait(10) == [("cam", broadcast)]
        state.reroute((1, 2))
        assert relay.announced_nowait(10) == [("cam", broadcast)]
        assert (relay.announced_nowait(10), reader.announced_nowait(10)) == ([], [])
        # One that is gone by the time it is looked at is told as that.
        state.reroute((1, 3))
        state.end(None)
        for consumer in (relay, reader):
            assert consumer.announced_nowait(10) == [("cam", None)]
        assert state.watchers == {}

    async def test_a_path_that_is_taken_back_is_told_no_more(self) -> None:
        origin = OriginProducer()
        state = BroadcastState(Cache(), 1, (1,))
        origin.publish_broadcast("cam", BroadcastConsumer(state))
        relay = origin.consume().consume_routes("")
        # News that nobody has been told yet is told once.
        state.reroute((2,))
        assert len(relay.announced_nowait(10)) == 1
        state.reroute((3,))
        origin.unpublish_broadcast("cam")
        state.reroute((4,))
        assert relay.announced_nowait(10) == [("cam", None)]
        assert state.watchers == {}

"""What a peer may do, as the protocol asks for it."""

from __future__ import annotations

import logging

import pytest

from iroh_moq import Access, BroadcastProducer, ErrorCode, MoqError, OriginProducer
from iroh_moq.access import Audience, Offer
from iroh_moq.lite.policy import Policy
from tests.conftest import MakePair, idle
from tests.lite.peer import lite

_LOGGER = logging.getLogger("iroh_moq.test")


class Run:
    """What we offer to a peer called "bob"."""

    def __init__(self) -> None:
        self.origin, self.offers = OriginProducer(), dict[str, Offer]()
        self.policy = Policy("bob", offers=self.offers)

    def offer(self, audience: Audience, *, announced: bool, name: str = "cam") -> BroadcastProducer:
        broadcast = BroadcastProducer()
        self.offers[name] = Offer(broadcast._state, audience)
        if announced:
            self.origin.publish_broadcast(name, broadcast.consume())
        return broadcast

    def find(self, name: str = "cam") -> object:
        """The broadcast that the peer gets, or the code that it gets instead."""
        try:
            return self.policy.find(self.origin.consume(), name)._state
        except MoqError as error:
            return error.code


_BOB, _OTHERS = frozenset({"bob"}), frozenset({"alice"})


class TestFind:
    @pytest.mark.parametrize(
        ("audience", "announced", "found"),
        [
            (Audience(_BOB, _BOB), True, True),
            (Audience(_BOB, _OTHERS), False, True),
            (Audience(None, _OTHERS), False, True),
            (Audience(_OTHERS, _BOB), True, ErrorCode.UNAUTHORIZED),
            (Audience(_OTHERS, _OTHERS), False, ErrorCode.NOT_FOUND),
            # The application has taken it back for this peer alone, or has not announced it yet.
            (Audience(_BOB, _BOB), False, ErrorCode.NOT_FOUND),
        ],
    )
    def test_by_audience(self, audience: Audience, announced: bool, found: bool | int) -> None:
        run = Run()
        broadcast = run.offer(audience, announced=announced)
        assert run.find() == (broadcast._state if found is True else found)

    def test_one_that_has_ended(self) -> None:
        run = Run()
        broadcast = run.offer(Audience(None, _OTHERS), announced=False)
        broadcast.create_track("video").write_frame(b"the last of it")
        broadcast.finish()
        assert run.find() == ErrorCode.NOT_FOUND

    def test_another_of_the_same_name_for_this_session_alone(self) -> None:
        run, private = Run(), BroadcastProducer()
        run.offer(Audience(_OTHERS, _OTHERS), announced=False)
        run.origin.publish_broadcast("cam", private.consume())
        assert run.find() is private._state

    @pytest.mark.parametrize("name", ["", "nothing"])
    def test_what_is_not_there_is_no_refusal_of_this_peer(self, name: str) -> None:
        run = Run()
        run.policy.access = Access(subscribe=[])
        with pytest.raises(MoqError) as caught:
            run.policy.find(run.origin.consume(), name)
        assert type(caught.value) is MoqError
        assert caught.value.code == ErrorCode.NOT_FOUND


class TestRefused:
    @pytest.mark.parametrize(
        ("code", "counts"),
        [(ErrorCode.DECODE, {"decode": 1}), (ErrorCode.NOT_FOUND, {"not_found": 1}), (ErrorCode.OLD, {}), (70, {})],
    )
    async def test_only_refusals_count_and_what_means_nothing_is_worth_a_warning(
        self, code: int, counts: dict[str, int], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "iroh_moq")
        policy = Policy("bob")
        policy.refused(_LOGGER, "stream", MoqError(code))
        assert policy.refusals.counts == counts
        (record,) = caplog.records
        assert record.getMessage().startswith(f"stream of bob {'refused' if counts else 'ended'}: ")
        assert vars(record)["peer"] == "bob"
        assert record.levelno == (logging.WARNING if code == ErrorCode.DECODE else logging.INFO)


async def test_a_group_that_was_sent_is_not_dropped_when_its_subscriber_leaves(memory_pair: MakePair) -> None:
    async with lite(memory_pair) as run:
        _, track = run.publish()
        exchange = await run.subscribe()
        await idle()
        track.write_frame(b"whole")
        run.begin(track, b"begun")
        await run.next_group()
        await run.next_group()
        await exchange.finish()
        await idle()
        # Of the two that it has not read, only one was never sent to its end.
        assert run.session.policy.counters.dropped_sending == {"cancel": 1}

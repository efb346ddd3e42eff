from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import Subscription
from iroh_moq.lite.priority import CONTROL_PRIORITY, group_priority
from tests.lite.strategies import groups


def test_the_subscribers_priority_comes_first() -> None:
    assert group_priority(Subscription(2), 0, 0) > group_priority(Subscription(1), 255, 1000)


def test_then_the_tracks_own() -> None:
    assert group_priority(Subscription(), 16, 0) > group_priority(Subscription(), 0, 1000)


def test_before_it_who_is_live() -> None:
    reliable = Subscription(3, ordered=True)
    for live in (Subscription(3), Subscription(3, max_latency=9.0), Subscription(3, ordered=True, max_latency=9.0)):
        assert group_priority(live, 0, 0) > group_priority(reliable, 255, 0)
    assert group_priority(Subscription(4, ordered=True), 0, 0) > group_priority(Subscription(3), 255, 0)


def test_what_was_committed_first_is_sent_first_and_before_what_is_still_written() -> None:
    wishes = Subscription()
    assert group_priority(wishes, 0, 1, 5) > group_priority(wishes, 0, 2, 6) > group_priority(wishes, 0, 1000)
    # Where the oldest goes first anyway, that is enough.
    ordered = Subscription(ordered=True)
    assert group_priority(ordered, 0, 1, 6) == group_priority(ordered, 0, 1)


def test_then_the_newest_group_or_the_oldest_where_ordered() -> None:
    assert group_priority(Subscription(), 0, 6) > group_priority(Subscription(), 0, 5)
    assert group_priority(Subscription(ordered=True), 0, 5) > group_priority(Subscription(ordered=True), 0, 6)


@given(st.integers(0, 255), st.integers(0, 255), st.booleans(), groups, st.none() | groups)
def test_always_a_signed_number_of_32_bits_that_control_streams_are_not_behind(
    wish: int, track: int, ordered: bool, sequence: int, commitment: int | None
) -> None:
    priority = group_priority(Subscription(wish, ordered), track, sequence, commitment)
    assert -(1 << 31) <= priority <= CONTROL_PRIORITY < 1 << 31

from __future__ import annotations

from typing import Any

import pytest

from iroh_moq.errors import InvalidArgument, InvalidType
from iroh_moq.model.subscription import MAX_GROUP, Subscription, combine


@pytest.mark.parametrize(
    ("wishes", "error", "text"),
    [
        ({"priority": -1}, InvalidArgument, "priority must be between 0 and 255, not -1"),
        ({"priority": 256}, InvalidArgument, "priority"),
        ({"priority": True}, InvalidType, "priority must be an int, not bool"),
        ({"priority": "high"}, InvalidType, "priority"),
        ({"ordered": 1}, InvalidType, "ordered must be a bool, not int"),
        ({"max_latency": -0.1}, InvalidArgument, "max_latency"),
        ({"max_latency": float("nan")}, InvalidArgument, "max_latency"),
        ({"max_latency": float("inf")}, InvalidArgument, "max_latency"),
        ({"max_latency": "1"}, InvalidType, "max_latency must be a number, not str"),
        ({"max_latency": True}, InvalidType, "max_latency"),
        ({"start_group": -1}, InvalidArgument, "start_group"),
        ({"start_group": MAX_GROUP + 1}, InvalidArgument, "start_group"),
        ({"start_group": 1.0}, InvalidType, "start_group must be an int, not float"),
        ({"start_group": False}, InvalidType, "start_group"),
        ({"end_group": -1}, InvalidArgument, "end_group"),
        ({"end_group": "9"}, InvalidType, "end_group must be an int, not str"),
    ],
)
def test_bad_wishes_are_named(wishes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Subscription(**wishes)


def test_the_bounds_themselves_are_allowed() -> None:
    Subscription(priority=0, max_latency=0, start_group=0, end_group=0)
    Subscription(priority=255, max_latency=1e9, start_group=MAX_GROUP, end_group=MAX_GROUP)


@pytest.mark.parametrize(
    ("wishes", "reliable"),
    [
        (Subscription(), False),
        (Subscription(ordered=True), True),
        (Subscription(ordered=True, max_latency=1), False),
    ],
)
def test_reliable_is_in_order_without_a_limit(wishes: Subscription, reliable: bool) -> None:
    assert wishes.reliable is reliable


class TestCombine:
    def test_nothing_for_nobody(self) -> None:
        assert combine([]) is None

    def test_one_is_taken_as_it_is(self) -> None:
        wishes = Subscription(3, True, 1.5, 4, 5)
        assert combine([wishes]) is wishes

    def test_the_most_that_anyone_asks(self) -> None:
        one = Subscription(3, True, 1.5, 4, 5)
        other = Subscription(7, False, 0.5, 2, 9)
        assert combine([one, other]) == combine([other, one]) == Subscription(7, False, 1.5, 2, 9)

    def test_ordered_only_if_all_are(self) -> None:
        ordered = Subscription(ordered=True, max_latency=1)
        assert combine([ordered, ordered]) == ordered

    def test_no_limit_is_the_most(self) -> None:
        both = combine([Subscription(max_latency=1, end_group=5), Subscription()])
        assert both == Subscription()

    def test_a_start_in_the_past_serves_those_at_the_latest_as_well(self) -> None:
        wishes = [Subscription(start_group=3), Subscription()]
        assert combine(wishes) == combine(wishes, latest=3) == Subscription(start_group=3)

    def test_nobody_at_the_latest_waits_for_the_start_of_another(self) -> None:
        assert combine([Subscription(start_group=100), Subscription()], latest=3) == Subscription()
        assert combine([Subscription(start_group=100), Subscription(start_group=50)], latest=3) == Subscription(
            start_group=50
        )
        assert combine([Subscription(), Subscription()], latest=3) == Subscription()

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq.lite.budget import Budget, water_level
from iroh_moq.model.track import TrackState


def track(name: str, groups: int, size: int) -> TrackState:
    state = TrackState(name)
    for number in range(groups):
        group = state.create_group(number)
        group.write(bytes(size))
        group.finish()
    return state


def budget(limit: int, *tracks: tuple[TrackState, bool]) -> tuple[Budget, list[None]]:
    exceeded: list[None] = []
    return Budget(limit, lambda: tracks, lambda: exceeded.append(None)), exceeded


@given(st.lists(st.integers(0, 1000)), st.integers(0, 5000))
def test_the_level_fits_and_is_no_lower_than_it_must_be(costs: list[int], total: int) -> None:
    level = water_level(costs, total)
    assert sum(min(cost, level) for cost in costs) <= total or not costs
    if sum(costs) > total:
        assert sum(min(cost, level + 1) for cost in costs) > total
    else:
        assert level == max(costs, default=0)


def test_nothing_happens_below_the_limit() -> None:
    one = track("one", 10, 1000)
    all_, exceeded = budget(one.cost, (one, False))
    all_.spend(one.cost)
    assert (len(one.groups), exceeded) == (10, [])


def test_the_largest_gives_way_with_its_oldest() -> None:
    large, small = track("large", 20, 1000), track("small", 2, 1000)
    all_, exceeded = budget(15_000, (large, False), (small, False))
    all_.spend(large.cost + small.cost)
    assert large.cost + small.cost <= 15_000
    assert (len(small.groups), large.latest, len(exceeded)) == (2, 19, 1)
    assert all_.spent == large.cost + small.cost


def test_one_group_gives_its_oldest_frames_and_goes_if_it_is_one_frame() -> None:
    state = TrackState("one")
    group = state.create_group(0)
    group.extend([bytes(1000)] * 20)
    all_, _ = budget(10_000, (state, False))
    all_.spend(state.cost)
    assert state.cost <= 10_000
    assert group.trimmed > 0
    assert group.error is None
    large = track("large", 1, 20_000)
    all_, _ = budget(10_000, (large, False))
    all_.spend(large.cost)
    assert large.cost == 0


@pytest.mark.parametrize("others", [0, 10])
def test_reliable_tracks_lose_nothing_and_hold_back(others: int) -> None:
    reliable, other = track("reliable", 20, 1000), track("other", others, 1000)
    all_, exceeded = budget(16_000, (reliable, True), (other, False))
    all_.spend(reliable.cost + other.cost)
    assert len(reliable.groups) == 20
    # Those that can lose something keep a share all the same.
    assert other.cost <= 2000
    assert all_.is_tight
    assert bool(exceeded) == bool(others)
    reliable.groups.clear()
    reliable.cost = 0
    assert not all_.is_tight

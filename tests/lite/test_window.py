"""How much is committed to a connection, and who has the next turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from iroh_moq.lite import window as module
from iroh_moq.lite.window import Window
from iroh_moq.transport import PathStats, TransportStats


class Transport:
    """A path whose width is set, and which counts how often it is asked for."""

    def __init__(self) -> None:
        self.width: int | None = 100_000
        self.asked = 0

    def stats(self) -> TransportStats:
        self.asked += 1
        if self.width is None:
            return TransportStats()
        return TransportStats(paths=(PathStats("there", True, False, 0.01, self.width, 1200, 0, 0),))


class Subscription:
    """Groups of a size that wait for their turn."""

    def __init__(self, window: Window, level: int, count: int, size: int, turns: list[int]) -> None:
        self.level = level
        self._window = window
        self._count = count
        self._size = size
        self._turns = turns

    def send_next(self) -> bool:
        self._turns.append(self.level)
        self._window.take(self.level, self._size)
        self._count -= 1
        return self._count > 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def made() -> tuple[Window, Any]:
    transport: Any = Transport()
    return Window(transport), transport


def test_twice_the_congestion_window_is_committed() -> None:
    window, _ = made()
    for number in range(4):
        assert window.has_room(0)
        assert window.take(0, 50_000) == number + 1
    assert not window.has_room(0)
    window.give_back(0, 50_000)
    assert window.has_room(0)


def test_two_groups_are_however_large() -> None:
    window, _ = made()
    for _ in range(2):
        assert window.has_room(0)
        window.take(0, 1_000_000)
    assert not window.has_room(0)
    window.give_back(0, 1_000_000)
    assert window.has_room(0)


def test_what_is_of_a_lower_level_does_not_count() -> None:
    window, _ = made()
    for _ in range(3):
        window.take(1, 100_000)
    assert [window.has_room(level) for level in (0, 1, 2)] == [False, False, True]


def test_a_narrow_path_is_asked_for_again_in_a_moment_and_a_wide_one_seldom(clock: SimpleNamespace) -> None:
    window, transport = made()
    for _ in range(10):
        assert window.has_room(0)
    assert transport.asked == 1
    clock.seconds += 0.3
    assert window.has_room(0)
    assert transport.asked == 2
    for _ in range(3):
        window.take(0, 100_000)
    for _ in range(10):
        assert not window.has_room(0)
    assert transport.asked == 2
    clock.seconds += 0.01
    transport.width = 200_000
    assert window.has_room(0)
    assert transport.asked == 3


def test_a_path_of_unknown_width_is_wide() -> None:
    window, transport = made()
    transport.width = None
    for _ in range(10):
        window.take(0, 1 << 30)
    assert window.has_room(0)


def test_the_higher_level_has_its_turn_first_and_equal_ones_take_turns() -> None:
    window, _ = made()
    turns: list[int] = []
    for _ in range(4):
        window.take(9, 50_000)
    subscriptions = [Subscription(window, level, 3, 50_000, turns) for level in (3, 5, 3)]
    for subscription in subscriptions:
        window.wait(subscription)
        window.wait(subscription)
    window.leave(subscriptions[2])
    assert turns == []
    for _ in range(3):
        window.give_back(9, 50_000)
    assert turns == [5, 5, 5]
    window.give_back(9, 50_000)
    for _ in range(3):
        window.give_back(5, 50_000)
    assert turns == [5, 5, 5, 3, 3, 3]


def test_equal_ones_take_turns() -> None:
    window, _ = made()
    for _ in range(4):
        window.take(3, 50_000)
    first: list[int] = []
    second: list[int] = []
    for mine in (first, second):
        subscription = Subscription(window, 3, 2, 50_000, mine)
        window.wait(subscription)
    for expected in ((1, 0), (1, 1), (2, 1), (2, 2)):
        window.give_back(3, 50_000)
        assert (len(first), len(second)) == expected

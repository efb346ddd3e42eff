"""The part `network`: the proxy does to packets what it is told."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from faults.network import part
from faults.network.proxy import Proxy
from faults.network.weather import Weather
from faults.run import Run

PACKETS = 400


class Ends:
    """A proxy, and somebody at either end of it."""

    def __init__(self) -> None:
        self.here, self.there = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.here, self.there):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        self.proxy = Proxy("127.0.0.1", "127.0.0.1", self.there.getsockname(), random.Random(1))

    def carry(self, seconds: float = 0.05) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.proxy.step(0.005)

    def send(self, count: int = PACKETS) -> list[bytes]:
        """What comes out at the other end of so many packets."""
        for number in range(count):
            self.here.sendto(number.to_bytes(4, "big"), self.proxy.left.getsockname())
            if number % 50 == 49:
                self.carry(0.002)
        self.carry(0.2)
        return list(self.received(self.there))

    @staticmethod
    def received(end: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                yield end.recvfrom(100)[0]
            except BlockingIOError:
                return


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    for each in (made.here, made.there, made.proxy.left, made.proxy.right):
        each.close()


def test_good_weather_carries_all_both_ways(ends: Ends) -> None:
    assert ends.send() == [number.to_bytes(4, "big") for number in range(PACKETS)]
    ends.there.sendto(b"back", ends.proxy.right.getsockname())
    ends.carry()
    assert list(ends.received(ends.here)) == [b"back"]


@pytest.mark.parametrize(
    ("weather", "holds"),
    [
        (Weather(loss=0.2), lambda got: 0.7 * PACKETS < len(got) < 0.9 * PACKETS),
        (Weather(duplicate=0.3), lambda got: len(got) > 1.2 * PACKETS and len(set(got)) == PACKETS),
        (Weather(reorder=0.2), lambda got: got != sorted(got) and len(got) == PACKETS),
        (Weather(cut=True), lambda got: got == []),
        (Weather(delay=0.05, jitter=0.01), lambda got: len(got) == PACKETS),
    ],
    ids=["loss", "duplicates", "reordering", "outage", "delay"],
)
def test_bad_weather(ends: Ends, weather: Weather, holds: Callable[[list[bytes]], bool]) -> None:
    ends.proxy.weather = weather
    assert holds(ends.send())


def test_a_delay_is_one(ends: Ends) -> None:
    ends.proxy.weather = Weather(delay=10.0)
    assert ends.send(5) == []


def test_another_address(ends: Ends) -> None:
    ends.send(1)
    before = ends.proxy.right.getsockname()
    ends.proxy.rebind()
    assert ends.proxy.right.getsockname() != before
    assert len(ends.send(3)) == 3


def test_what_cannot_be_done_here_is_said(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "missing", lambda: "there is no network")
    run = Run("network", folder=tmp_path)  # type: ignore[arg-type]
    part.run(run)
    assert run.notes == ["Left out: there is no network."]
    assert not run.failed

"""A proxy for UDP packets between two networks: ``python -m faults.network.proxy``, told what to do on its input.

It carries packets between whoever sends to its left side and a target at its right, and does to them
what the weather says. A line of its input is a JSON object: a new weather, or ``{"rebind": true}``,
after which the target sees another port, as behind a router that has forgotten.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from .weather import Weather

__all__ = ["Proxy"]

_BATCH = 64
_LARGEST = 65536


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.setblocking(False)
    made.bind((host, 0))
    return made


class Proxy:
    """The two sides, and the packets that are on their way between them."""

    def __init__(self, left: str, right: str, target: tuple[str, int], chance: random.Random) -> None:
        self.weather = Weather()
        self.left, self.right = _socket(left), _socket(right)
        self.counts = {"carried": 0, "lost": 0, "repeated": 0, "late": 0}
        self._right_host = right
        self._target = target
        self._peer: Any = None
        self._chance = chance
        self._waiting: list[tuple[float, int, bool, bytes]] = []
        self._numbers = itertools.count()

    def rebind(self) -> None:
        """Goes on from another port towards the target."""
        self.right.close()
        self.right = _socket(self._right_host)

    def step(self, patience: float) -> None:
        """Takes in what has come, or waits for it a little, and sends on what is due."""
        if self._waiting:
            patience = min(patience, max(self._waiting[0][0] - time.monotonic(), 0))
        for each in select.select((self.left, self.right), (), (), patience)[0]:
            with suppress(BlockingIOError, ConnectionError):
                for _ in range(_BATCH):
                    data, source = each.recvfrom(_LARGEST)
                    if each is self.left:
                        self._peer = source
                    self._take(each is self.left, data)
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, to_right, data = heapq.heappop(self._waiting)
            with suppress(OSError):
                if to_right:
                    self.right.sendto(data, self._target)
                elif self._peer is not None:
                    self.left.sendto(data, self._peer)

    def _take(self, to_right: bool, data: bytes) -> None:
        weather, chance = self.weather, self._chance
        if weather.cut or chance.random() < weather.loss:
            self.counts["lost"] += 1
            return
        for copy in range(1 + (chance.random() < weather.duplicate)):
            due = time.monotonic() + weather.delay + chance.random() * weather.jitter
            if chance.random() < weather.reorder:
                due += weather.late
                self.counts["late"] += 1
            self.counts["repeated" if copy else "carried"] += 1
            heapq.heappush(self._waiting, (due, next(self._numbers), to_right, data))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left", required=True, help="our address towards who comes")
    parser.add_argument("--right", required=True, help="our address towards the target")
    parser.add_argument("--target", required=True, help="host:port")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    proxy = Proxy(options.left, options.right, (host, int(port)), random.Random(options.seed))
    print(json.dumps({"event": "ready", "address": "{}:{}".format(*proxy.left.getsockname())}), flush=True)
    os.set_blocking(sys.stdin.fileno(), False)
    text = b""
    while True:
        proxy.step(0.02)
        try:
            more = os.read(sys.stdin.fileno(), 65536)
        except BlockingIOError:
            continue
        if not more:
            # Whoever has started this is gone.
            return
        *lines, text = (text + more).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if told.pop("rebind", False):
                proxy.rebind()
            if told.pop("count", False):
                print(json.dumps({"event": "counts", **proxy.counts}), flush=True)
            if told:
                proxy.weather = Weather(**told)


if __name__ == "__main__":
    main()

"""Carries UDP packets between two peers, under conditions that can be changed while it runs.

Runs as a process of its own, in the namespace between those of the peers. The kernel could do it (``tc netem``),
but not every kernel has that. Whoever sends to the side ``--right`` is the right peer; the left one is known. Each
line on standard input is an order, a JSON object: ``{"conditions": {...}}``, or ``{"move": ADDRESS}``, after which
the left peer sees the right one's packets come from there. Each is answered by a line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import sys
import time
from contextlib import suppress

from .shaper import Conditions, Shaper

__all__ = ["main"]

_BATCH = 64


class Proxy:
    """The sockets, and a shaper for each way."""

    def __init__(self, to_left: str, left: tuple[str, int], to_right: str) -> None:
        self._left, self._right = left, ("", 0)
        self._at_left, self._at_right = _socket(to_left), _socket(to_right)
        dice = random.Random(1)
        self._to_left, self._to_right = Shaper(Conditions(), dice), Shaper(Conditions(), dice)

    def address(self) -> str:
        """Where the right peer has to send to."""
        host, port = self._at_right.getsockname()
        return f"{host}:{port}"

    def run(self) -> None:
        """Carries packets until the orders end."""
        orders = sys.stdin.fileno()
        os.set_blocking(orders, False)
        while True:
            due = [at for shaper in (self._to_left, self._to_right) if (at := shaper.due()) is not None]
            patience = max(min(due) - time.monotonic(), 0) if due else None
            ready, _, _ = select.select((self._at_left, self._at_right, orders), (), (), patience)
            if orders in ready:
                order = sys.stdin.readline()
                if not order:
                    return
                self._obey(json.loads(order))
            self._receive(ready)
            self._send()

    def _receive(self, ready: list[object]) -> None:
        for near, shaper in ((self._at_left, self._to_right), (self._at_right, self._to_left)):
            if near not in ready:
                continue
            with suppress(BlockingIOError):
                for _ in range(_BATCH):
                    packet, source = near.recvfrom(65536)
                    if near is self._at_right:
                        self._right = source
                    shaper.put(time.monotonic(), packet)

    def _send(self) -> None:
        now = time.monotonic()
        for near, far, shaper in (
            (self._at_left, self._left, self._to_left),
            (self._at_right, self._right, self._to_right),
        ):
            for packet in shaper.take(now):
                # What a full buffer does not take is lost, as it may be.
                with suppress(BlockingIOError):
                    near.sendto(packet, far)

    def _obey(self, order: dict[str, object]) -> None:
        match order:
            case {"conditions": dict(values)}:
                self._to_left.conditions = self._to_right.conditions = Conditions(**values)
            case {"move": str(address)}:
                self._at_left.close()
                self._at_left = _socket(address)
        print(json.dumps(order), flush=True)


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.setblocking(False)
    made.bind((host, 0))
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to-left", required=True, help="the address here that the left peer sees")
    parser.add_argument("--left", required=True, help="the left peer's address and port")
    parser.add_argument("--to-right", required=True, help="the address here that the right peer sends to")
    options = parser.parse_args()
    host, _, port = options.left.rpartition(":")
    proxy = Proxy(options.to_left, (host, int(port)), options.to_right)
    print(json.dumps({"address": proxy.address()}), flush=True)
    proxy.run()


if __name__ == "__main__":
    main()

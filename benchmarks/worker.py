"""One of the two processes of a measurement: ``python -m benchmarks.worker ORDER``, as `pair` starts it.

The order says which side of which workload to do for which contender. Standard output gets one line of JSON:
the report, or why there is none. The end of standard input ends the process, so that none outlives the
command, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from .channel import Channel
from .contender import Contender
from .contenders import load
from .failed import Failed, PeerEnded
from .workload import Scale
from .workloads import workloads

__all__ = ["Order"]


@dataclass(frozen=True)
class Order:
    """What a worker is to do; `channel` is the descriptor of its end of the sockets."""

    side: str
    contender: str
    workload: str
    channel: int
    seconds: float
    quick: bool

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Order:
        return cls(**json.loads(text))


async def _work(order: Order) -> dict[str, Any]:
    contender = load(order.contender)
    workload = workloads(Scale(order.seconds, order.quick))[order.workload]
    async with Channel.open(socket.socket(fileno=order.channel)) as channel:
        publishes = order.side == "publisher"
        if isinstance(contender, Contender):
            report = await (workload.publish if publishes else workload.subscribe)(contender, channel)
        else:
            assert workload.task is not None
            report = await (contender.publish if publishes else contender.subscribe)(workload.task, channel)
        return {"report": report, "facts": contender.facts()}


def _failure(error: BaseException) -> dict[str, Any]:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    reason = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
    return {"failed": reason, "peer_ended": isinstance(error, PeerEnded)}


def _end_with_input() -> None:
    # Not by `sys.stdin`, whose lock would hold up the end of the interpreter.
    while os.read(0, 1024):
        pass
    os._exit(1)


def main() -> None:
    """The worker."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    order = Order.from_text(sys.argv[1])
    try:
        outcome = asyncio.run(_work(order))
    except Exception as error:
        traceback.print_exc()
        outcome = _failure(error)
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()

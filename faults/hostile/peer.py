"""The hostile peer: streams of mutated bytes, in any order, cut anywhere, ended any way or never.

It is a subscriber and a publisher at once: it asks with nonsense, and answers with nonsense what it
is asked. It tells everything at random by its source of randomness, so that a connection of the same
number does the same (as far as the other side lets it).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

from iroh_moq import Error
from iroh_moq.lite.messages import Announce, Group, Subscribe, SubscribeOk
from iroh_moq.lite.version import version_of
from iroh_moq.lite.wire import varint
from iroh_moq.model import Subscription
from iroh_moq.transport import RecvStream, SendStream, Transport

from ..parsers.mutate import Mutator, split

__all__ = ["Hostile"]

_ENDLESS = 64
"""Pieces after which even a stream that never ends has to pause until its connection does."""

_CODES = (0, 1, 2, 5, 13, 24, 31, 64, (1 << 32) - 1)
_PATIENCE = 20.0
"""Seconds that the peer bears with anything: it may never come, and the next stream is to begin."""


class Hostile:
    """One connection's worth of it.

    Args:
        transport: the connection, with nothing else on it.
        corpus: honest streams by decoder, to be mutated.
        chance: where all else comes from.
    """

    def __init__(self, transport: Transport, corpus: Mapping[str, Sequence[bytes]], chance: random.Random) -> None:
        self._transport = transport
        self._version = version_of(transport.alpn)
        self._chance = chance
        self._requests = Mutator(chance, [*corpus["RequestDecoder"], *_REAL_REQUESTS])
        self._groups = Mutator(chance, [*corpus["GroupDecoder"], *_REAL_GROUPS])
        self._answers = Mutator(
            chance, [*corpus["AnnounceDecoder"], *corpus["SubscribeReplyDecoder"], *corpus["ProbeDecoder"]]
        )
        self._open: list[SendStream] = []
        self._answering: set[asyncio.Task[None]] = set()
        self.streams = 0

    async def run(self, streams: int) -> None:
        """Opens so many streams, several at once, and answers what it is asked meanwhile."""
        answering = asyncio.create_task(self._answer_all())
        try:
            while self.streams < streams:
                batch = min(8, streams - self.streams)
                self.streams += batch
                await asyncio.gather(*(self._stream() for _ in range(batch)))
        finally:
            for task in (answering, *self._answering):
                task.cancel()
            await asyncio.gather(answering, *self._answering, return_exceptions=True)

    async def _stream(self) -> None:
        chance = self._chance
        # What the other side refuses is refused; what it ends, or never takes, is over.
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                if chance.random() < 0.5:
                    send = await self._transport.open_uni()
                    await self._send(send, self._groups.make())
                else:
                    send, recv = await self._transport.open_bi()
                    await self._send(send, self._requests.make())
                    await self._receive(recv)

    async def _send(self, send: SendStream, data: bytes) -> None:
        chance = self._chance
        pieces = split(chance, data)
        manner = chance.random()
        if manner < 0.1:
            chance.shuffle(pieces)
        elif manner < 0.2:
            pieces *= 3
        for piece in pieces:
            await send.write(piece)
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        end = chance.random()
        if end < 0.5:
            send.finish()
        elif end < 0.75:
            send.reset(chance.choice(_CODES))
        elif end < 0.85:
            for _ in range(_ENDLESS):
                await send.write(chance.choice(pieces) if pieces else b"\0")
            self._keep(send)
        else:
            self._keep(send)

    def _keep(self, send: SendStream) -> None:
        """Leaves a stream open: it may be ended later, or with the connection."""
        self._open.append(send)
        if len(self._open) > 40:
            late = self._open.pop(self._chance.randrange(len(self._open)))
            late.reset(0) if self._chance.getrandbits(1) else late.finish()

    async def _receive(self, recv: RecvStream) -> None:
        """Reads a little of the answer, or nothing, or stops it."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.4:
            recv.stop(chance.choice(_CODES))
        elif kind < 0.7:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await recv.read()
            recv.stop(0)

    # What it is asked

    async def _answer_all(self) -> None:
        with suppress(Error):
            while True:
                stream = await self._transport.accept_bi()
                task = asyncio.create_task(self._answer(*stream))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    async def _answer(self, send: SendStream, recv: RecvStream) -> None:
        """Announces something at first, so that it is subscribed to; and answers that, half right and all wrong."""
        chance = self._chance
        with suppress(Error):
            request = bytes(await recv.read())
            if request[:1] == b"\x01":
                await send.write(Announce(True, f"bad/{chance.getrandbits(16)}", 1).encode(self._version))
            elif request[:1] == b"\x02" and chance.random() < 0.7:
                await send.write(SubscribeOk(Subscription()).encode(self._version))
                await self._hostile_groups(request)
            await asyncio.sleep(0.01 * chance.random())
            await self._send(send, self._answers.make())
            if chance.random() < 0.5:
                recv.stop(chance.choice(_CODES))

    async def _hostile_groups(self, request: bytes) -> None:
        """Groups of the subscription that it was just asked for, right up to their header."""
        chance = self._chance
        with suppress(Error, ValueError):
            # The id is the first field of the body, whose size is one byte here.
            identity = Subscribe.decode(request[2:]).id
            for _ in range(chance.randrange(6)):
                sequence = chance.choice((0, 1, 2, 3, chance.getrandbits(20), (1 << 62) - 1))
                uni = await self._transport.open_uni()
                body = self._groups.make()[4:]
                await self._send(uni, Group(identity, sequence).encode() + body)
                self.streams += 1


_REAL_REQUESTS = [
    Subscribe(number, "cam", "video", wishes).encode()
    for number, wishes in enumerate(
        (Subscription(), Subscription(ordered=True, start_group=0), Subscription(max_latency=0.0, end_group=5))
    )
]
"""Requests for what is there, so that some of what is asked is answered."""

_REAL_GROUPS = [Group(0, sequence).encode() + b"".join(varint(40) + bytes(40) for _ in range(5)) for sequence in (0, 1)]

"""Whatever waits for the native driver can be cancelled at any point, and nothing is lost or left by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

import pytest

from iroh_moq.transport import RecvStream, SendStream, StreamReset, iroh_base
from iroh_moq.transport.iroh_native import NativeTransport
from tests.conftest import within
from tests.transport.contract import PATIENCE, read_all, soon, uni
from tests.transport.ends import native_pair, needs_driver, settled, under_way

pytestmark = [needs_driver, pytest.mark.parametrize("seed", [1, 2])]

T = TypeVar("T")


class Impatient:
    """Makes calls, and cancels many of them after so many turns of the loop as chance has it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cancelled = 0

    async def once(self, call: Coroutine[Any, Any, T]) -> T | None:
        """What a call returns, or None if it was cancelled before it could."""
        task = asyncio.ensure_future(call)
        for _ in range(self.random.choice((0, 1, 1, 2, 3, 5, 20))):
            await asyncio.sleep(0 if self.random.random() < 0.9 else 0.0005)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            self.cancelled += 1
            return None

    async def until(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a call returns when it is at last not cancelled in time."""
        async with within(PATIENCE):
            while True:
                if (result := await self.once(call())) is not None:
                    return result


async def test_no_byte_of_a_read_is_lost(seed: int) -> None:
    impatient = Impatient(seed)
    random = Random(seed + 100)
    sent = random.randbytes(400_000)
    async with native_pair() as pair:
        send, recv = await uni(pair)

        async def write() -> None:
            at = 0
            while at < len(sent):
                size = random.choice((1, 10, 1000, 20_000))
                await send.write(sent[at : at + size])
                at += size
                if random.random() < 0.3:
                    await asyncio.sleep(0)
            send.finish()

        writing = asyncio.ensure_future(write())
        got = bytearray()
        limits = (1, 7, 4096, 100_000)
        while more := await impatient.until(lambda: recv.read(impatient.random.choice(limits))):
            got += more
        await soon(writing)
        assert got == sent
        assert impatient.cancelled > 20


@pytest.mark.parametrize("kind", ["uni", "bi"])
async def test_no_stream_of_an_accept_is_lost(seed: int, kind: str) -> None:
    impatient = Impatient(seed)
    count = 300
    async with native_pair() as pair:

        async def open_all() -> None:
            for index in range(count):
                send = await pair[0].open_uni() if kind == "uni" else (await pair[0].open_bi())[0]
                await send.write(index.to_bytes(2, "big"))
                send.finish()
                if impatient.random.random() < 0.3:
                    await asyncio.sleep(0.0002)

        opening = asyncio.ensure_future(open_all())
        seen: list[int] = []
        for _ in range(count):
            recv: RecvStream
            if kind == "uni":
                recv = await impatient.until(pair[1].accept_uni)
            else:
                recv = (await impatient.until(pair[1].accept_bi))[1]
            seen.append(int.from_bytes(await read_all(recv), "big"))
        await soon(opening)
        # Streams of one kind are accepted in the order of opening.
        assert seen == list(range(count))
        assert impatient.cancelled > 20


@pytest.mark.parametrize("kind", ["uni", "bi"])
async def test_no_stream_is_left_of_an_open_that_was_cancelled(
    seed: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 16
    monkeypatch.setattr(iroh_base, "_MAX_STREAMS", limit)
    impatient = Impatient(seed)
    async with native_pair() as pair:
        await told_of_the_limits(pair)
        base = under_way()
        seen: Counter[str] = Counter()

        async def accept() -> None:
            while True:
                if kind == "uni":
                    recv = await pair[1].accept_uni()
                else:
                    back, recv = await pair[1].accept_bi()
                    back.finish()
                await asyncio.sleep(0.0002)
                try:
                    seen[(await read_all(recv)).decode()] += 1
                except StreamReset as error:
                    seen[f"reset {error.code}"] += 1

        async def opened() -> SendStream:
            return await pair[0].open_uni() if kind == "uni" else (await pair[0].open_bi())[0]

        accepting = asyncio.ensure_future(accept())
        written = 0
        for _ in range(400):
            if (send := await impatient.once(opened())) is not None:
                await soon(send.write(b"whole"))
                send.finish()
                written += 1
        assert impatient.cancelled > 20
        # Each of them is free again, but for a few, as QUIC tells of more only when it is worth a frame.
        sends = [await soon(opened()) for _ in range(limit - limit // 4)]
        for send in sends:
            await soon(send.write(b"whole"))
            send.finish()
        async with within(PATIENCE):
            while seen["whole"] < written + len(sends):  # noqa: ASYNC110 - nobody tells of one
                await asyncio.sleep(0.001)
        accepting.cancel()
        assert set(seen) <= {"whole", "reset 0"}
        assert seen["whole"] == written + len(sends)
        await settled(base + 1)


async def told_of_the_limits(pair: tuple[NativeTransport, NativeTransport]) -> None:
    """Uses up what the peer allowed before it was told to allow less."""
    for transport, other in (pair, pair[::-1]):
        send, recv = await uni((transport, other))
        send.finish()
        assert await read_all(recv) == b""


async def test_a_blocked_write_goes_on_behind_who_waited_for_it(seed: int) -> None:
    impatient = Impatient(seed)
    data = impatient.random.randbytes(6 << 20)
    async with native_pair() as pair:
        send, recv = await uni(pair)
        got = bytearray()
        assert not send.write_nowait(data)
        while len(got) < len(data):
            await impatient.once(send.flushed())
            got += await soon(recv.read(impatient.random.choice((1000, 100_000))))
        await soon(send.flushed())
        send.finish()
        assert await read_all(recv) == b""
        assert got == data
        assert impatient.cancelled > 20


async def test_a_blocked_write_that_was_cancelled_can_be_reset(seed: int) -> None:
    impatient = Impatient(seed)
    async with native_pair() as pair:
        await uni(pair)
        base = under_way()
        for code in range(60):
            send, recv = await uni(pair)
            await impatient.once(send.write(bytes(3 << 20)))
            send.reset(code)
            with pytest.raises(StreamReset) as caught:
                await read_all(recv)
            assert caught.value.code == code
        del send, recv
        await settled(base)


async def test_no_datagram_is_lost_by_a_read(seed: int) -> None:
    impatient = Impatient(seed)
    async with native_pair() as pair:
        for index in range(200):
            data = index.to_bytes(2, "big")
            if impatient.random.random() < 0.5:
                await impatient.once(waited_for(pair[1].read_datagram))
            pair[0].send_datagram(data)
            assert await impatient.until(pair[1].read_datagram) == data
        assert impatient.cancelled > 20


async def waited_for(call: Callable[[], Awaitable[bytes]]) -> None:
    await call()
    raise AssertionError("nothing was sent")


async def test_the_end_is_told_however_often_one_stopped_waiting_for_it(seed: int) -> None:
    impatient = Impatient(seed)
    async with native_pair() as pair:
        base = under_way()
        for _ in range(200):
            assert await impatient.once(pair[1].closed()) is None
        assert under_way() == base
        pair[0].close(7, "bye")
        assert (await impatient.until(pair[1].closed)).code == 7
        await impatient.once(pair[1].aclose())


async def test_everything_is_cancelled_in_the_middle_of_everything(seed: int) -> None:
    """Traffic both ways, whose tasks end at any point, ten times over on one connection."""
    random = Random(seed)
    async with native_pair() as pair:
        await uni(pair)
        base = under_way()

        async def talk(here: NativeTransport) -> None:
            while True:
                send, recv = await here.open_bi()
                try:
                    await send.write(bytes(random.choice((1, 1000, 2 << 20))))
                    send.finish()
                    while await recv.read():
                        pass
                finally:
                    send.reset(1)
                    recv.stop(1)

        async def answer(here: NativeTransport) -> None:
            while True:
                send, recv = await here.accept_bi()
                try:
                    with suppress(StreamReset):
                        while data := await recv.read():
                            await send.write(data)
                        send.finish()
                finally:
                    send.reset(2)
                    recv.stop(2)

        for _ in range(10):
            tasks = [asyncio.ensure_future(talk(here)) for here in pair for _ in range(20)]
            tasks += [asyncio.ensure_future(answer(here)) for here in pair]
            await asyncio.sleep(random.random() * 0.03)
            random.shuffle(tasks)
            for task in tasks:
                task.cancel()
                if random.random() < 0.3:
                    await asyncio.sleep(0)
            await asyncio.wait(tasks)
        await settled(base + 2)
        send, recv = await soon(pair[0].open_bi())
        await send.write(b"still here")
        send.finish()
        seen = b""
        while seen != b"still here":
            back, there = await soon(pair[1].accept_bi())
            with suppress(StreamReset):
                seen = await read_all(there)
        back.reset(0)
        recv.stop(0)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from iroh_moq.transport import ConnectionLost, StreamReset, StreamStopped, TransportStats
from iroh_moq.transport.memory import MemoryTransport, memory_pair
from tests.conftest import idle, within
from tests.transport.contract import Contract, Pair, closing, read, read_all, soon, stopped, uni


@asynccontextmanager
async def connected(window: int = 1 << 20, max_streams: int = 1000) -> AsyncIterator[tuple[MemoryTransport, ...]]:
    pair = memory_pair(window=window, max_streams=max_streams)
    async with closing(*pair):
        yield pair
    assert [transport.open_streams for transport in pair] == [0, 0]


class TestMemory(Contract):
    @asynccontextmanager
    async def pair(self) -> AsyncIterator[Pair]:
        async with connected() as (first, second):
            yield first, second


async def waits(call: asyncio.Future[Any]) -> None:
    await idle()
    assert not call.done()


class TestFlowControl:
    async def test_a_writer_waits_for_its_reader(self) -> None:
        async with connected(window=10) as (first, second):
            send = await first.open_uni()
            recv = await second.accept_uni()
            writing = asyncio.ensure_future(send.write(bytes(range(25))))
            await waits(writing)
            assert await recv.read() == bytes(range(10))
            await waits(writing)
            assert await read(recv, 15) == bytes(range(10, 25))
            await soon(writing)

    @pytest.mark.parametrize("end", ["stop", "reset", "close"])
    async def test_a_writer_that_waits_is_told_of_the_end(self, end: str) -> None:
        async with connected(window=10) as (first, second):
            send = await first.open_uni()
            recv = await second.accept_uni()
            writing = asyncio.ensure_future(send.write(bytes(25)))
            await waits(writing)
            if end == "stop":
                recv.stop(9)
            elif end == "reset":
                send.reset(9)
            else:
                second.close(9, "")
            error = await soon(asyncio.gather(writing, return_exceptions=True))
            assert type(error[0]) is (ConnectionLost if end == "close" else StreamStopped)

    async def test_opening_waits_for_the_peers_limit(self) -> None:
        async with connected(max_streams=2) as (first, second):
            streams = [await first.open_uni() for _ in range(2)]
            opening = asyncio.ensure_future(first.open_uni())
            await waits(opening)
            recv = await second.accept_uni()
            await waits(opening)
            streams[0].finish()
            assert await read_all(recv) == b""
            await soon(opening)
            opening = asyncio.ensure_future(first.open_uni())
            await waits(opening)
            second.allow_uni_streams(1)
            await soon(opening)

    async def test_opening_ends_with_the_connection(self) -> None:
        async with connected(max_streams=0) as (first, second):
            opening = asyncio.ensure_future(first.open_bi())
            await waits(opening)
            second.close(3, "")
            with pytest.raises(ConnectionLost):
                await soon(opening)


class TestEnds:
    async def test_a_reset_throws_away_what_was_not_read(self) -> None:
        async with connected() as pair:
            send, recv = await uni((pair[0], pair[1]))
            await send.write(b"lost")
            send.reset(4)
            with pytest.raises(StreamReset):
                await recv.read()

    async def test_a_stop_after_the_end_stops_nothing(self) -> None:
        async with connected() as pair:
            send, recv = await uni((pair[0], pair[1]))
            send.finish()
            recv.stop(4)
            await soon(send.acknowledged())

    async def test_a_stop_before_all_was_read_is_told(self) -> None:
        async with connected() as pair:
            send, recv = await uni((pair[0], pair[1]))
            await send.write(b"unread")
            send.finish()
            recv.stop(4)
            with pytest.raises(StreamStopped):
                await soon(send.acknowledged())
            assert await stopped(send) == 4

    async def test_a_network_that_has_gone(self) -> None:
        async with connected() as (first, second):
            first.lose()
            for end in (first, second):
                async with within():
                    assert ((await end.closed()).code, (await end.closed()).reason) == (None, "timed out")
            second.close(5, "too late")
            assert (await second.closed()).code is None


def test_statistics_of_a_path_that_is_not_known() -> None:
    stats = TransportStats()
    assert (stats.path, stats.rtt, stats.send_rate) == (None, None, None)


async def test_no_rate_without_a_round_trip() -> None:
    async with connected() as (first, _):
        first.rtt = 0.0
        assert first.stats().send_rate is None
        assert first.connection is first

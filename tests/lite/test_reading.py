from __future__ import annotations

import asyncio

import pytest

from iroh_moq import ErrorCode, Limits, MoqError
from iroh_moq.lite.decoders import AnnounceDecoder, RequestDecoder
from iroh_moq.lite.messages import Announce, AnnounceRequest
from iroh_moq.lite.reading import MessageReader
from iroh_moq.lite.version import LITE_03
from tests.conftest import MakePair, idle, within
from tests.lite.peer import code_of

LIMITS = Limits(message_seconds=0.1)
NEWS = Announce(True, "a", 1)


async def test_a_message_may_not_take_for_ever_but_the_next_one_may(memory_pair: MakePair) -> None:
    here, there = memory_pair()
    send = await here.open_uni()
    reader = MessageReader(await there.accept_uni(), AnnounceDecoder(LITE_03), LIMITS)
    data = NEWS.encode(LITE_03)
    await send.write(data)
    async with within():
        assert await reader.next() == [NEWS]
        waiting = asyncio.ensure_future(reader.next())
        # Silence between two is no fault, however long it is.
        await asyncio.sleep(2 * LIMITS.message_seconds)
        assert not waiting.done()
        await send.write(data)
        assert await waiting == [NEWS]
    await send.write(data[:-1])
    assert await code_of(reader.next()) == ErrorCode.TIMEOUT


async def test_dripping_is_no_help(memory_pair: MakePair) -> None:
    here, there = memory_pair()
    send = await here.open_uni()
    reader = MessageReader(await there.accept_uni(), RequestDecoder(LITE_03), LIMITS)
    await send.write(b"\x01\x30")
    failing = asyncio.ensure_future(reader.next())
    async with within():
        while not failing.done():
            await send.write(b"x" if there.open_streams else b"")
            await asyncio.sleep(0.02)
    with pytest.raises(MoqError) as caught:
        await failing
    assert caught.value.code == ErrorCode.TIMEOUT


async def test_cancelling_loses_nothing(memory_pair: MakePair) -> None:
    here, there = memory_pair()
    send = await here.open_uni()
    reader = MessageReader(await there.accept_uni(), RequestDecoder(LITE_03), LIMITS)
    request = AnnounceRequest("cam")
    data = request.encode(LITE_03)
    await send.write(data[:2])
    reading = asyncio.ensure_future(reader.next())
    await idle()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await send.write(data[2:])
    send.finish()
    async with within():
        assert await reader.next() == [request]
        assert await reader.next() == []

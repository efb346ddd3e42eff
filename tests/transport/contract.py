"""What every transport must do, as tests: each implementation's own file runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeVar

import pytest

from iroh_moq.transport import (
    ConnectionLost,
    RecvStream,
    SendStream,
    StreamReset,
    StreamStopped,
    Transport,
    TransportError,
)
from tests.conftest import within

T = TypeVar("T")
Pair = tuple[Transport, Transport]
CODES = [0, 5, 13, 29, 30, 31, 64, 1 << 31, (1 << 32) - 1]
"""Some of them are at the places where the code space of WebTransport skips one."""

PATIENCE = 15.0


async def soon(awaitable: Awaitable[T]) -> T:
    """What must happen, in bounded time."""
    async with within(PATIENCE):
        return await awaitable


async def read_all(stream: RecvStream) -> bytes:
    data = bytearray()
    async with within(PATIENCE):
        while more := await stream.read():
            data += more
    return bytes(data)


async def read(stream: RecvStream, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    async with within(PATIENCE):
        while len(data) < size:
            more = await stream.read(size - len(data))
            assert more
            data += more
    return data


async def stopped(stream: SendStream) -> int:
    """The code that a stream is stopped with, once its writer is told."""
    async with within(PATIENCE):
        while True:
            try:
                await stream.write(b"x")
            except StreamStopped as error:
                return error.code
            await asyncio.sleep(0)


async def uni(pair: Pair, data: bytes = b"x") -> tuple[SendStream, RecvStream]:
    """A unidirectional stream from the first to the second, with its first bytes read."""
    send = await soon(pair[0].open_uni())
    await soon(send.write(data))
    recv = await soon(pair[1].accept_uni())
    assert await read(recv, len(data)) == data
    return send, recv


async def bi(pair: Pair) -> tuple[SendStream, RecvStream, SendStream, RecvStream]:
    """Both ends of a bidirectional stream: the first's, then the second's."""
    send, recv = await soon(pair[0].open_bi())
    await soon(send.write(b"x"))
    back, there = await soon(pair[1].accept_bi())
    assert await read(there, 1) == b"x"
    return send, recv, back, there


class Contract:
    """Subclasses say how to make a pair."""

    alpn = b""
    """What both ends have agreed on."""

    def pair(self) -> AbstractAsyncContextManager[Pair]:
        raise AssertionError("each transport has its own")

    async def test_bytes_go_both_ways_and_end(self) -> None:
        async with self.pair() as pair:
            send, recv, back, there = await bi(pair)
            await send.write(bytearray(b"ab"))
            await send.write(memoryview(b"cd"))
            await send.write(b"")
            send.finish()
            assert await read_all(there) == b"abcd"
            assert await there.read() == b""
            await back.write(b"reply")
            back.finish()
            assert await read_all(recv) == b"reply"

    async def test_megabytes_arrive_as_they_are(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            data = bytes(range(256)) * (20 << 10)

            async def write() -> None:
                await send.write(data)
                send.finish()

            writing = asyncio.ensure_future(write())
            assert await read_all(recv) == data
            await soon(writing)

    async def test_a_read_is_no_longer_than_its_limit(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            await send.write(b"abcdef")
            assert await soon(recv.read(1)) == b"a"
            assert await read(recv, 5) == b"bcdef"

    async def test_streams_come_in_the_order_of_opening(self) -> None:
        async with self.pair() as pair:
            for index in range(50):
                send = await soon(pair[0].open_uni())
                await send.write(bytes((index,)))
                send.finish()
            assert [await read_all(await soon(pair[1].accept_uni())) for _ in range(50)] == [
                bytes((index,)) for index in range(50)
            ]

    @pytest.mark.parametrize("code", CODES)
    async def test_a_reset_carries_its_code(self, code: int) -> None:
        async with self.pair() as pair:
            send, recv, back, there = await bi(pair)
            for writer, reader in ((send, there), (back, recv)):
                writer.reset(code)
                writer.reset(code ^ 1)  # does nothing
                with pytest.raises(StreamReset) as caught:
                    await read_all(reader)
                assert caught.value.code == code

    @pytest.mark.parametrize("code", CODES)
    async def test_a_reset_of_a_unidirectional_stream(self, code: int) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            send.reset(code)
            with pytest.raises(StreamReset) as caught:
                await read_all(recv)
            assert caught.value.code == code
            # What we have abandoned ourselves takes nothing more, and is not the connection's end.
            assert await stopped(send) == 0
            assert pair[0].close_error is None

    @pytest.mark.parametrize("code", CODES)
    async def test_a_stop_carries_its_code(self, code: int) -> None:
        async with self.pair() as pair:
            send, recv, back, there = await bi(pair)
            there.stop(code)
            there.stop(code ^ 1)  # does nothing
            assert await stopped(send) == code
            recv.stop(code)
            assert await stopped(back) == code

    async def test_nothing_is_read_from_a_stream_that_was_stopped(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            recv.stop(0)
            assert await stopped(send) == 0
            assert await soon(recv.read()) == b""

    async def test_acknowledged_is_after_everything_has_come(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            await send.write(b"abc")
            send.finish()
            waiting = asyncio.ensure_future(send.acknowledged())
            assert await read_all(recv) == b"abc"
            await soon(waiting)
            send.reset(5)
            send.set_priority(3)

    async def test_several_may_ask_what_becomes_of_a_stream(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            send.finish()
            first, second = send.acknowledged(), send.acknowledged()
            assert await read_all(recv) == b""
            await soon(asyncio.gather(first, second, send.acknowledged()))

    async def test_a_reset_is_the_answer_for_all_who_have_asked(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            asked = [send.acknowledged() for _ in range(3)]
            await asyncio.sleep(0)
            send.reset(5)
            with pytest.raises(StreamReset) as caught:
                await read_all(recv)
            assert caught.value.code == 5
            for waiting in asked:
                with pytest.raises(StreamStopped):
                    await soon(waiting)

    async def test_a_stop_is_the_answer_where_nothing_is_acknowledged(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            waiting = send.acknowledged()
            await asyncio.sleep(0)
            recv.stop(77)
            with pytest.raises(StreamStopped) as caught:
                await soon(waiting)
            assert caught.value.code == 77

    async def test_a_cancelled_read_loses_nothing(self) -> None:
        async with self.pair() as pair:
            send, recv = await uni(pair)
            sent = bytes(range(100))
            got = b""

            async def write() -> None:
                for byte in sent:
                    await send.write(bytes((byte,)))
                send.finish()

            writing = asyncio.ensure_future(write())
            async with within(PATIENCE):
                while True:
                    reading = asyncio.ensure_future(recv.read())
                    await asyncio.sleep(0)
                    reading.cancel()
                    with suppress(asyncio.CancelledError):
                        got += await reading
                    if writing.done():
                        break
            assert got + await read_all(recv) == sent

    @pytest.mark.parametrize("kind", ["uni", "bi"])
    async def test_a_cancelled_accept_loses_nothing(self, kind: str) -> None:
        async with self.pair() as pair:
            accept: Callable[[], Awaitable[object]] = getattr(pair[1], f"accept_{kind}")
            for _ in range(5):
                waiting = asyncio.ensure_future(accept())
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            send = (await soon(pair[0].open_bi()))[0] if kind == "bi" else await soon(pair[0].open_uni())
            await send.write(b"x")
            stream = await soon(accept())
            recv = stream[1] if isinstance(stream, tuple) else stream
            assert isinstance(recv, RecvStream)
            assert await read(recv, 1) == b"x"

    async def test_datagrams_go_both_ways(self) -> None:
        async with self.pair() as pair:
            for sender, receiver in (pair, pair[::-1]):
                for data in (b"", b"x", bytearray(b"ab"), memoryview(b"cd"), bytes(1000)):
                    sender.send_datagram(data)
                    assert await soon(receiver.read_datagram()) == data

    async def test_both_ends_know_what_was_agreed_on(self) -> None:
        async with self.pair() as pair:
            assert [end.alpn for end in pair] == [self.alpn] * 2

    async def test_the_largest_datagram_is_known(self) -> None:
        async with self.pair() as pair:
            size = pair[0].max_datagram_size
            assert 1000 < size < 2000
            pair[0].send_datagram(bytes(size))
            assert len(await soon(pair[1].read_datagram())) == size

    @pytest.mark.parametrize("size", [2000, 65_536, 1 << 20])
    async def test_a_datagram_that_fits_no_packet_harms_nothing(self, size: int) -> None:
        async with self.pair() as pair:
            with pytest.raises(TransportError) as caught:
                pair[0].send_datagram(bytes(size))
            assert not isinstance(caught.value, ConnectionLost)
            assert pair[0].close_error is None
            pair[0].send_datagram(b"x")
            assert await soon(pair[1].read_datagram()) == b"x"

    async def test_a_cancelled_read_of_a_datagram_loses_nothing(self) -> None:
        async with self.pair() as pair:
            for data in (b"a", b"b"):
                reading = asyncio.ensure_future(pair[1].read_datagram())
                await asyncio.sleep(0)
                pair[0].send_datagram(data)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert await soon(pair[1].read_datagram()) == data

    async def test_settled_is_when_every_stream_that_has_come_is_accepted(self) -> None:
        async with self.pair() as pair:
            accepted: asyncio.Queue[RecvStream] = asyncio.Queue()
            count = 0

            async def accept() -> None:
                nonlocal count
                with suppress(ConnectionLost):
                    while True:
                        accepted.put_nowait(await pair[1].accept_uni())
                        count += 1

            async def read_each() -> None:
                for _ in range(30):
                    await read_all(await accepted.get())

            accepting = asyncio.ensure_future(accept())
            reading = asyncio.ensure_future(read_each())
            sent = [await soon(pair[0].open_uni()) for _ in range(30)]
            for send in sent:
                await send.write(b"x")
                send.finish()
            for send in sent:
                await soon(send.acknowledged())
            await soon(pair[1].uni_settled())
            assert count == 30
            await soon(reading)
            pair[0].close(0, "")
            await soon(accepting)
            await soon(pair[1].uni_settled())

    @pytest.mark.parametrize(
        ("code", "reason"),
        [(0, ""), (0, "bye"), (1, "rejected"), ((1 << 32) - 1, 'a "quoted" \\ reason\nof ünïcode, (code 5)')],
    )
    async def test_both_sides_know_why_it_was_closed(self, code: int, reason: str) -> None:
        async with self.pair() as pair:
            assert pair[0].close_error is None
            waiting = asyncio.ensure_future(pair[0].closed())
            pair[0].close(code, reason)
            pair[0].close(9, "later calls do nothing")
            here, there = await soon(waiting), await soon(pair[1].closed())
            assert (here.code, here.reason, here.local) == (code, reason, True)
            assert (there.code, there.reason, there.local) == (code, reason, False)
            assert pair[0].close_error is here
            assert pair[1].close_error is there
            await soon(pair[0].aclose())
            await soon(pair[1].aclose())

    async def test_every_call_ends_with_the_connection(self) -> None:
        async with self.pair() as pair:
            send, recv, back, there = await bi(pair)
            pending = [
                asyncio.ensure_future(call)
                for call in (
                    there.read(),
                    pair[1].accept_bi(),
                    pair[1].accept_uni(),
                    pair[1].read_datagram(),
                    back.acknowledged(),
                )
            ]
            await asyncio.sleep(0)
            pair[0].close(7, "bye")
            for call in pending:
                with pytest.raises(ConnectionLost) as caught:
                    await soon(call)
                assert (caught.value.error.code, caught.value.error.reason) == (7, "bye")
            await soon(pair[1].closed())
            for transport, reader, writer in ((pair[1], there, back), (pair[0], recv, send)):
                calls: list[Callable[[], Awaitable[object]]] = [
                    transport.open_bi,
                    transport.open_uni,
                    transport.accept_bi,
                    transport.accept_uni,
                    transport.read_datagram,
                    lambda writer=writer: writer.write(b"x"),  # type: ignore[misc]
                ]
                if reader is recv:
                    calls.append(recv.read)
                for again in calls:
                    with pytest.raises(ConnectionLost) as caught:
                        await soon(again())
                    assert (caught.value.error.code, caught.value.error.reason) == (7, "bye")
                with pytest.raises(ConnectionLost):
                    transport.send_datagram(b"x")
                writer.reset(1)
                writer.set_priority(1)
                reader.stop(1)

    async def test_what_it_has_carried(self) -> None:
        async with self.pair() as pair:
            _, recv = await uni(pair, bytes(10_000))
            recv.stop(0)
            sender, receiver = pair[0].stats(), pair[1].stats()
            assert sender.sent_bytes >= 10_000
            assert receiver.received_bytes >= 10_000
            path = sender.path
            assert path is not None
            assert path.selected
            assert not path.relayed
            assert sender.rtt == path.rtt > 0
            assert sender.send_rate == int(path.congestion_window * 8 / path.rtt) > 0

    async def test_who_is_there(self) -> None:
        async with self.pair() as pair:
            first, second = (transport.remote_id for transport in pair)
            assert first == pair[0].remote_id
            assert first != second
            assert len({first, second, pair[1].remote_id}) == 2
            assert str(first)


@asynccontextmanager
async def closing(*transports: Transport) -> AsyncIterator[None]:
    """In the end the transports are closed, and nothing of them is under way."""
    try:
        yield
    finally:
        for transport in transports:
            transport.close(0, "")
        for transport in transports:
            await soon(transport.closed())
            await soon(transport.aclose())

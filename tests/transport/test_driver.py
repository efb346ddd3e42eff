"""The native driver where it is used badly: at the wrong moment, in another thread, and not at all."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import pytest

from iroh_moq.transport import RecvStream, SendStream, StreamReset, StreamStopped
from iroh_moq.transport.driver import driver
from tests.conftest import within
from tests.transport.contract import PATIENCE, bi, read, read_all, soon, stopped, uni
from tests.transport.ends import native_pair, needs_driver, settled, under_way

pytestmark = needs_driver

MEGABYTES = 8 << 20
"""More than the connection takes at once."""


def blocked(condition: Callable[[], bool]) -> None:
    """Keeps the loop from running until other threads have brought something about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class TestMisuse:
    async def test_neither_streams_nor_connections_can_be_copied(self) -> None:
        async with native_pair() as pair:
            send, recv, _, _ = await bi(pair)
            for each in (send, recv, pair[0]._native):
                with pytest.raises(TypeError):
                    copy.copy(each)
                with pytest.raises(TypeError):
                    pickle.dumps(each)

    async def test_nobody_makes_streams_by_hand(self) -> None:
        module: Any = driver.module
        for kind in (module.SendStream, module.RecvStream, module.Connection):
            with pytest.raises(TypeError):
                kind()
            assert kind.__new__(kind) is not None
        with pytest.raises(TypeError):
            module.Driver()
        gc.collect()

    async def test_a_driver_is_made_once(self) -> None:
        module: Any = driver.module
        made = module.Driver(asyncio.get_running_loop())
        with pytest.raises(RuntimeError, match="one loop"):
            made.__init__(asyncio.get_running_loop())

    async def test_a_driver_that_gets_no_descriptor_closes_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none(*_: object) -> int:
            raise OSError("too many open files")

        module: Any = driver.module
        opened = sorted(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(os, "eventfd" if hasattr(os, "eventfd") else "pipe", none)
        with pytest.raises(OSError, match="too many"):
            module.Driver(asyncio.get_running_loop())
        gc.collect()
        assert sorted(os.listdir("/proc/self/fd")) == opened

    async def test_it_works_with_a_pipe_where_there_is_no_eventfd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "eventfd", raising=False)
        async with native_pair() as pair:
            send, recv = await uni(pair)
            writing = asyncio.ensure_future(send.write(bytes(MEGABYTES)))
            assert len(await read(recv, MEGABYTES)) == MEGABYTES
            await soon(writing)

    async def test_a_second_write_during_the_first_is_refused(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            assert not send.write_nowait(bytes(MEGABYTES))
            with pytest.raises(RuntimeError, match="under way"):
                send.write_nowait(b"x")
            assert len(await read(recv, MEGABYTES)) == MEGABYTES
            await soon(send.flushed())

    async def test_a_second_reader_is_refused(self) -> None:
        async with native_pair() as pair:
            _, recv = await uni(pair)
            reading = asyncio.ensure_future(recv.read())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await recv.read()
            reading.cancel()

    async def test_a_buffer_cannot_be_resized_while_it_is_written(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            data = bytearray(MEGABYTES)
            assert not send.write_nowait(data)
            with pytest.raises(BufferError):
                data.clear()
            assert len(await read(recv, MEGABYTES)) == MEGABYTES
            await soon(send.flushed())
            data.clear()

    async def test_a_buffer_with_gaps_is_refused_at_once(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            with pytest.raises(BufferError):
                send.write_nowait(bytes(MEGABYTES), memoryview(b"abcd")[::2])
            await soon(send.write(b"y"))
            assert await read(recv, 1) == b"y"

    async def test_bytes_are_counted_whatever_a_buffer_counts(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            words = array("I", [1, 2, 3])
            await soon(send.write(memoryview(words)))
            assert await read(recv, 12) == words.tobytes()
            pair[0].send_datagram(memoryview(words))
            assert await soon(pair[1].read_datagram()) == words.tobytes()

    async def test_what_is_no_buffer_leaves_nothing_behind(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            text: Any = "text"
            for call in (send.write_nowait, pair[0].send_datagram):
                with pytest.raises(TypeError):
                    call(text)
            del send, call
            # A handle that was left would keep the stream open.
            assert await read_all(recv) == b""


class TestReports:
    async def test_what_was_given_up_after_its_report_can_be_asked_for_again(self) -> None:
        async with native_pair() as pair:
            accepting = asyncio.ensure_future(pair[1].accept_uni())
            await asyncio.sleep(0)
            send = await soon(pair[0].open_uni())
            send.write_nowait(b"x")
            connection = pair[1]._native
            blocked(lambda: not connection.accept_is_idle)
            accepting.cancel()
            connection.give_up()
            recv = pair[1].accept_uni_nowait()
            assert recv is not None
            assert await read(recv, 1) == b"x"

    def test_an_interrupt_loses_no_report(self) -> None:
        """Ctrl-C may come while the driver takes up what was reported."""
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        interrupts = 0

        def interrupt() -> None:
            nonlocal interrupts
            interrupts += 1
            raise KeyboardInterrupt

        streams: list[tuple[SendStream, RecvStream]] = []

        async def begin() -> tuple[AsyncExitStack, asyncio.Future[Any]]:
            stack = AsyncExitStack()
            pair = await stack.enter_async_context(native_pair())
            streams.extend([await uni(pair) for _ in range(40)])
            for send, _ in streams[::4]:
                send.when_over(interrupt)
            told = [send.acknowledged() for index, (send, _) in enumerate(streams) if index % 4]
            return stack, asyncio.gather(*told, return_exceptions=True)

        async def finish() -> None:
            async with within(PATIENCE):
                await over
                while interrupts < 10:  # noqa: ASYNC110 - no event is left where one is lost
                    await asyncio.sleep(0.001)

        stack, over = loop.run_until_complete(begin())
        for _, recv in streams:
            recv.stop(0)
        # While the loop does not run, reports pile up: there are many in one batch.
        time.sleep(0.1)
        finishing = loop.create_task(finish())
        while not finishing.done():
            try:
                loop.run_until_complete(finishing)
            except KeyboardInterrupt:
                continue
        assert interrupts == 10
        loop.run_until_complete(stack.aclose())
        loop.close()

    async def test_a_call_that_fails_is_reported_and_harms_no_other(self) -> None:
        unseen: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _loop, context: unseen.append(context))

        def fail() -> None:
            raise ValueError("mine")

        async with native_pair() as pair:
            send, recv = await uni(pair)
            other, there = await uni(pair)
            send.when_over(fail)
            over = other.acknowledged()
            for stream in (send, other):
                stream.finish()
            assert await read_all(recv) == await read_all(there) == b""
            await soon(over)
            await settled(2)
        loop.set_exception_handler(before)
        assert [str(context["exception"]) for context in unseen] == ["mine"]


class TestDropping:
    async def test_a_stream_dropped_while_it_is_read_is_stopped(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            base = under_way()
            assert recv.read_nowait() is None
            assert under_way() == base + 1
            del recv
            assert under_way() == base
            assert await stopped(send) == 0

    async def test_a_stream_dropped_while_its_write_is_blocked_ends(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            base = under_way()
            assert not send.write_nowait(bytes(MEGABYTES))
            del send
            assert under_way() == base
            assert len(await read_all(recv)) < MEGABYTES

    async def test_a_stream_in_a_cycle_goes_with_it(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            base = under_way()
            assert recv.read_nowait() is None
            assert not send.write_nowait(bytes(MEGABYTES))
            cycle: list[Any] = [send, recv]
            cycle.append(cycle)
            del send, recv, cycle
            gc.collect()
            await settled(base)

    async def test_who_asked_what_becomes_of_a_dropped_stream_is_told_the_truth(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            send.finish()
            over = send.acknowledged()
            del send
            assert await read_all(recv) == b""
            await soon(over)
            send, recv = await uni(pair)
            over = send.acknowledged()
            del send
            with pytest.raises(StreamStopped):
                await soon(over)
            assert await read_all(recv) == b""

    async def test_streams_may_be_dropped_in_another_thread(self) -> None:
        async with native_pair() as pair:
            await uni(pair)
            base = under_way()
            held: list[Any] = []
            for index in range(60):
                send, recv = await uni(pair)
                if index % 3 == 0:
                    assert recv.read_nowait() is None
                elif index % 3 == 1:
                    send.write_nowait(bytes(1 << 20))
                else:
                    send.finish()
                held += [send, recv]
            del send, recv
            thread = threading.Thread(target=held.clear)
            thread.start()
            await asyncio.to_thread(thread.join)
            await settled(base)
            (await uni(pair))[0].reset(1)

    async def test_what_has_come_and_was_never_asked_for_goes_with_the_connection(self) -> None:
        async with native_pair() as pair:
            for kind in ("uni", "bi"):
                accepting = asyncio.ensure_future(getattr(pair[1], f"accept_{kind}")())
                await asyncio.sleep(0)
                accepting.cancel()
            send, _ = await soon(pair[0].open_bi())
            other = await soon(pair[0].open_uni())
            for stream in (send, other):
                await soon(stream.write(b"x"))
            await settled(3)
            pair[1]._native.give_up()
            # Dropped unread: the peer is told.
            for stream in (send, other):
                assert await stopped(stream) == 0

    async def test_a_large_piece_outlives_its_stream(self) -> None:
        async with native_pair() as pair:
            send, recv = await uni(pair)
            data = bytes(range(256)) * (MEGABYTES // 256)
            writing = asyncio.ensure_future(send.write(data))
            pieces: list[Any] = []
            async with within(PATIENCE):
                while sum(map(len, pieces)) < MEGABYTES:
                    pieces.append(await recv.read())
            await soon(writing)
            assert any(isinstance(piece, memoryview) for piece in pieces)
            ended = weakref.ref(recv) if hasattr(recv, "__weakref__") else None
            recv.stop(0)
            del recv
            gc.collect()
            assert ended is None or ended() is None
        assert b"".join(pieces) == data

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_thousands_of_streams_dropped_at_any_point_cost_nothing(self, seed: int) -> None:
        random = Random(seed)
        async with native_pair() as pair:
            await uni(pair)
            base = under_way()
            kept: deque[Any] = deque(maxlen=50)

            async def accept() -> None:
                while True:
                    stream: RecvStream = await pair[1].accept_uni()
                    match random.randrange(4):
                        case 0:
                            with suppress(StreamReset):
                                stream.read_nowait()
                        case 1:
                            stream.stop(random.randrange(9))
                        case 2:
                            kept.append(stream)

            accepting = asyncio.ensure_future(accept())
            async with within(PATIENCE):
                for _ in range(2000):
                    send = pair[0].open_uni_nowait() or await pair[0].open_uni()
                    try:
                        send.write_nowait(bytes(random.choice((0, 1, 1000, 300_000))))
                    except StreamStopped:
                        continue
                    match random.randrange(5):
                        case 0:
                            send.finish()
                        case 1:
                            send.reset(random.randrange(9))
                        case 2:
                            kept.append(send.acknowledged())
                        case 3:
                            send.finish()
                            send.when_over(kept.clear)
            del send
            accepting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await accepting
            kept.clear()
            gc.collect()
            await settled(base + 1)

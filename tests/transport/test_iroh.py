"""The transport on connections between real endpoints of this machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from iroh import Connection, EndpointAddr, EndpointId

from iroh_moq import ALPN
from iroh_moq.transport import ConnectionLost, StreamReset, StreamStopped, iroh_base
from iroh_moq.transport.codes import from_wire, to_wire
from iroh_moq.transport.iroh_package import PackageTransport
from tests.endpoints import bare_endpoint
from tests.transport.contract import CODES, closing, read_all, soon
from tests.transport.ends import IrohContract, Make, both, half, native, needs_driver

STRANGE = [0, 77, (1 << 62) - 1]
"""Codes outside WebTransport's range, such as another kind of peer may send."""


async def _open_many(peer: Connection, count: int) -> list[object]:
    return [await peer.open_uni() for _ in range(count)]


class TestPackage(IrohContract):
    makes = PackageTransport, PackageTransport

    async def test_a_read_that_waits_asks_for_little(self) -> None:
        """The package sets aside what is asked for, on every stream where nothing comes."""
        async with self.pair() as (first, second):
            send = await soon(first.open_uni())
            await send.write(b"x")
            recv: Any = await soon(second.accept_uni())
            asked: list[int] = []
            real = recv._handle.read

            async def read(limit: int) -> bytes:
                asked.append(limit)
                data: bytes = await real(limit)
                return data

            recv._handle.read = read
            assert await soon(recv.read()) == b"x"
            await send.write(bytes(1 << 20))
            left = 1 << 20
            while left:
                left -= len(await soon(recv.read()))
            waiting = asyncio.ensure_future(recv.read())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert asked[0] <= 16 * 1024
            assert max(asked) > 16 * 1024
            send.finish()
            assert await soon(waiting) == b""


@needs_driver
class TestNative(IrohContract):
    makes = native, native


@needs_driver
class TestNativeToPackage(IrohContract):
    makes = native, PackageTransport


@both
class TestCodesOnTheWire:
    @pytest.mark.parametrize("code", CODES)
    async def test_ours_are_in_the_range_of_webtransport(self, make: Make, code: int) -> None:
        async with half(make) as (transport, peer):
            send, recv = await soon(transport.open_bi())
            await send.write(b"x")
            stream = await soon(peer.accept_bi())
            back, there = stream.send(), stream.recv()
            send.reset(code)
            assert await soon(there.received_reset()) == to_wire(code)
            recv.stop(code)
            assert await soon(back.stopped()) == to_wire(code)

    @pytest.mark.parametrize("wire", [*STRANGE, to_wire(13), to_wire(31)])
    async def test_theirs_are_understood_or_taken_as_they_are(self, make: Make, wire: int) -> None:
        async with half(make) as (transport, peer):
            send, recv = await soon(transport.open_bi())
            await send.write(b"x")
            stream = await soon(peer.accept_bi())
            await stream.send().reset(wire)
            with pytest.raises(StreamReset) as reset:
                await read_all(recv)
            assert reset.value.code == from_wire(wire)
            await stream.recv().stop(wire)
            with pytest.raises(StreamStopped) as caught:
                await soon(send.acknowledged())
            assert caught.value.code == from_wire(wire)

    async def test_a_close_is_the_plain_number(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            transport.close(42, "rejected")
            assert await soon(peer.closed()) == "closed by peer: rejected (code 42)"


@both
class TestPriority:
    async def test_it_may_come_too_late(self, make: Make) -> None:
        async with half(make) as (transport, _):
            send = await soon(transport.open_uni())
            await send.write(b"x")
            send.reset(0)
            send.set_priority(1)


class TestPriorityOfThePackage:
    async def test_it_is_set_with_the_next_write(self) -> None:
        async with half(PackageTransport) as (transport, _):
            send: Any = await soon(transport.open_uni())
            send.set_priority(5)
            send.set_priority(-(1 << 31))
            await send.write(b"x")
            assert await soon(send._handle.priority()) == -(1 << 31)

    async def test_it_is_changed_where_no_write_follows(self) -> None:
        async with half(PackageTransport) as (transport, _):
            send: Any = await soon(transport.open_uni())
            await send.write(b"x")
            send.set_priority((1 << 31) - 1)
            calls = [task for task in asyncio.all_tasks() if task.get_name().endswith(": priority")]
            await soon(asyncio.gather(*calls))
            assert await send._handle.priority() == (1 << 31) - 1
            send.finish()
            send.set_priority(1)


@both
class TestLimits:
    async def test_a_peer_may_open_as_many_streams_as_it_was_told(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(iroh_base, "_MAX_STREAMS", 120)
        async with half(make) as (transport, peer):
            # A stream of this side's first tells the peer of its limits.
            await (await soon(transport.open_uni())).write(b"x")
            await soon(peer.accept_uni())
            streams = [await soon(peer.open_uni()) for _ in range(120)]
            opening = asyncio.ensure_future(_open_many(peer, 50))
            await asyncio.wait((opening,), timeout=0.2)
            assert not opening.done()
            # QUIC tells of more only when it is worth a frame.
            transport.allow_uni_streams(100)
            await soon(opening)
            assert len(streams) == 120

    async def test_streams_that_stay_open_do_not_keep_others_from_coming(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(iroh_base, "_MAX_STREAMS", 160)
        async with half(make) as (transport, peer):
            await (await soon(transport.open_uni())).write(b"x")
            await soon(peer.accept_uni())
            kept = [await soon(peer.open_bi()) for _ in range(159)]
            for stream in kept:
                await soon(stream.send().write_all(b"x"))
                await soon(transport.accept_bi())
            for _ in range(100):
                stream = await soon(peer.open_bi())
                await stream.send().write_all(b"x")
                await stream.send().finish()
                send, recv = await soon(transport.accept_bi())
                send.finish()
                assert await soon(read_all(recv)) == b"x"
                assert await soon(stream.recv().read_to_end(10)) == b""

    async def test_a_read_that_was_left_behind_keeps_to_the_next_limit(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            stream = await soon(peer.open_uni())
            await soon(stream.write_all(b"x"))
            recv = await soon(transport.accept_uni())
            assert await soon(recv.read()) == b"x"
            reading = asyncio.ensure_future(recv.read())
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await soon(stream.write_all(b"abcdef"))
            assert await soon(recv.read(2)) == b"ab"
            assert await soon(recv.read(3)) == b"cde"
            recv.stop(3)
            assert await soon(stream.stopped()) == to_wire(3)
            assert await soon(recv.read()) == b""

    async def test_a_stop_need_not_wait_for_a_read_that_was_left_behind(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            stream = await soon(peer.open_uni())
            await soon(stream.write_all(b"x"))
            recv = await soon(transport.accept_uni())
            assert await soon(recv.read()) == b"x"
            reading = asyncio.ensure_future(recv.read())
            await asyncio.sleep(0)
            reading.cancel()
            recv.stop(3)
            assert await soon(stream.stopped()) == to_wire(3)

    async def test_a_large_write_can_be_cancelled_and_reset(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            send = await soon(transport.open_uni())
            writing = asyncio.ensure_future(send.write(bytes(64 << 20)))
            recv = await soon(peer.accept_uni())
            assert await soon(recv.read(1)) == b"\0"
            assert not writing.done()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            send.reset(2)
            assert await soon(recv.received_reset()) == to_wire(2)


@both
class TestTheConnection:
    async def test_is_there_for_what_the_transport_does_not_offer(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            assert isinstance(transport.connection, Connection)
            assert isinstance(transport.remote_id, EndpointId)
            assert transport.connection.remote_id() == transport.remote_id
            assert peer.remote_id() != transport.remote_id

    async def test_closed_under_it_by_its_owner(self, make: Make) -> None:
        async with half(make) as (transport, _):
            transport.connection.close(5, b"mine")
            error = await soon(transport.closed())
            assert error.local
            with pytest.raises(ConnectionLost):
                await soon(transport.open_uni())

    async def test_a_reason_that_is_not_text(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            peer.close(3, b"\xff\x00ab")
            error = await soon(transport.closed())
            assert error.code == 3
            assert error.reason.endswith("ab")

    async def test_the_first_to_learn_of_the_end_tells_the_rest(self, make: Make) -> None:
        async with half(make) as (transport, peer):
            peer.close(9, b"over")
            with pytest.raises(ConnectionLost) as caught:
                await soon(transport.accept_uni())
            assert transport.close_error is not None
            assert (caught.value.error.code, caught.value.error.reason) == (9, "over")

    async def test_the_endpoint_goes_away(self, make: Make) -> None:
        async with bare_endpoint() as first, bare_endpoint() as second:
            accepting = asyncio.ensure_future(second.accept_next())
            dialling = asyncio.ensure_future(
                first.connect(EndpointAddr(second.id(), None, second.bound_sockets()), ALPN)
            )
            incoming = await soon(accepting)
            assert incoming is not None
            connection = await (await incoming.accept()).connect()
            transport = make(await soon(dialling))
            async with closing(transport):
                await second.close()
                error = await soon(transport.closed())
                assert not error.local
            assert connection is not None

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from iroh import (
    Connection,
    Endpoint,
    EndpointOptions,
    ProtocolCreator,
    ProtocolHandler,
    RelayMode,
    iroh_ffi,
    preset_minimal,
)

from iroh_moq import ALPN, BroadcastProducer, Error, InvalidArgument, InvalidType, Limits, Moq, Router
from iroh_moq import router as module
from iroh_moq.address import dial, parse_remote, ticket_of
from tests.endpoints import PATIENCE, bare_endpoint, bound


class Handler:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self.shut_down = 0

    async def accept(self, conn: Connection) -> None:
        self.accepted.put_nowait(conn)

    async def shutdown(self) -> None:
        self.shut_down += 1


class Refusing(Handler):
    async def accept(self, conn: Connection) -> None:
        conn.close(3, b"no")
        raise Error("not today")


class Broken(Handler):
    async def accept(self, conn: Connection) -> None:
        raise ZeroDivisionError


async def connect(here: Endpoint, there: Endpoint, alpn: bytes) -> Connection:
    return await asyncio.wait_for(dial(here, parse_remote(ticket_of(there)), alpn), PATIENCE)


@asynccontextmanager
async def endpoints() -> AsyncIterator[tuple[Endpoint, Endpoint]]:
    async with bare_endpoint() as here, bare_endpoint() as there:
        yield here, there


class TestRouter:
    async def test_each_connection_goes_to_the_handler_of_its_protocol(self) -> None:
        first, second = Handler(), Handler()
        async with endpoints() as (here, there):
            router = Router(there).accept(b"one", first).accept(b"two", second).spawn()
            for alpn, handler in ((b"two", second), (b"one", first)):
                connection = await connect(here, there, alpn)
                accepted = await asyncio.wait_for(handler.accepted.get(), PATIENCE)
                assert accepted.alpn() == alpn
                assert accepted.remote_id() == here.id()
                connection.close(0, b"")
            assert first.accepted.empty()
            await router.shutdown()
            assert (first.shut_down, second.shut_down) == (1, 1)

    async def test_as_a_context_manager(self) -> None:
        handler = Handler()
        async with endpoints() as (here, there):
            async with Router(there).accept(b"one", handler) as router:
                assert router.spawn() is router
                await connect(here, there, b"one")
            assert handler.shut_down == 1

    async def test_a_session_outlives_it_and_nothing_new_comes(self) -> None:
        handler = Handler()
        async with endpoints() as (here, there):
            async with Router(there).accept(b"one", handler):
                connection = await connect(here, there, b"one")
                accepted = await asyncio.wait_for(handler.accepted.get(), PATIENCE)
            stream = await connection.open_uni()
            await stream.write_all(b"still there")
            await stream.finish()
            recv = await asyncio.wait_for(accepted.accept_uni(), PATIENCE)
            assert await recv.read_to_end(100) == b"still there"
            later = asyncio.ensure_future(here.connect(parse_remote(ticket_of(there)), b"one"))
            # The endpoint is the caller's again: the one that comes now is for the caller to take.
            incoming = await asyncio.wait_for(there.accept_next(), PATIENCE)
            assert incoming is not None
            await incoming.refuse()
            await asyncio.gather(later, return_exceptions=True)
            assert handler.accepted.empty()

    async def test_an_error_of_a_handler_is_logged_and_the_next_one_comes(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "iroh_moq.router")
        handler = Handler()
        async with endpoints() as (here, there), Router(there).accept(b"no", Refusing()).accept(b"yes", handler):
            connection = await connect(here, there, b"no")
            assert await asyncio.wait_for(connection.closed(), PATIENCE) == "closed by peer: no (code 3)"
            await connect(here, there, b"yes")
            await asyncio.wait_for(handler.accepted.get(), PATIENCE)
        assert "was not accepted: not today" in caplog.text

    async def test_whatever_comes_out_of_a_handler_ends_its_connection_alone(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        handler = Handler()
        async with endpoints() as (here, there), Router(there).accept(b"no", Broken()).accept(b"yes", handler):
            connection = await connect(here, there, b"no")
            assert (
                await asyncio.wait_for(connection.closed(), PATIENCE) == "closed by peer: the handler failed (code 1)"
            )
            await connect(here, there, b"yes")
            await asyncio.wait_for(handler.accepted.get(), PATIENCE)
        (record,) = caplog.records
        assert record.getMessage() == f"the handler for b'no' failed, with {here.id()}"
        assert record.exc_info is not None

    async def test_a_protocol_that_nobody_serves(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "iroh_moq.router")
        async with endpoints() as (here, there), Router(there).accept(b"one", Handler()):
            # The endpoint is the caller's, who may let it speak more.
            there.set_alpns([b"one", b"other"])
            connection = await connect(here, there, b"other")
            assert "unknown protocol" in await asyncio.wait_for(connection.closed(), PATIENCE)
        assert "b'other', which nobody serves" in caplog.text

    async def test_a_handshake_that_fails_leaves_the_router(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "iroh_moq.router")
        handler = Handler()
        async with endpoints() as (here, there), Router(there).accept(b"one", handler):
            with pytest.raises(Error, match="does not speak"):
                await connect(here, there, b"other")
            await connect(here, there, b"one")
            await asyncio.wait_for(handler.accepted.get(), PATIENCE)
        assert "a handshake failed: " in caplog.text

    async def test_a_handshake_that_never_ends_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: asyncio.Queue[str] = asyncio.Queue()
        limits = Limits(handshake_seconds=1e-9)
        monkeypatch.setattr(module.logger, "info", lambda text, *values: lines.put_nowait(text % values))
        async with endpoints() as (here, there), Router(there, limits=limits).accept(b"one", handler := Handler()):
            connecting = asyncio.ensure_future(here.connect(parse_remote(ticket_of(there)), b"one"))
            assert await asyncio.wait_for(lines.get(), PATIENCE) == "a handshake failed: timed out"
            assert handler.accepted.empty()
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)

    async def test_mistakes_of_the_caller(self) -> None:
        with pytest.raises(InvalidType, match="endpoint must be"):
            Router("endpoint")  # type: ignore[arg-type]
        async with bare_endpoint() as endpoint:
            router = Router(endpoint)
            wrong: Any = "one"
            with pytest.raises(InvalidType, match="an ALPN must be bytes, not str"):
                router.accept(wrong, Handler())
            with pytest.raises(InvalidType, match="accept and shutdown; NoneType has not"):
                router.accept(b"one", None)  # type: ignore[arg-type]
            router.accept(b"one", Handler())
            with pytest.raises(InvalidArgument, match="a handler for b'one' already"):
                router.accept(b"one", Handler())
            async with router:
                with pytest.raises(InvalidArgument, match="before spawn"):
                    router.accept(b"two", Handler())

    async def test_it_ends_with_the_endpoint(self) -> None:
        handler = Handler()
        async with bare_endpoint() as endpoint:
            router = Router(endpoint).accept(b"one", handler).spawn()
        await asyncio.wait_for(router.shutdown(), PATIENCE)
        assert handler.shut_down == 1


class TestThePackagesOwn:
    """The handler in the router that `iroh.EndpointOptions(protocols=...)` binds."""

    async def test_it_hands_over_connections_too(self) -> None:
        class Creator(ProtocolCreator):
            moq: Moq

            def create(self, endpoint: Endpoint) -> ProtocolHandler:
                self.moq = Moq(endpoint)
                return self.moq.protocol_handler()

        package: Any = iroh_ffi
        package.uniffi_set_event_loop(asyncio.get_running_loop())
        # The package's callbacks call `call_soon` from its own threads, to which the debug mode objects.
        asyncio.get_running_loop().set_debug(False)
        creator = Creator()
        endpoint = await Endpoint.bind(
            EndpointOptions(
                preset=preset_minimal(),
                relay_mode=RelayMode.disabled(),
                bind_addr="127.0.0.1:0",
                protocols={ALPN: creator},
            )
        )
        try:
            async with creator.moq as moq, bound() as viewer, asyncio.timeout(PATIENCE):
                broadcast = BroadcastProducer()
                track = broadcast.create_track("video")
                await moq.publish("cam", broadcast)
                incoming = moq.incoming_sessions()
                session = await viewer.connect(moq.ticket())
                assert await incoming.next() is not None
                reader = (await session.subscribe("cam")).subscribe_track("video")
                await track.used()
                track.write_frame(b"hello")
                assert await reader.read_frame() == b"hello"
        finally:
            await endpoint.close()
            package.uniffi_set_event_loop(None)

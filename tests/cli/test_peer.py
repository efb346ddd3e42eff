"""What the commands that read have in common: finding a peer and its broadcast, and how they end while they do."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator

import pytest
from iroh import EndpointAddr, EndpointId, EndpointTicket

from iroh_moq import BroadcastProducer
from tests.cli.processes import LOOPBACK, STRANGER, assert_wrong_usage, finished, started
from tests.endpoints import PATIENCE, bound

_ALL = pytest.mark.parametrize("command", ["list", "subscribe", "watch"])
_OF_A_BROADCAST = pytest.mark.parametrize("command", ["subscribe", "watch"])


def _arguments(command: str, ticket: str, name: str = "x") -> list[str]:
    return [command, *LOOPBACK, ticket, *([] if command == "list" else [name])]


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, str]]:
    """A socket where nobody answers, and a ticket that leads to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        address = EndpointAddr(EndpointId.from_string(STRANGER), None, [f"127.0.0.1:{listener.getsockname()[1]}"])
        yield listener, str(EndpointTicket.from_addr(address))


async def test_a_peer_that_does_not_answer(silent: tuple[socket.socket, str]) -> None:
    # All at once, as each takes a while to give up its attempt.
    outcome = await asyncio.gather(
        *(finished(*_arguments(command, silent[1]), "--timeout", "0.3") for command in ("list", "subscribe", "watch"))
    )
    for ended in outcome:
        assert (ended.code, ended.output) == (3, b"")
        assert "did not answer within 0.3 s. Is it still running" in ended.errors


async def test_interrupted_while_the_peer_does_not_answer(silent: tuple[socket.socket, str]) -> None:
    listener, ticket = silent
    async with started(*_arguments("list", ticket)) as process:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_recv(listener, 2048)
        process.signal(signal.SIGINT)
        ended = await process.ends()
    assert (ended.code, ended.output, ended.errors) == (130, b"", "")


@_ALL
async def test_a_peer_that_nobody_knows_the_address_of(command: str) -> None:
    ended = await finished(*_arguments(command, STRANGER))
    assert (ended.code, ended.output) == (3, b"")
    assert ended.errors.startswith("Error: ")


@_ALL
async def test_a_peer_that_refuses(command: str) -> None:
    async with bound(authorize=lambda _: False) as strict:
        ended = await finished(*_arguments(command, strict.ticket()))
    assert (ended.code, ended.output) == (3, b"")
    assert "unauthorized" in ended.errors


@_OF_A_BROADCAST
async def test_a_broadcast_that_never_comes(command: str) -> None:
    async with bound() as moq:
        await moq.publish("y", BroadcastProducer())
        ended = await finished(*_arguments(command, moq.ticket()), "--timeout", "3")
    assert (ended.code, ended.output) == (4, b"")
    assert ended.errors == "Error: broadcast 'x' did not come within 3 s. `iroh-moq list` shows what there is.\n"


@_OF_A_BROADCAST
async def test_a_track_that_is_not_there(command: str) -> None:
    async with bound() as moq:
        await moq.publish("x", BroadcastProducer())
        ended = await finished(*_arguments(command, moq.ticket()), "--track", "odd")
    assert ended.code == 4
    assert "Name the track with --track." in ended.errors


@_OF_A_BROADCAST
async def test_a_broadcast_that_comes_later(command: str) -> None:
    """The peer is there, the broadcast is not yet; it has one track, which ends at once."""
    async with bound() as moq:
        incoming = moq.incoming_sessions()
        async with started(*_arguments(command, moq.ticket())) as process:
            async with asyncio.timeout(PATIENCE):
                assert await incoming.next() is not None
            broadcast = BroadcastProducer()
            track = broadcast.create_track("data")
            await moq.publish("x", broadcast)
            async with asyncio.timeout(PATIENCE):
                await track.used()
            track.finish()
            assert (await process.ends()).code == 0


@pytest.mark.parametrize("command", ["list", "subscribe", "watch"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupted_while_it_waits(command: str, number: signal.Signals, code: int) -> None:
    async with bound() as moq:
        incoming = moq.incoming_sessions()
        async with started(*_arguments(command, moq.ticket())) as process:
            async with asyncio.timeout(PATIENCE):
                assert await incoming.next() is not None
            process.signal(number)
            ended = await process.ends()
    assert (ended.code, ended.output, ended.errors) == (code, b"", "")


@_ALL
@pytest.mark.parametrize("ticket", ["", "nonsense", "endpointabc", "ab" * 31])
def test_a_ticket_that_is_none(command: str, ticket: str) -> None:
    assert_wrong_usage(f"Error: '{ticket[:8]}", *_arguments(command, ticket))
    complaint = "is not a whole ticket" if ticket.startswith("endpoint") else "' is neither a ticket"
    assert_wrong_usage(complaint, *_arguments(command, ticket))


@_OF_A_BROADCAST
def test_a_name_that_cannot_be(command: str) -> None:
    assert_wrong_usage("at most", *_arguments(command, STRANGER, "a" + "/b" * 40))

"""``iroh-moq list``."""

from __future__ import annotations

import asyncio
import os
import re

import pytest
from iroh import EndpointAddr

from iroh_moq import BroadcastProducer, ServerError
from tests.cli.processes import LOOPBACK, finished, pipe, started
from tests.cli.publisher import Publisher
from tests.endpoints import PATIENCE, bound


async def test_broadcasts_come_and_go() -> None:
    first, second = BroadcastProducer(), BroadcastProducer()
    async with bound() as moq, started("list", *LOOPBACK, moq.ticket()) as process:
        await moq.publish("room/ann", first)
        assert await process.line() == "+ room/ann"
        await moq.publish("room/bob", second)
        assert await process.line() == "+ room/bob"
        await moq.unpublish("room/ann")
        assert await process.line() == "- room/ann"
        second.finish()
        assert await process.line() == "- room/bob"
        await moq.publish("room/ann", first)
        assert await process.line() == "+ room/ann"
        await moq.shutdown()
        ended = await process.ends()
    assert (ended.code, ended.output, ended.errors) == (0, b"- room/ann\n", "the peer has ended\n")


async def test_json() -> None:
    async with bound() as moq, started("list", *LOOPBACK, "--json", moq.ticket()) as process:
        await moq.publish("x", BroadcastProducer())
        assert await process.json() == {"event": "announced", "name": "x"}
        await moq.unpublish("x")
        assert await process.json() == {"event": "ended", "name": "x"}


async def test_a_broadcast_that_was_replaced() -> None:
    old, new = BroadcastProducer(), BroadcastProducer()
    async with bound() as moq, started("list", *LOOPBACK, moq.ticket()) as process:
        await moq.publish("x", old)
        assert await process.line() == "+ x"
        await moq.publish("x", new)
        assert [await process.line() for _ in range(2)] == ["- x", "+ x"]


async def test_what_there_is_now() -> None:
    names = {"a b", "a/b", "c", "z"}
    async with bound() as moq:
        for name in names:
            await moq.publish(name, BroadcastProducer())
        once, as_json = await asyncio.gather(
            finished("list", *LOOPBACK, moq.ticket(), "--once"),
            finished("list", *LOOPBACK, moq.ticket(), "--once", "--json"),
        )
    assert (once.code, once.errors, as_json.code, as_json.errors) == (0, "", 0, "")
    assert sorted(once.text.splitlines()) == sorted(names)
    assert sorted(line["name"] for line in as_json.json) == sorted(names)
    assert {line["event"] for line in as_json.json} == {"announced"}


async def test_there_is_nothing_now() -> None:
    async with bound() as moq:
        ended = await finished("list", *LOOPBACK, moq.ticket(), "--once")
    assert (ended.code, ended.output, ended.errors) == (0, b"", "")


@pytest.mark.parametrize("how", [[], ["--once"], ["--json"]])
async def test_nothing_comes_in_time(how: list[str]) -> None:
    async with bound() as moq:
        ended = await finished("list", *LOOPBACK, moq.ticket(), "--timeout", "3", *how)
    assert (ended.code, ended.output) == (4, b"")
    assert ended.errors == "Error: no broadcast was announced within 3 s\n"


async def test_the_first_broadcast_may_take_as_long_as_the_timeout() -> None:
    """With `--once` as well, which otherwise takes silence for the end of the list."""
    async with bound() as moq:
        incoming = moq.incoming_sessions()
        async with started("list", *LOOPBACK, moq.ticket(), "--once", "--timeout", str(PATIENCE)) as process:
            async with asyncio.timeout(PATIENCE):
                assert await incoming.next() is not None
            # Longer than the silence after which the list would be over.
            await asyncio.sleep(0.7)
            await moq.publish("x", BroadcastProducer())
            ended = await process.ends()
    assert (ended.code, ended.output) == (0, b"x\n")


async def test_names_cannot_control_the_terminal() -> None:
    name = "\x1b[2J\n\u202eü"
    async with bound() as moq:
        await moq.publish(name, BroadcastProducer())
        plain, as_json = await asyncio.gather(
            *(finished("list", *LOOPBACK, moq.ticket(), "--once", *how) for how in ([], ["--json"]))
        )
    assert plain.text == "\\x1b[2J\\n\\u202eü\n"
    # Programs get it as it is.
    assert as_json.json[0]["name"] == name


async def test_the_peer_closes_with_an_error() -> None:
    async with bound() as moq:
        incoming = moq.incoming_sessions()
        async with started("list", *LOOPBACK, moq.ticket()) as process:
            await moq.publish("x", BroadcastProducer())
            assert await process.line() == "+ x"
            session = await incoming.next()
            assert session is not None
            session.accept().close(7, "out of order")
            ended = await process.ends()
    assert (ended.code, ended.output) == (5, b"- x\n")
    assert re.fullmatch("Error: the stream broke off: .*code 7, out of order.*\n", ended.errors)


async def test_the_reader_of_its_output_goes() -> None:
    with pipe() as (read, write):
        async with bound() as moq, started("list", *LOOPBACK, moq.ticket(), stdout=write) as process:
            await moq.publish("x", BroadcastProducer())
            assert await asyncio.to_thread(os.read, read, 4) == b"+ x\n"
            os.close(read)
            await moq.unpublish("x")
            ended = await process.ends()
    assert ended.code == 7
    assert ended.errors == "Error: the reader of the output has gone, so the rest was not written\n"


async def test_nobody_gets_in_at_one_who_reads(publisher: Publisher) -> None:
    async with publisher.read_by("watch", "--json") as (_, session), bound() as other:
        addresses = [path.remote for path in session.stats().paths]
        with pytest.raises(ServerError, match="unauthorized"):
            await asyncio.wait_for(other.connect(EndpointAddr(session.remote_id(), None, addresses)), PATIENCE)

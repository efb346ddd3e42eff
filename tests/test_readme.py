"""What the README shows does what it says."""

from __future__ import annotations

import asyncio
import builtins
import re
import sys
import textwrap
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest
from iroh import EndpointAddr

import iroh_moq
from tests.conftest import within
from tests.endpoints import PATIENCE, bare_endpoint, bound, next_news, published, subscribed
from tests.examples.programs import interruptible

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAM, BESIDE_AN_ENDPOINT, MORE, COMES_BACK, WHO_MAY, HOW_MUCH = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


async def test_the_program_at_a_prompt() -> None:
    """Pasted line by line, as a newcomer does it."""
    with interruptible():
        prompt = await asyncio.create_subprocess_exec(
            *(sys.executable, "-i", "-q"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
    try:
        async with within(PATIENCE):
            output, _ = await prompt.communicate(PROGRAM.encode() + b"\n")
    finally:
        if prompt.returncode is None:
            prompt.kill()
            await prompt.wait()
    text = output.decode()
    assert "Error" not in text, text
    assert "0 b'a key frame'\n0 b'what has changed since'\n" in text


async def test_beside_an_endpoint_of_ones_own() -> None:
    source = "async def program(endpoint, friends):\n" + textwrap.indent(BESIDE_AN_ENDPOINT, "    ")
    names: dict[str, Any] = dict(vars(iroh_moq))
    exec(f"{source}        return moq, router, session\n", names)
    async with bare_endpoint() as endpoint, bound() as friend, within(PATIENCE):
        program = asyncio.ensure_future(names["program"](endpoint, {str(friend.id())}))
        session = await friend.connect(EndpointAddr(endpoint.id(), None, endpoint.bound_sockets()))
        moq, router, incoming = await program
        assert incoming.remote_id() == friend.id()
        await moq.shutdown()
        await router.shutdown()
        assert (await session.closed()).code == 0


async def test_who_may_do_what() -> None:
    names = "endpoint, friends, alice, ticket, lobby, private, drop"
    source = f"async def program({names}):\n" + textwrap.indent(WHO_MAY, "    ")
    scope: dict[str, Any] = dict(vars(iroh_moq))
    exec(f"{source}    return moq, session\n", scope)
    async with bare_endpoint() as endpoint, bound() as alice, bound() as bob, within(PATIENCE):
        broadcasts = [iroh_moq.BroadcastProducer() for _ in range(3)]
        friends = {str(alice.id()), str(bob.id())}
        program = scope["program"](endpoint, friends, alice.id(), bob.ticket(), *broadcasts)
        moq, session = await program
        assert session.access == iroh_moq.Access(publish=["cam"], subscribe=[])
        router = iroh_moq.Router(endpoint).accept(iroh_moq.ALPN, moq.protocol_handler()).spawn()
        address = EndpointAddr(endpoint.id(), None, endpoint.bound_sockets())
        news = (await alice.connect(address)).origin_consumer()
        assert {(await next_news(news))[0] for _ in range(2)} == {"room/lobby", "room/private"}
        await moq.shutdown()
        await router.shutdown()


async def test_how_much_a_peer_may_take() -> None:
    source = "async def program(endpoint):\n" + textwrap.indent(HOW_MUCH, "    ")
    scope: dict[str, Any] = dict(vars(iroh_moq))
    exec(f"{source}    return moq, router\n", scope)
    async with bare_endpoint() as endpoint, bound() as viewer, within(PATIENCE):
        moq, router = await scope["program"](endpoint)
        await viewer.connect(EndpointAddr(endpoint.id(), None, endpoint.bound_sockets()))
        await moq.shutdown()
        await router.shutdown()


async def test_sessions_that_come_back() -> None:
    source = "async def program(moq, ticket, print):\n" + textwrap.indent(COMES_BACK, "    ")
    scope: dict[str, Any] = dict(vars(iroh_moq))
    exec(source, scope)
    said: list[str] = []
    async with bound() as moq, bound() as peer, within(PATIENCE):
        incoming = peer.incoming_sessions()
        program = asyncio.ensure_future(scope["program"](moq, peer.ticket(), said.append))
        for times, code in enumerate((0, 5), 1):
            other = await incoming.next()
            assert other is not None
            while said.count("connected") < times:  # noqa: ASYNC110 - there is no more to go by
                await asyncio.sleep(0.01)
            other.accept().close(code)
        await program
    assert said[0] == "connected"
    assert said[-1] == "closed"
    assert "reconnecting" in said


def test_every_promise_names_a_test_that_is_there() -> None:
    table = README[README.index("## What you can rely on") : README.index("## Sessions that come back")]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        shown = re.findall(r"\[(\w[\w.]*)\]\((tests/[\w/.]+)\)", row.rsplit("|", 2)[1])
        assert shown, row
        for name, path in shown:
            source = (Path(__file__).parent.parent / path).read_text()
            assert path.endswith(f"/{name}") or f"class {name}:" in source, (name, path)


async def test_more_than_frames(capsys: pytest.CaptureFixture[str]) -> None:
    source = "async def program(video, consumer, track, picture, position):\n" + textwrap.indent(MORE, "    ")
    names: dict[str, Any] = {}
    # The loop over datagrams has no end of its own here.
    source = source.replace("timestamp)\n    info", "timestamp)\n        break\n    info")
    exec(f"{source}    return frame, group, info\n", names)
    async with bound() as camera, bound() as viewer, within(PATIENCE):
        _, video = await published(camera)
        for _ in range(8):
            video.write_frame(b"past")
        _, consumer = await subscribed(camera, viewer)
        track = consumer.subscribe_track("video")
        assert await track.read_frame() == b"past"
        frame, group, info = await names["program"](video, consumer, track, b"picture", b"position")
        assert frame == (b"picture", 12.5)
        assert (group.sequence, await group.read_all()) == (7, b"past")
        assert info.timescale == 1_000_000
    assert capsys.readouterr().out.startswith("9 b'position' ")


def test_the_errors_are_all_there() -> None:
    table = README[README.index("## Errors") : README.index("## Development")]
    for name in re.findall(r"`([A-Z]\w+)`", table):
        assert hasattr(iroh_moq, name) or hasattr(builtins, name), name

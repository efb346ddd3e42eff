"""Peers that dial each other at once, and peers that vanish."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from ..harness.link import BROADCAST, TRACK, Link, Party, Reading, sequences
from ..harness.pairs import Pair
from ..harness.process import PeerProcess

LOST_AFTER = 45.0
"""Seconds after which a peer that has vanished must have been noticed: QUIC's idle timeout is 30."""


@pytest.mark.core
async def test_both_dial_at_once(duo: Link) -> None:
    """One connection survives, the same on both sides, and carries data; nobody gets an error."""
    ours, theirs = duo.publisher, duo.subscriber
    if ours.kind.is_rust:
        ours, theirs = theirs, ours
    accepting = [party.begin("accept") for party in (ours, theirs)]
    dialling = [
        ours.begin("dial", **theirs.where),
        theirs.begin("dial", **ours.where),
    ]
    dialled = [(await dial)["session"] for dial in dialling]
    await ours.publish()
    # Whichever is left at the other side hears of it, and can read it.
    at_theirs = [dialled[1]]
    # With moq-lite-05 it may have been closed in the middle of what the two have to say at first.
    if accepting[1].done() and theirs.kind.is_rust and accepting[1].exception() is None:
        at_theirs.append(accepting[1].result()["session"])
    if len(at_theirs) == 2:
        closed = {theirs.begin("closed", session=number): number for number in at_theirs}
        over, _ = await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
        assert len(over) == 1, "both connections were closed"
        at_theirs.remove(closed[over.pop()])
        for waiting in closed:
            waiting.cancel()
    answer = await theirs.call("subscribe", session=at_theirs[0], broadcast=BROADCAST, track=TRACK)
    await ours.used()
    await ours.write(3)
    assert sequences(await Reading(theirs, answer["subscription"]).read(3)) == [0, 1, 2]
    for accept in accepting:
        accept.cancel()
    await asyncio.gather(*accepting, return_exceptions=True)


@dataclass
class Vanishing:
    """What a subscriber saw of a publisher that vanished."""

    closed: dict[str, Any]
    read: dict[str, Any]


async def _watch(version: str, pair: Pair, how: str) -> Vanishing:
    """A publisher that is killed, or falls silent, while a subscriber reads."""
    processes = [
        await PeerProcess.start(kind.command(), kind.environment(), f"{kind.value} {how}")
        for kind in (pair.publisher, pair.subscriber)
    ]
    publisher, subscriber = (
        Party(kind, process, version)
        for kind, process in zip((pair.publisher, pair.subscriber), processes, strict=True)
    )
    try:
        await publisher.bind()
        await subscriber.bind()
        link = Link(version, publisher, subscriber, pair.publisher_dials)
        await link.connect()
        await publisher.publish()
        reading = await link.subscribe()
        await publisher.used()
        await publisher.write(1)
        await reading.read(1)
        reports = reading.begin(patience=LOST_AFTER)
        closed = subscriber.begin("closed", session=link.at_subscriber, patience=LOST_AFTER)
        if how == "killed":
            await publisher.process.kill()
        else:
            publisher.process.pause()
        return Vanishing(await closed, await reports)
    finally:
        for process in processes:
            await process.kill()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vanishings(request: pytest.FixtureRequest) -> dict[tuple[str, str, str], asyncio.Task[Vanishing]]:
    """All of them at once, as each takes half a minute."""
    cases = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen: list[dict[str, Any]] = [
        dict(case.callspec.params) for case in cases if case.originalname == "test_vanished"
    ]
    return {
        (case["version"], case["pair"].name, case["how"]): asyncio.get_running_loop().create_task(
            _watch(case["version"], case["pair"], case["how"])
        )
        for case in chosen
    }


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_vanished(
    vanishings: dict[tuple[str, str, str], asyncio.Task[Vanishing]], version: str, pair: Pair, how: str
) -> None:
    """A peer that is killed, or says nothing any more, is noticed: the session ends, and readers learn it."""
    seen = await vanishings[version, pair.name, how]
    assert seen.closed["code"] is None
    assert not seen.closed["local"]
    assert seen.read["end"] != "finished"

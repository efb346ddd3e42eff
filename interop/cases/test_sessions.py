"""Sessions: how they begin and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from ..harness.link import Link, Party, sequences
from ..harness.process import PeerError
from ..harness.versions import offered

REJECTED = {"code": 1, "reason": "rejected", "local": False}


@pytest.mark.core
async def test_session_up(link: Link) -> None:
    """Both sides agree on the version and know each other's id: `connect` has looked."""
    assert link.at_publisher >= 0
    assert link.at_subscriber >= 0


@pytest.mark.core
@pytest.mark.parametrize("closing", ["publisher", "subscriber"])
@pytest.mark.parametrize(("code", "reason"), [(0, ""), (42, "enough for today"), (2**32 - 1, "größer geht nicht")])
async def test_close_code(link: Link, closing: str, code: int, reason: str) -> None:
    """The other side learns the code and the reason."""
    sides = [(link.publisher, link.at_publisher), (link.subscriber, link.at_subscriber)]
    (here, mine), (there, theirs) = sides if closing == "publisher" else reversed(sides)
    closed = there.begin("closed", session=theirs)
    await here.call("close", session=mine, code=code, reason=reason)
    assert await closed == {"code": code, "reason": reason, "local": False}


@pytest.mark.core
async def test_rejected(duo: Link) -> None:
    """A session that is turned away says so, with code 1."""
    sides = (duo.publisher, duo.subscriber)
    dialling, accepting = sides if duo.publisher_dials else reversed(sides)
    rejecting = accepting.begin("accept", how="reject")
    assert await _refusal(dialling, accepting) == REJECTED
    await rejecting


@pytest.mark.core
@pytest.mark.parametrize("old", ["dialling", "accepting"])
async def test_the_newest_version_of_both(duo: Link, old: str) -> None:
    """One side has this version and those before it, the other one all: they talk in this one."""
    sides = (duo.publisher, duo.subscriber)
    dialling, accepting = sides if duo.publisher_dials else reversed(sides)
    every = offered()
    until = every[: every.index(duo.version) + 1]
    await dialling.bind(versions=until if old == "dialling" else every)
    await accepting.bind(versions=until if old == "accepting" else every)
    await duo.connect()
    await duo.publisher.publish()
    reading = await duo.subscribe()
    await duo.publisher.used()
    assert await duo.publisher.write() == sequences(await reading.read(1))


async def _refusal(dialling: Party, accepting: Party) -> dict[str, Any]:
    """What the dialling side learns: from the attempt, or from the session, if there was one for a moment."""
    try:
        dialled = await dialling.call("dial", **accepting.where)
    except PeerError as error:
        if error.kind == "server":
            return {"code": error.code, "reason": "rejected" if "rejected" in error.text else "", "local": False}
        raise
    return await dialling.call("closed", session=dialled["session"])

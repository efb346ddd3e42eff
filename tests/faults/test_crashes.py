"""The part `crashes`: that it sees what goes wrong in a transfer, and takes it up where it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faults.crashes.trial import Crash, run_trial
from faults.transfer import FILE, Content, Gap, Gate, digest_of, offer, take, write
from tests.conftest import within

CONTENT = Content(1, groups=20, size=500)


async def test_a_file_that_is_not_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Content, "digest", lambda _: "another")
    crash = Crash("subscribe", "kill", groups=3, seconds=0.0, silence=1.0)
    async with within(100):
        outcome = await run_trial(crash, CONTENT, 0.01, 60.0, 1)
    assert [claim for claim, _ in outcome.wrong] == ["the transfer ends with the right SHA-256"]


async def test_a_transfer_that_never_ends() -> None:
    crash = Crash("subscribe", "freeze", groups=21, seconds=0.0, silence=None)
    async with within(100):
        outcome = await run_trial(crash, CONTENT, 0.0, 5.0, 2)
    assert [claim for claim, _ in outcome.wrong] == ["the transfer ends with the right SHA-256"]


class TestTransfer:
    async def test_it_goes_on_where_it_was(self, tmp_path: Path) -> None:
        broadcast, file, taken = offer(), tmp_path / "file", list[int]()
        await write(CONTENT, broadcast, 0.0, 0.0, Gate(20))
        # Three groups and a half.
        file.write_bytes(b"".join(CONTENT.group(number) for number in range(4))[:1750])
        async with within():
            await take(CONTENT, broadcast.consume(), file, taken.append)
        assert taken == list(range(4, 21))
        assert digest_of(file) == CONTENT.digest()

    async def test_a_gap_is_one(self, tmp_path: Path) -> None:
        broadcast = offer()
        track = broadcast.create_track(FILE)
        for sequence in (0, 2):
            with track.create_group(sequence) as group:
                group.write_frame(CONTENT.group(sequence))
        async with within():
            with pytest.raises(Gap, match="group 2 of 500 bytes where 1 was due"):
                await take(CONTENT, broadcast.consume(), tmp_path / "file", lambda _: None)

    async def test_an_end_that_comes_too_early(self, tmp_path: Path) -> None:
        broadcast = offer()
        broadcast.create_track(FILE).finish()
        async with within():
            with pytest.raises(Gap, match="after 0 of 20 groups"):
                await take(CONTENT, broadcast.consume(), tmp_path / "file", lambda _: None)

    async def test_groups_come_at_their_times(self) -> None:
        broadcast = offer()
        writing = asyncio.ensure_future(write(CONTENT, broadcast, 1e12, 1.0, Gate(20)))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        assert broadcast._state.tracks[FILE].latest is None

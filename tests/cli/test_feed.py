"""Tracks that are written from files, to readers who stay and readers who do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from iroh_moq import BroadcastProducer
from iroh_moq.aio import reap
from iroh_moq.cli.feed import parse_feeds
from tests.conftest import within


async def test_a_file_is_offered_until_somebody_has_had_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it was written long before the first reader has gone."""
    file = tmp_path / "file"
    file.write_bytes(b"all of it")
    broadcast = BroadcastProducer()
    (feed,) = parse_feeds(broadcast, str(file), [], [])
    running = asyncio.ensure_future(feed.run(reliable=True))
    try:
        for delivered in range(2):
            async with within(), broadcast.consume().subscribe_track("data", ordered=True, start_group=0) as reader:
                assert await reader.read_frame() == b"all of it"
                assert await reader.read_frame() is None
                first = feed.track
                # What the connection to a peer would say.
                feed.track._state.delivered = delivered
            if not delivered:
                async with within():
                    while feed.track is first:  # noqa: ASYNC110 - nothing tells
                        await asyncio.sleep(0.001)
        async with within():
            await running
    finally:
        await reap(running)
    assert capsys.readouterr().err.count("the next subscriber gets it from the beginning") == 1
    assert feed.meter.bytes == len(b"all of it")
    assert not feed.is_cut_off

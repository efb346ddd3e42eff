"""``iroh-moq publish``, and what comes out at ``iroh-moq subscribe``."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cli.processes import LOOPBACK, Process, finished, publishing, started, subscribed
from tests.examples.programs import PATIENCE

_CONTENT = random.Random(1).randbytes(3_000_001)
_LINES = b"".join(b"line %d\n" % number for number in range(2500)) + b"a last one without an end"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a file"
    path.write_bytes(_CONTENT)
    return str(path)


# What goes in comes out

_GROUPINGS = {
    "chunks": (None, None),
    "bytes:1M": (3, None),
    "bytes:64k": (46, None),
    "bytes:1000000": (4, None),
    "frames:1000": (3001, 3001),
    "frames:1000x100": (31, 3001),
    "lines": (None, None),
    "lines:1000": (None, None),
}
"""How many groups and frames each makes of the content, where that does not depend on how it arrives."""


@pytest.mark.parametrize("grouping", _GROUPINGS)
async def test_standard_input(grouping: str) -> None:
    async with publishing("x", "--reliable", "--group", grouping) as (publisher, ticket):
        published, received = await asyncio.gather(
            publisher.ends(_CONTENT), subscribed(ticket, "x", "--reliable", "--json")
        )
    assert (published.code, received.code) == (0, 0)
    assert received.output == _CONTENT
    sent = published.json[-1]
    assert sent["event"] == "finished"
    counts = sent["tracks"]["data"]
    assert {key: received.summary[key] for key in counts} == counts
    assert received.summary["missing"] == 0
    groups, frames = _GROUPINGS[grouping]
    assert groups in (None, counts["groups"])
    assert frames in (None, counts["frames"])


async def test_a_file(file: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(b"what was there before")
    async with publishing("x", "--reliable", "--file", file) as (publisher, ticket):
        received = await subscribed(ticket, "x", "--reliable", "--json", "--output", str(copy))
        assert (await publisher.ends()).code == 0
    assert (received.code, received.errors) == (0, "")
    assert copy.read_bytes() == _CONTENT
    # Files are cut by default, so that it does not matter how fast they are read.
    (summary,) = received.json
    assert (summary["groups"], summary["bytes"], summary["missing"]) == (3, len(_CONTENT), 0)
    assert summary["bytes_per_second"] == summary["bytes"] / summary["seconds"]


async def test_standard_input_that_is_a_file(file: str) -> None:
    with open(file, "rb") as data:  # noqa: ASYNC230 - it is only opened
        async with publishing("x", "--reliable", stdin=data.fileno()) as (publisher, ticket):
            received = await subscribed(ticket, "x", "--reliable", "--json")
            assert (await publisher.ends()).code == 0
    assert received.output == _CONTENT
    assert received.summary["groups"] == 3


async def test_lines_are_groups(tmp_path: Path) -> None:
    async with publishing("x", "--reliable", "--group", "lines:100") as (publisher, ticket):
        published, received = await asyncio.gather(
            publisher.ends(_LINES), subscribed(ticket, "x", "--reliable", "--frames", "lines")
        )
    assert published.json[-1]["tracks"]["data"] == {"groups": 26, "frames": 2501, "bytes": len(_LINES)}
    # The one that had no end has got one.
    assert received.output == _LINES + b"\n"


async def test_frames_of_ones_own() -> None:
    frames = [b"one", b"", b"three" * 100_000, b"four"]
    stream = b"".join(len(frame).to_bytes(4) + frame for frame in (frames[0], frames[2])) + bytes(4)
    stream += len(frames[3]).to_bytes(4) + frames[3] + bytes(4)
    async with publishing("x", "--reliable", "--group", "framed") as (publisher, ticket):
        published, received = await asyncio.gather(
            publisher.ends(stream), subscribed(ticket, "x", "--reliable", "--frames", "framed")
        )
    assert published.json[-1]["tracks"]["data"]["groups"] == 2
    assert received.output == stream


@pytest.mark.parametrize("reliable", [True, False])
async def test_nothing(reliable: bool) -> None:
    """An empty input is a track without groups."""
    how = ("--reliable",) if reliable else ()
    async with publishing("x", *how) as (publisher, ticket):
        async with started("subscribe", *LOOPBACK, "--json", ticket, "x", *how) as subscriber:
            if not reliable:
                # Nobody is waited for, so the input must not end before somebody is there.
                await _watched(ticket)
            published, received = await asyncio.gather(publisher.ends(), subscriber.ends())
    assert (published.code, received.code, received.output) == (0, 0, b"")
    assert received.summary["groups"] == 0
    assert received.summary["bytes_per_second"] is None


async def _watched(ticket: str) -> None:
    """Returns once what is published has been there for a while that `list` calls quiet."""
    assert (await finished("list", *LOOPBACK, "--once", ticket)).code == 0


async def test_live() -> None:
    async with publishing("x", "--group", "lines") as (publisher, ticket):
        await publisher.write(b"before anybody is there\n")
        async with started("subscribe", *LOOPBACK, ticket, "x") as subscriber:
            # Who comes late starts at the latest group.
            assert await subscriber.line() == "before anybody is there"
            for number in range(5):
                await publisher.write(b"%d\n" % number)
                assert await subscriber.line() == str(number)
            published, received = await asyncio.gather(publisher.ends(b"the end\n"), subscriber.ends())
        assert (published.code, received.code) == (0, 0)
        assert received.output == b"the end\n"
        assert re.fullmatch(r"received 42 B in 7 groups, .*\n", received.errors)


async def test_many_subscribers(file: str) -> None:
    """All that come before the input ends get it whole: the publisher waits for the slowest."""
    async with publishing("x", "--reliable") as (publisher, ticket):
        await publisher.write(b"first")
        async with _subscribers(ticket, 3) as subscribers:
            for subscriber in subscribers:
                assert await subscriber.read(5) == b"first"
            published, *received = await asyncio.gather(
                publisher.ends(_CONTENT), *(subscriber.ends() for subscriber in subscribers)
            )
    assert published.code == 0
    assert [(ended.code, ended.output == _CONTENT) for ended in received] == [(0, True)] * 3


@asynccontextmanager
async def _subscribers(ticket: str, count: int) -> AsyncIterator[list[Process]]:
    if not count:
        yield []
        return
    async with (
        started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as first,
        _subscribers(ticket, count - 1) as others,
    ):
        yield [first, *others]


async def test_it_waits_until_all_has_been_written_out(file: str) -> None:
    """What the publisher has got rid of may still be on its way to a slow reader."""
    async with publishing("x", "--reliable", "--file", file) as (publisher, ticket):
        async with started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as subscriber:
            begin = await subscriber.read(1000)
            # The pipe holds up the rest, which is less than what the connection takes ahead.
            await _watched(ticket)
            received = await subscriber.ends()
            published = await publisher.ends()
    assert (published.code, received.code) == (0, 0), received.errors
    assert begin + received.output == _CONTENT


async def test_a_second_subscriber_of_a_stream_under_way_misses_its_beginning() -> None:
    async with publishing("x", "--reliable", "--group", "bytes:1M") as (publisher, ticket):
        async with started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as first:
            # More than a publisher keeps for those who may come.
            for _ in range(24):
                await publisher.write(bytes(1 << 20))
                await first.read(1 << 20)
            async with started("subscribe", *LOOPBACK, "--json", ticket, "x", "--reliable") as second:
                await second.read(1)
                _, early, late = await asyncio.gather(publisher.ends(), first.ends(), second.ends())
    assert early.code == 0
    assert late.code == 6, late.errors
    missing = late.summary["missing"]
    assert missing > 0
    assert late.summary["groups"] == 24 - missing
    assert f"Error: {missing} groups are missing" in late.errors


# Tracks


async def test_several_tracks(file: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(_LINES)
    options = (
        *("--track", f"video={file}", "--track", f"log={tmp_path / 'log'}", "--track", "typed"),
        *("--group", "bytes:500k", "--group", "log=lines"),
    )
    async with publishing("x", "--reliable", *options) as (publisher, ticket):
        outcome = await asyncio.gather(
            publisher.ends(b"some bytes"),
            *(subscribed(ticket, "x", "--reliable", "--track", track) for track in ("video", "log", "typed")),
        )
    assert [ended.code for ended in outcome] == [0] * 4
    published, *received = outcome
    assert [ended.output for ended in received] == [_CONTENT, _LINES, b"some bytes"]
    counts = published.json[-1]["tracks"]
    assert {name: track["groups"] for name, track in counts.items()} == {"video": 6, "log": 2501, "typed": 1}


async def test_a_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with publishing("x", "--reliable", "--track", f"video={pipe}") as (publisher, ticket):
        # It is published before anybody writes to the pipe.
        writing = asyncio.create_task(asyncio.to_thread(pipe.write_bytes, _CONTENT))
        received = await subscribed(ticket, "x", "--reliable", "--track", "video")
        await writing
        assert (await publisher.ends()).code == 0
    assert received.output == _CONTENT


async def test_it_says_how_to_subscribe(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    tracks = ("--track", "data", "--track", f"odd name={tmp_path / 'empty'}")
    async with started("publish", *LOOPBACK, "a room/x", "--reliable", *tracks) as publisher:
        assert (await publisher.error_line()).startswith("Broadcast a room/x is published")
        first, second = [shlex.split(await publisher.error_line()) for _ in range(2)]
        assert second == [*first[:4], "--track", "odd name", *first[4:]]
        assert first[0] == "iroh-moq"
        outcome = await asyncio.gather(publisher.ends(b"some bytes"), finished(*first[1:]), finished(*second[1:]))
    assert [ended.code for ended in outcome] == [0] * 3
    assert [ended.output for ended in outcome] == [b"", b"some bytes", b""]
    said = outcome[0].errors.splitlines()
    assert said[0].startswith("published track data: 10 B in 1 group, ")
    assert said[1].startswith("published track odd name: 0 B in 0 groups")


# Who gets in


async def test_only_those_allowed(tmp_path: Path) -> None:
    key = str(tmp_path / "key")
    friend = (await finished("id", "--key-file", key)).text.strip()
    async with publishing("x", "--reliable", "--allow", friend) as (publisher, ticket):
        refused = await subscribed(ticket, "x", "--reliable")
        assert (refused.code, refused.output) == (3, b"")
        assert re.match(r"Error: .*unauthorized", refused.errors)
        published, received = await asyncio.gather(
            publisher.ends(b"secret"), subscribed(ticket, "x", "--reliable", "--key-file", key)
        )
    assert (published.code, received.code, received.output) == (0, 0, b"secret")


# The end


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("how", [(), ("--reliable",)])
async def test_interrupted(number: signal.Signals, code: int, how: tuple[str, ...]) -> None:
    """Its subscribers get what has been read so far, and a proper end."""
    async with publishing("x", "--group", "lines", *how) as (publisher, ticket):
        async with started("subscribe", *LOOPBACK, ticket, "x", *how) as subscriber:
            await publisher.write(b"one\n")
            assert await subscriber.line() == "one"
            publisher.signal(number)
            published, received = await asyncio.gather(publisher.ends(), subscriber.ends())
    assert published.code == code
    assert published.json == [{"event": "finished", "tracks": {"data": {"groups": 1, "frames": 1, "bytes": 4}}}]
    assert published.errors == ""
    assert (received.code, received.output) == (0, b"")


async def test_interrupted_while_it_waits_for_a_subscriber() -> None:
    async with publishing("x", "--reliable") as (publisher, _):
        publisher.signal(signal.SIGINT)
        assert (await publisher.ends()).code == 130


async def test_interrupted_again_it_gives_up_at_once(file: str) -> None:
    async with publishing("x", "--reliable", "--file", file) as (publisher, ticket):
        async with started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as subscriber:
            # It never reads on, so not all can be delivered.
            await subscriber.read(1)
            publisher.signal(signal.SIGINT)
            ended = await publisher.ends()
    assert ended.code == 130
    assert ended.errors == "a part of what was read could not be delivered in time\n"


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    ended = await finished("publish", *LOOPBACK, "x", "--track", f"a={tmp_path / 'none'}")
    assert ended.code == 1
    assert str(tmp_path / "none") in ended.errors


async def test_framed_input_that_ends_within_a_frame() -> None:
    ended = await finished("publish", *LOOPBACK, "x", "--group", "framed", data=b"\0\0\0\5abc")
    assert ended.code == 2
    assert "ended in the middle of a frame" in ended.errors


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--file", "/none/such"], "'/none/such' does not exist"),
        (["--file", "/"], "is a directory"),
        (["--group", "bytes"], "--group cannot be 'bytes'"),
        (["--group", "other=lines"], "track 'other', which no --track makes"),
        (["--track", "a", "--track", "b"], "one input makes one track"),
        (["--track", "a", "--track", "b=-"], "one input makes one track"),
        (["--track", "a", "--track", "a=-"], "track 'a' is given twice"),
        (["--track", "a="], "names no file"),
        (["--track", "a=x", "--file", "/dev/null"], "--file has no track"),
        (["--track", ""], "track name"),
        (["--allow", "me"], "'me' is no endpoint id"),
        (["--relay", "https://relay.example"], "relays need the network 'internet'"),
        (["--network", "moon"], "'moon' is not one of"),
        (["--no-such"], "No such option"),
        (["another"], "unexpected extra argument"),
    ],
)
async def test_wrong_usage(options: list[str], complaint: str) -> None:
    ended = await finished("publish", *LOOPBACK, "x", *options)
    assert (ended.code, ended.output) == (2, b"")
    assert complaint in ended.errors


@pytest.mark.parametrize("name", ["", "/", "a//b" + "/c" * 40])
async def test_a_name_that_cannot_be(name: str) -> None:
    ended = await finished("publish", *LOOPBACK, name)
    assert ended.code == 2
    assert ended.errors.startswith("Error: ")


async def test_the_reader_of_its_json_has_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        async with started("publish", *LOOPBACK, "--json", "x", stdout=write) as publisher:
            ended = await publisher.ends()
    finally:
        os.close(write)
    assert ended.code == 7
    assert "the reader of the output has gone" in ended.errors


assert PATIENCE > 2  # What an interrupted publisher may take to deliver the rest.

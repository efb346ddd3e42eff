"""``iroh-moq publish``, and what comes out at ``iroh-moq subscribe``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from iroh_moq import Cache
from iroh_moq.address import parse_remote
from tests.cli.processes import LOOPBACK, Process, assert_wrong_usage, finished, pipe, publishing, started, subscribed
from tests.endpoints import free_address

_CONTENT = random.Random(1).randbytes(3_000_001)
_MORE_THAN_IS_TAKEN_AHEAD = bytes(32_000_000)
"""By a subscriber whose own output nobody reads."""
_LINES = b"".join(b"line %d\n" % number for number in range(500)) + b"a last one without an end"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a file"
    path.write_bytes(_CONTENT)
    return str(path)


# What goes in comes out

_GROUPINGS = {
    "chunks": (3_000_001, None, None),
    "bytes:1M": (3_000_001, 3, None),
    "bytes:64k": (3_000_001, 46, None),
    # More groups than a connection may have open streams.
    "frames:100": (120_001, 1201, 1201),
    "frames:1000x100": (3_000_001, 31, 3001),
    "lines": (100_001, 419, 419),
    "lines:1000": (3_000_001, 12, 11664),
}
"""Of how many bytes of the content each makes how many groups and frames, where that does not depend on how they
arrive."""


@pytest.mark.parametrize("grouping", _GROUPINGS)
async def test_standard_input(grouping: str) -> None:
    size, groups, frames = _GROUPINGS[grouping]
    content = _CONTENT[:size]
    async with publishing("x", "--reliable", "--group", grouping) as (publisher, ticket):
        published, received = await asyncio.gather(
            publisher.ends(content), subscribed(ticket, "x", "--reliable", "--json")
        )
    assert (published.code, received.code) == (0, 0)
    assert received.output == content
    sent = published.json[-1]
    assert sent["event"] == "finished"
    counts = sent["tracks"]["data"]
    assert {key: received.summary[key] for key in counts} == counts
    assert received.summary["missing"] == 0
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


async def test_lines_are_groups() -> None:
    async with publishing("x", "--reliable", "--group", "lines:100") as (publisher, ticket):
        published, received = await asyncio.gather(
            publisher.ends(_LINES), subscribed(ticket, "x", "--reliable", "--frames", "lines")
        )
    assert published.json[-1]["tracks"]["data"] == {"groups": 6, "frames": 501, "bytes": len(_LINES)}
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
    async with (
        publishing("x", *how) as (publisher, ticket),
        started("subscribe", *LOOPBACK, "--json", ticket, "x", *how) as subscriber,
    ):
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


async def test_many_subscribers() -> None:
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


async def test_a_slow_reader_gets_what_the_publisher_has_got_rid_of(file: str) -> None:
    async with (
        publishing("x", "--reliable", "--file", file) as (publisher, ticket),
        started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as subscriber,
    ):
        begin = await subscriber.read(1000)
        # The pipe holds up the rest, which is less than what the subscriber takes ahead.
        published = await publisher.ends()
        received = await subscriber.ends()
    assert (published.code, received.code) == (0, 0), received.errors
    assert begin + received.output == _CONTENT


async def test_a_second_subscriber_of_a_stream_under_way_misses_its_beginning() -> None:
    size, count = 1 << 20, 68
    assert size * count > Cache().max_bytes
    async with (
        publishing("x", "--reliable", "--group", "bytes:1M") as (publisher, ticket),
        started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as first,
    ):
        for _ in range(count):
            await publisher.write(bytes(size))
            await first.read(size)
        async with started("subscribe", *LOOPBACK, "--json", ticket, "x", "--reliable") as second:
            await second.read(1)
            _, early, late = await asyncio.gather(publisher.ends(), first.ends(), second.ends())
    assert early.code == 0
    assert late.code == 6, late.errors
    missing = late.summary["missing"]
    assert missing > 0
    assert late.summary["groups"] == count - missing
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
    assert {name: track["groups"] for name, track in counts.items()} == {"video": 6, "log": 501, "typed": 1}


async def test_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    async with publishing("x", "--reliable", "--track", f"video={path}") as (publisher, ticket):
        # It is published before anybody writes to the pipe.
        writing = asyncio.create_task(asyncio.to_thread(path.write_bytes, _CONTENT))
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
        assert re.match(r"Error: .*unauthorized.*--allow", refused.errors)
        published, received = await asyncio.gather(
            publisher.ends(b"secret"), subscribed(ticket, "x", "--reliable", "--key-file", key)
        )
    assert (published.code, received.code, received.output) == (0, 0, b"secret")


async def test_a_ticket_holds_beyond_a_restart(tmp_path: Path) -> None:
    options = ("--key-file", str(tmp_path / "key"), "--group", "lines")
    async with publishing("x", *options) as (first, ticket):
        assert (await first.ends()).code == 0
    address = next(each for each in parse_remote(ticket).direct_addresses() if each.startswith("127"))
    async with started("subscribe", *LOOPBACK, ticket, "x", "--reconnect") as subscriber:
        async with publishing("x", *options, "--bind", address.rpartition(":")[2]) as (second, again):
            assert address in parse_remote(again).direct_addresses()
            await second.write(b"line\n")
            assert await subscriber.line() == "line"
            assert (await second.ends()).code == 0
        assert (await subscriber.ends()).code == 0


async def test_only_those_that_a_file_names(tmp_path: Path) -> None:
    keys = [str(tmp_path / name) for name in ("one", "other", "stranger")]
    ids = [(await finished("id", "--key-file", key)).text.strip() for key in keys]
    friends = tmp_path / "friends"
    friends.write_text(f"# friends\n\n{ids[0]}  # the first\n")
    allow = ("--allow", str(friends), "--allow", ids[1])
    async with publishing("x", *allow, "--group", "lines") as (publisher, ticket):
        stranger = await subscribed(ticket, "x", "--key-file", keys[2])
        assert (stranger.code, stranger.output) == (3, b"")
        assert ids[2] in await publisher.error_line()
        await publisher.write(b"for friends\n")
        for key in keys[:2]:
            async with started("subscribe", *LOOPBACK, ticket, "x", "--key-file", key) as friend:
                assert await friend.line() == "for friends"
                friend.signal(signal.SIGINT)
                assert (await friend.ends()).code == 130
        assert (await publisher.ends()).code == 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "names nobody: write one endpoint id a line"),
        (b"# nobody\n", "names nobody"),
        (b"# friends\n\nbob\n", "line 3: 'bob' is neither a ticket"),
        (b"\xff", "is no text file"),
    ],
)
def test_a_file_that_names_nobody_to_allow(tmp_path: Path, content: bytes, complaint: str) -> None:
    friends = tmp_path / "friends"
    friends.write_bytes(content)
    assert_wrong_usage(complaint, "publish", *LOOPBACK, "x", "--allow", str(friends))


# The end


def large_file(folder: Path) -> Path:
    """More than a publisher runs ahead, and than pipes hold."""
    file = folder / "file"
    file.write_bytes(random.Random(5).randbytes(100 << 20))
    return file


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("how", [(), ("--reliable",)])
async def test_interrupted(number: signal.Signals, code: int, how: tuple[str, ...]) -> None:
    """Its subscribers get what has been read so far, and a proper end."""
    async with (
        publishing("x", "--group", "lines", *how) as (publisher, ticket),
        started("subscribe", *LOOPBACK, ticket, "x", *how) as subscriber,
    ):
        await publisher.write(b"one\n")
        assert await subscriber.line() == "one"
        publisher.signal(number)
        published, received = await asyncio.gather(publisher.ends(), subscriber.ends())
    assert published.code == code
    assert published.json == [{"event": "finished", "tracks": {"data": {"groups": 1, "frames": 1, "bytes": 4}}}]
    assert published.errors == ""
    assert (received.code, received.output) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", [(), ("--reliable",)])
async def test_interrupted_in_the_middle_of_a_file(
    tmp_path: Path, number: signal.Signals, how: tuple[str, ...]
) -> None:
    """Nobody takes the part that it has for the whole."""
    file = large_file(tmp_path)
    async with (
        publishing("x", "--file", str(file), "--reliable") as (publisher, ticket),
        started("subscribe", *LOOPBACK, ticket, "x", *how) as subscriber,
    ):
        await subscriber.read(1)
        publisher.signal(number)
        # The interrupt was heard when this is there, and only then there is room for more.
        assert await publisher.error_line() == f"interrupted in the middle of {file}"
        published, received = await asyncio.gather(publisher.ends(), subscriber.ends())
    assert published.code == 128 + number
    assert received.code == 5
    assert "the stream broke off" in received.errors


async def test_restarted_in_the_middle_of_a_file(tmp_path: Path) -> None:
    file, key = large_file(tmp_path), ("--key-file", str(tmp_path / "key"))
    again = ("x", "--file", str(file), "--reliable", *key, "--bind", free_address())
    async with publishing(*again) as (first, ticket), AsyncExitStack() as stack:
        arguments = ("subscribe", *LOOPBACK, ticket, "x", "--reliable", "--reconnect")
        subscriber = await stack.enter_async_context(started(*arguments))
        begun = await subscriber.read(1)
        first.signal(signal.SIGTERM)
        assert (await first.ends()).code == 143
        async with publishing(*again) as (second, _):
            published, received = await asyncio.gather(second.ends(), subscriber.ends())
    assert (published.code, received.code) == (0, 0)
    assert hashlib.sha256(begun + received.output).digest() == hashlib.sha256(file.read_bytes()).digest()


async def test_who_comes_after_one_that_has_left_gets_all_of_a_file(tmp_path: Path) -> None:
    file = large_file(tmp_path)
    async with publishing("x", "--file", str(file), "--reliable") as (publisher, ticket):
        arguments = ("subscribe", *LOOPBACK, ticket, "x", "--reliable")
        async with started(*arguments) as first:
            await first.read(20 << 20)
            first.signal(signal.SIGINT)
            assert (await first.ends()).code == 130
        assert "the next subscriber gets it from the beginning" in await publisher.error_line()
        async with started(*arguments) as second:
            published, received = await asyncio.gather(publisher.ends(), second.ends())
    assert (published.code, received.code) == (0, 0)
    assert hashlib.sha256(received.output).digest() == hashlib.sha256(file.read_bytes()).digest()
    assert published.json[-1]["tracks"]["data"]["bytes"] == file.stat().st_size


async def test_a_reliable_one_whose_subscriber_leaves_before_the_end_says_so() -> None:
    async with publishing("x", "--reliable", "--group", "lines") as (publisher, ticket):
        async with started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as subscriber:
            await publisher.write(b"one\n")
            assert await subscriber.line() == "one"
            subscriber.signal(signal.SIGINT)
            assert (await subscriber.ends()).code == 130
        ended = await publisher.ends()
    assert (ended.code, ended.errors) == (6, "Error: no subscriber has stayed until it had all of it\n")


async def test_interrupted_while_it_waits_for_a_subscriber() -> None:
    async with publishing("x", "--reliable") as (publisher, _):
        publisher.signal(signal.SIGINT)
        assert (await publisher.ends()).code == 130


async def test_interrupted_while_a_subscriber_does_not_read_on() -> None:
    async with (
        publishing("x") as (publisher, ticket),
        started("subscribe", *LOOPBACK, ticket, "x", "--reliable") as subscriber,
    ):
        await publisher.write(b"!")
        await subscriber.read(1)
        await publisher.write(_MORE_THAN_IS_TAKEN_AHEAD)
        publisher.signal(signal.SIGINT)
        ended = await publisher.ends()
    assert ended.code == 130
    assert ended.errors == "a part of what was read could not be delivered in time\n"


async def test_interrupted_again_it_gives_up_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    small = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        async with (
            publishing("x", "--track", "large", "--track", f"small={tmp_path / 'pipe'}") as (publisher, ticket),
            started("subscribe", *LOOPBACK, ticket, "x", "--reliable", "--track", "large") as slow,
            started("subscribe", *LOOPBACK, ticket, "x", "--reliable", "--track", "small") as quick,
        ):
            await publisher.write(b"!")
            os.write(small, b"!")
            for subscriber in (slow, quick):
                await subscriber.read(1)
            await publisher.write(_MORE_THAN_IS_TAKEN_AHEAD)
            publisher.signal(signal.SIGINT)
            # This track ends, so the interrupt has been heard, and the slow one is waited for.
            assert (await quick.error_line()).startswith("received 1 B in 1 group,")
            publisher.signal(signal.SIGINT)
            ended = await publisher.ends()
    finally:
        os.close(small)
    assert (ended.code, ended.errors) == (130, "")


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
def test_wrong_usage(options: list[str], complaint: str) -> None:
    assert_wrong_usage(complaint, "publish", *LOOPBACK, "x", *options)


@pytest.mark.parametrize("name", ["", "/", "a//b" + "/c" * 40])
def test_a_name_that_cannot_be(name: str) -> None:
    assert_wrong_usage("Error: ", "publish", *LOOPBACK, name)


async def test_the_reader_of_its_json_has_gone() -> None:
    with pipe() as (read, write):
        os.close(read)
        async with started("publish", *LOOPBACK, "--json", "x", stdout=write) as publisher:
            ended = await publisher.ends()
    assert ended.code == 7
    assert "the reader of the output has gone" in ended.errors

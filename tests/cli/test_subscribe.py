"""``iroh-moq subscribe``, of what a program publishes; tests/cli/test_publish.py has the two commands together."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from iroh_moq import ErrorCode
from tests.cli.processes import LOOPBACK, STRANGER, Terminal, assert_wrong_usage, finished, pipe
from tests.cli.publisher import Publisher
from tests.endpoints import PATIENCE

# What is written, and where


@pytest.mark.parametrize(
    ("how", "output"),
    [
        ([], b"one\ntwo3"),
        (["--frames", "raw"], b"one\ntwo3"),
        (["--frames", "lines"], b"one\n\ntwo\n3\n"),
        # An empty frame would pass for the end of a group.
        (["--frames", "framed"], b"\0\0\0\4one\n\0\0\0\3two\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\x013\0\0\0\0"),
    ],
)
async def test_how_frames_are_written(publisher: Publisher, how: list[str], output: bytes) -> None:
    async with publisher.read_by("subscribe", "--reliable", "--json", *how) as (subscriber, _):
        for frames in ([b"one\n", b"", b"two"], [], [b"3"]):
            with publisher.track.append_group() as group:
                for frame in frames:
                    group.write_frame(frame)
        publisher.track.finish()
        ended = await subscriber.ends()
    assert (ended.code, ended.output) == (0, output)
    assert {key: ended.summary[key] for key in ("groups", "frames", "bytes")} == {"groups": 3, "frames": 4, "bytes": 8}


@pytest.mark.parametrize("how", [["--reliable"], []])
async def test_all_is_there_at_once_as_it_comes(publisher: Publisher, how: list[str]) -> None:
    """Nothing is held back until a group is whole, or the next one has come."""
    async with publisher.read_by("subscribe", *how) as (subscriber, _):
        group = publisher.track.append_group()
        for number in range(3):
            group.write_frame(b"%d" % number)
            assert await subscriber.read(1) == b"%d" % number
        publisher.track.finish()
        group.finish()
        assert (await subscriber.ends()).code == 0


async def test_to_a_file(publisher: Publisher, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with publisher.read_by("subscribe", "--output", str(copy)) as (subscriber, _):
        publisher.track.write_frame(b"content")
        publisher.track.finish()
        ended = await subscriber.ends()
    assert (ended.code, ended.output) == (0, b"")
    assert ended.errors == "received 7 B in 1 group, 0 ms\n"
    assert copy.read_bytes() == b"content"


async def test_a_file_that_cannot_be_written(publisher: Publisher, tmp_path: Path) -> None:
    path = str(tmp_path / "none" / "copy")
    ended = await finished("subscribe", *LOOPBACK, publisher.moq.ticket(), "x", "--output", path)
    assert (ended.code, ended.output) == (1, b"")
    assert path in ended.errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
async def test_a_full_disk(publisher: Publisher) -> None:
    async with publisher.read_by("subscribe", "--output", "/dev/full", "--json") as (subscriber, _):
        publisher.track.write_frame(b"content")
        ended = await subscriber.ends()
    assert ended.code == 1
    assert "No space left on device" in ended.errors


async def test_progress_on_a_terminal(publisher: Publisher) -> None:
    with Terminal() as terminal:
        async with publisher.read_by("subscribe", stderr=terminal.descriptor) as (subscriber, _):
            await terminal.shows("x: 0 B in 0 groups")
            publisher.track.write_frame(b"content")
            await terminal.shows("x: 7 B in 1 group,")
            publisher.track.finish()
            ended = await subscriber.ends()
            # The line goes, and the cursor is there again.
            await terminal.shows(r"\x1b\[2K.*\x1b\[\?25h.*received 7 B in 1 group, 0 ms\r\n")
    assert (ended.code, ended.output) == (0, b"content")


async def test_the_stream_goes_to_a_terminal(publisher: Publisher) -> None:
    """Nothing is drawn in between then."""
    with Terminal() as terminal:
        async with publisher.read_by("subscribe", stdout=terminal.descriptor, stderr=terminal.descriptor) as (
            subscriber,
            _,
        ):
            publisher.track.write_frame(b"one\n")
            publisher.track.write_frame(b"two\n")
            publisher.track.finish()
            assert (await subscriber.ends()).code == 0
            await terminal.shows(r"^one\r\ntwo\r\nreceived 8 B in 2 groups, [^\x1b]*\r\n$")


# What is skipped


async def test_a_group_that_has_grown_too_old_is_skipped(publisher: Publisher) -> None:
    async with publisher.read_by("subscribe", "--json", "--max-latency", "0.1") as (subscriber, _):
        stuck = publisher.track.append_group()
        stuck.write_frame(b"1")
        assert await subscriber.read(1) == b"1"
        publisher.track.write_frame(b"2")
        # The first group never ends.
        assert await subscriber.read(1) == b"2"
        publisher.track.finish()
        ended = await subscriber.ends()
    assert (ended.code, ended.output) == (0, b"")
    assert (ended.summary["groups"], ended.summary["missing"]) == (2, 1)


async def test_without_a_bound_on_its_age_it_is_waited_for(publisher: Publisher) -> None:
    async with publisher.read_by("subscribe", "--json", "--reliable") as (subscriber, _):
        late = publisher.track.append_group()
        late.write_frame(b"1")
        publisher.track.write_frame(b"3")
        assert await subscriber.read(1) == b"1"
        late.write_frame(b"2")
        late.finish()
        publisher.track.finish()
        ended = await subscriber.ends()
    assert (ended.code, ended.output) == (0, b"23")
    assert (ended.summary["groups"], ended.summary["missing"]) == (2, 0)


@pytest.mark.parametrize(
    ("how", "code", "exit_code"),
    [([], ErrorCode.OLD, 0), ([], 77, 5), (["--reliable"], ErrorCode.OLD, 5), (["--reliable"], 77, 5)],
)
async def test_a_group_that_breaks_off(publisher: Publisher, how: list[str], code: int, exit_code: int) -> None:
    """A live stream goes on without a group that was given up as too old, but without no other."""
    async with publisher.read_by("subscribe", "--json", *how) as (subscriber, _):
        broken = publisher.track.append_group()
        broken.write_frame(b"1")
        assert await subscriber.read(1) == b"1"
        broken.abort(code)
        publisher.track.write_frame(b"2")
        publisher.track.finish()
        ended = await subscriber.ends()
    assert ended.code == exit_code
    assert (ended.output, ended.summary["missing"]) == ((b"2", 1) if exit_code == 0 else (b"", 0))


async def test_groups_that_are_not_there(publisher: Publisher) -> None:
    """Reliable or not, a gap is told; who asked for all fails by it."""
    async with (
        publisher.read_by("subscribe", "--json") as (live, _),
        publisher.read_by("subscribe", "--json", "--reliable") as (reliable, _),
    ):
        for sequence in (0, 1, 4):
            with publisher.track.create_group(sequence) as group:
                group.write_frame(b"%d" % sequence)
            for subscriber in (live, reliable):
                assert await subscriber.read(1) == b"%d" % sequence
        publisher.track.finish()
        outcome = await asyncio.gather(live.ends(), reliable.ends())
    assert [ended.code for ended in outcome] == [0, 6]
    assert [ended.summary["missing"] for ended in outcome] == [2, 2]
    assert "Error: 2 groups are missing" in outcome[1].errors


# How it ends


@pytest.mark.parametrize("how", [["--reliable"], []])
async def test_the_peer_ends_in_the_middle(publisher: Publisher, how: list[str]) -> None:
    async with publisher.read_by("subscribe", *how) as (subscriber, session):
        group = publisher.track.append_group()
        group.write_frame(b"!")
        assert await subscriber.read(1) == b"!"
        session.close(7, "out of order")
        ended = await subscriber.ends()
    assert (ended.code, ended.output) == (5, b"")
    summary, error = ended.errors.splitlines()
    assert summary.startswith("received 1 B in 1 group, ")
    assert re.fullmatch("Error: the stream broke off: .*code 7, out of order.*", error)


async def test_the_track_is_aborted(publisher: Publisher) -> None:
    async with publisher.read_by("subscribe") as (subscriber, _):
        publisher.track.abort(99)
        ended = await subscriber.ends()
    assert ended.code == 5
    # Nothing has come, so there is nothing to sum up.
    assert re.fullmatch(r"Error: the stream broke off: .*99.*\n", ended.errors)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupted(publisher: Publisher, number: signal.Signals, code: int) -> None:
    async with publisher.read_by("subscribe", "--json") as (subscriber, _):
        for octet in b"12":
            publisher.track.write_frame(bytes([octet]))
            assert await subscriber.read(1) == bytes([octet])
        subscriber.signal(number)
        ended = await subscriber.ends()
        async with asyncio.timeout(PATIENCE):
            await publisher.track.unused()
    assert (ended.code, ended.output) == (code, b"")
    assert len(ended.errors.splitlines()) == 1
    # The second may have been written, but not counted yet.
    assert ended.summary["bytes"] in (1, 2)


async def test_interrupted_while_nobody_reads_its_output(publisher: Publisher) -> None:
    with pipe() as (read, write):
        async with publisher.read_by("subscribe", stdout=write) as (subscriber, _):
            publisher.track.write_frame(bytes(1_000_000))
            # The first byte is there, and the pipe takes no more than a part of the others.
            await asyncio.to_thread(os.read, read, 1)
            subscriber.signal(signal.SIGINT)
            assert (await subscriber.ends()).code == 130


@pytest.mark.parametrize("how", [["--reliable"], []])
async def test_the_reader_of_its_output_goes(publisher: Publisher, how: list[str]) -> None:
    with pipe() as (read, write):
        async with publisher.read_by("subscribe", "--json", *how, stdout=write) as (subscriber, _):
            publisher.track.write_frame(b"!")
            assert await asyncio.to_thread(os.read, read, 1) == b"!"
            os.close(read)
            publisher.track.write_frame(b"!")
            ended = await subscriber.ends()
    assert ended.code == 7
    assert ended.summary["bytes"] == 1
    assert ended.errors.splitlines()[1:] == ["Error: the reader of the output has gone, so the rest was not written"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--reliable", "--max-latency", "1"], "--reliable skips nothing"),
        (["--max-latency", "-1"], "-1.0 is not in the range x>=0"),
        (["--frames", "jpeg"], "'jpeg' is not one of"),
        (["--output", "/"], "is a directory"),
        (["--track", ""], "track name"),
        (["--timeout", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_wrong_usage(options: list[str], complaint: str) -> None:
    assert_wrong_usage(complaint, "subscribe", *LOOPBACK, STRANGER, "x", *options)


# Losses


async def test_reconnect_goes_on_where_it_was(publisher: Publisher) -> None:
    async with publisher.read_by("subscribe", "--reliable", "--reconnect") as (subscriber, _):
        publisher.track.write_frame(b"one")
        assert await subscriber.read(3) == b"one"
        (peer,) = publisher.moq._actor._peers.values()
        assert peer.session is not None
        peer.session.close(0, "cut")
        publisher.track.write_frame(b"two")
        assert await subscriber.read(3) == b"two"
        publisher.track.finish()
        ended = await subscriber.ends()
    assert ended.code == 0
    assert "the connection is lost; reconnecting ..." in ended.errors
    assert "connected again" in ended.errors


async def test_without_reconnect_a_loss_is_the_end(publisher: Publisher) -> None:
    async with publisher.read_by("subscribe", "--reliable") as (subscriber, _):
        publisher.track.write_frame(b"one")
        assert await subscriber.read(3) == b"one"
        (peer,) = publisher.moq._actor._peers.values()
        assert peer.session is not None
        peer.session.close(0, "cut")
        ended = await subscriber.ends()
    assert ended.code == 5

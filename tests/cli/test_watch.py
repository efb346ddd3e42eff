"""``iroh-moq watch``."""

from __future__ import annotations

import re
import signal

import pytest

from tests.cli.processes import LOOPBACK, STRANGER, Terminal, assert_wrong_usage
from tests.cli.publisher import Publisher

_QUICK = ("--interval", "0.05")
_SLOW = ("--interval", "60")
"""Only the end of the tracks lets it look."""


async def test_json(publisher: Publisher) -> None:
    other = publisher.broadcast.create_track("other")
    async with publisher.read_by("watch", *_SLOW, "--json", "--track", "data", "--track", "other") as (process, _):
        for _ in range(2):
            with publisher.track.append_group() as group:
                for _ in range(3):
                    group.write_frame(bytes(100))
        for track in (publisher.track, other):
            track.finish()
        ended = await process.ends()
    assert (ended.code, ended.errors) == (0, "")
    (report,) = ended.json
    assert list(report["tracks"]) == ["data", "other"]
    data, nothing = report["tracks"].values()
    assert {key: data[key] for key in ("groups", "frames", "bytes", "ended")} == {
        "groups": 2,
        "frames": 6,
        "bytes": 600,
        "ended": True,
    }
    assert data["frames_per_second"] == pytest.approx(3 * data["groups_per_second"])
    assert data["bytes_per_second"] == pytest.approx(300 * data["groups_per_second"])
    assert data["age"] >= 0
    assert nothing == {
        **dict.fromkeys(("groups", "frames", "bytes"), 0),
        **dict.fromkeys(("groups_per_second", "frames_per_second", "bytes_per_second"), 0.0),
        "age": None,
        "ended": True,
    }
    path = report["path"]
    assert re.fullmatch(r"(127\.0\.0\.1|\[::1\]):\d+", path["remote"])
    assert (path["relayed"], path["lost_packets"], path["loss"]) == (False, 0, 0.0)
    assert 0 < path["rtt"] < 5
    assert path["mtu"] >= 1200
    assert path["sent_packets"] > 0


async def test_so_many_looks_and_no_more(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_QUICK, "--json", "--count", "3") as (process, _):
        ended = await process.ends()
    assert ended.code == 0
    assert [report["tracks"]["data"]["ended"] for report in ended.json] == [False] * 3


async def test_each_look_tells_what_has_come_since(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_QUICK, "--json") as (process, _):
        publisher.track.write_frame(b"frame")
        while not (report := (await process.json())["tracks"]["data"])["bytes"]:
            assert (report["bytes_per_second"], report["age"]) == (0, None)
        assert report["bytes_per_second"] > 0
        report = (await process.json())["tracks"]["data"]
        assert (report["groups"], report["bytes"], report["bytes_per_second"]) == (1, 5, 0)
        later = (await process.json())["tracks"]["data"]
        assert later["age"] > report["age"] > 0


async def test_a_loss_is_told_and_no_path_shown(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_QUICK, "--json", "--reconnect") as (process, session):
        assert (await process.json())["path"] is not None
        session.close(0, "cut")
        while (await process.json())["path"] is not None:
            pass
        while (await process.json())["path"] is None:
            pass
        publisher.track.finish()
        ended = await process.ends()
    assert ended.code == 0
    assert "the connection is lost; reconnecting ..." in ended.errors


async def test_lines(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_QUICK) as (process, _):
        assert re.fullmatch(
            r"data: 0\.0 groups/s, 0\.0 frames/s, 0 B/s, age no frame yet; direct .*:\d+, rtt \d.* m?s, loss \d.*%",
            await process.line(),
        )
        publisher.track.write_frame(bytes(100_000))
        while "age no frame yet" in (line := await process.line()):
            pass
        assert re.match(r"data: [1-9].* groups/s, [1-9].* frames/s, [1-9].* [kM]B/s, age \d.* m?s; direct ", line)
        publisher.track.finish()
        ended = await process.ends()
    assert (ended.code, ended.errors) == (0, "")
    assert ", age ended; direct " in ended.text.splitlines()[-1]


async def test_a_group_that_was_given_up_is_left_out(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_QUICK, "--json") as (process, _):
        stuck = publisher.track.append_group()
        stuck.write_frame(b"1")
        while not (await process.json())["tracks"]["data"]["frames"]:
            pass
        stuck.abort(2)
        publisher.track.write_frame(b"2")
        publisher.track.finish()
        ended = await process.ends()
    assert ended.code == 0
    assert ended.json[-1]["tracks"]["data"]["frames"] == 2


async def test_a_terminal(publisher: Publisher) -> None:
    with Terminal() as terminal:
        async with publisher.read_by("watch", *_QUICK, stdout=terminal.descriptor) as (process, _):
            await terminal.shows("track.*groups/s.*frames/s.*bytes/s.*age")
            await terminal.shows(r"data .* 0\.0 .* 0\.0 .* 0 B .* no frame yet")
            publisher.track.write_frame(b"frame")
            await terminal.shows(r"data .* [1-9]\S* .* [1-9]\S* .* \d.* B .* m?s")
            await terminal.shows(r"direct \S+:\d+, rtt ")
            publisher.track.finish()
            ended = await process.ends()
            # The table stays, and so does the cursor.
            await terminal.shows(r"data .* ended.*\x1b\[\?25h")
    assert (ended.code, ended.errors) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_interrupted_on_a_terminal(publisher: Publisher, number: signal.Signals, code: int) -> None:
    with Terminal() as terminal:
        async with publisher.read_by("watch", *_QUICK, stdout=terminal.descriptor) as (process, _):
            await terminal.shows("no frame yet")
            process.signal(number)
            ended = await process.ends()
            await terminal.shows(r"\x1b\[\?25h")
    assert (ended.code, ended.errors) == (code, "")


async def test_the_peer_goes(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_SLOW) as (process, session):
        session.close(7, "out of order")
        ended = await process.ends()
    assert ended.code == 5
    assert re.fullmatch("Error: the stream broke off: .*code 7, out of order.*\n", ended.errors)


async def test_one_of_its_tracks_is_not_there(publisher: Publisher) -> None:
    async with publisher.read_by("watch", *_SLOW, "--track", "data", "--track", "odd") as (process, _):
        ended = await process.ends()
    assert ended.code == 4
    assert "'odd'" in ended.errors


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--interval", "0"], "0.0 is not in the range x>=0.05"),
        (["--count", "0"], "0 is not in the range x>=1"),
        (["--track", ""], "track name"),
    ],
)
def test_wrong_usage(options: list[str], complaint: str) -> None:
    assert_wrong_usage(complaint, "watch", *LOOPBACK, STRANGER, "x", *options)

"""``iroh-moq watch``: how a peer's tracks and the path to it are doing, live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import click
from iroh import EndpointAddr

from ..errors import MoqError
from ..model import GroupConsumer, TrackConsumer
from ..transport import PathStats
from .options import (
    DEFAULT_TRACK,
    EndpointOptions,
    Seconds,
    json_option,
    name_argument,
    only,
    reconnect_option,
    ticket_argument,
    timeout_option,
    track_name,
    with_endpoint,
)
from .output import Meter, Output
from .peer import SKIPPED, find_broadcast, tell_losses
from .text import duration, printable, size

__all__ = ["watch"]

_MAX_LATENCY = 1.0
"""Seconds after which an older group is skipped: what is watched is what comes now."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One track in one interval: rates per second, and totals."""

    name: str
    groups: float
    frames: float
    bytes: float
    age: float | None
    total: dict[str, int]
    ended: bool


@dataclass(frozen=True, slots=True)
class _Report:
    """What one look finds."""

    rows: list[_Row]
    path: PathStats | None


class _Watched:
    """A track that is read for its numbers alone."""

    def __init__(self, consumer: TrackConsumer) -> None:
        self._consumer = consumer
        self._meter = Meter()
        self._before = self._meter.counts
        self._ended = False

    async def read(self) -> None:
        """Reads the track to its end."""
        async with self._consumer:
            async for group in self._consumer:
                self._meter.groups += 1
                try:
                    await self._read_group(group)
                except MoqError as error:
                    if error.code not in SKIPPED:
                        raise
        self._ended = True

    async def _read_group(self, group: GroupConsumer) -> None:
        while frames := await group.read_frames():
            self._meter.add(len(frames), sum(map(len, frames)))

    def row(self, seconds: float) -> _Row:
        """What has come since the last call, so many seconds ago."""
        now = self._meter.counts
        groups, frames, octets = ((now[key] - self._before[key]) / seconds for key in ("groups", "frames", "bytes"))
        self._before = now
        latest = self._meter.latest
        age = None if latest is None else time.monotonic() - latest
        return _Row(self._consumer.name, groups, frames, octets, age, now, self._ended)


@click.command()
@ticket_argument
@name_argument
@click.option(
    "--track",
    "tracks",
    type=track_name,
    metavar="NAME",
    multiple=True,
    default=(DEFAULT_TRACK,),
    help="A track to watch; repeatable.",
)
@click.option("--interval", type=Seconds(min=0.05), default=1.0, metavar="SECONDS", help="How often to look.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N intervals.")
@reconnect_option
@timeout_option
@json_option
@with_endpoint
async def watch(
    endpoint: EndpointOptions,
    ticket: EndpointAddr,
    name: str,
    tracks: tuple[str, ...],
    interval: float,
    count: int | None,
    reconnect: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Watch the tracks of broadcast NAME: groups, frames and bytes per second, the age of the latest
    frame, and the path to the peer. Ends with the tracks.

    The path's loss is that of the packets this side has sent. A peer does not tell which tracks it
    has, so name those that are not called "data". On a terminal this is a live view, elsewhere a
    line for each track and interval; with --json, a line for each interval.
    """
    async with endpoint.bind(only(())) as moq:
        session, broadcast = await find_broadcast(moq, ticket, name, timeout, reconnect)
        with Output() as output, _view(name, output, as_json) as show:
            watched = [
                _Watched(broadcast.subscribe_track(track, max_latency=_MAX_LATENCY)) for track in dict.fromkeys(tracks)
            ]
            # In place of the live view it would stand in the way, which shows the path that is not there.
            telling = nullcontext() if output.is_terminal else tell_losses(session)
            async with telling, asyncio.TaskGroup() as group:
                reading = [group.create_task(track.read()) for track in watched]
                looks, looked = 0, time.monotonic()
                while looks != count and not all(task.done() for task in reading):
                    await asyncio.wait(reading, timeout=interval)
                    now = time.monotonic()
                    # That of a connection that is lost would look as if it were well.
                    path = None if session.status() == "reconnecting" else session.stats().path
                    await show(_Report([track.row(now - looked) for track in watched], path))
                    looks, looked = looks + 1, now
                for task in reading:
                    task.cancel()


@contextmanager
def _view(name: str, output: Output, as_json: bool) -> Iterator[Callable[[_Report], Awaitable[None]]]:
    """Shows reports: in place on a terminal, else as lines."""
    if as_json:
        yield lambda report: output.json(**_fields(report))
    elif not output.is_terminal:
        yield lambda report: output.write("".join(f"{line}\n" for line in _lines(report)).encode(errors="replace"))
    else:
        # Only here, as it would double the time in which --help answers.
        from .live import table  # noqa: PLC0415

        with table(printable(name), ("track", "groups/s", "frames/s", "bytes/s", "age")) as update:

            async def show(report: _Report) -> None:
                update([_cells(row) for row in report.rows], _path(report.path))

            yield show


def _fields(report: _Report) -> dict[str, Any]:
    path = report.path
    return {
        "tracks": {
            row.name: {
                "groups_per_second": row.groups,
                "frames_per_second": row.frames,
                "bytes_per_second": row.bytes,
                "age": row.age,
                "ended": row.ended,
                **row.total,
            }
            for row in report.rows
        },
        "path": path
        and {
            "remote": path.remote,
            "relayed": path.relayed,
            "rtt": path.rtt,
            "mtu": path.mtu,
            "sent_packets": path.sent_packets,
            "lost_packets": path.lost_packets,
            "loss": path.loss,
        },
    }


def _cells(row: _Row) -> tuple[str, ...]:
    age = "ended" if row.ended else "no frame yet" if row.age is None else duration(row.age)
    return printable(row.name), f"{row.groups:.1f}", f"{row.frames:.1f}", f"{size(row.bytes)}", age


def _lines(report: _Report) -> Iterator[str]:
    for row in report.rows:
        name, groups, frames, octets, age = _cells(row)
        yield f"{name}: {groups} groups/s, {frames} frames/s, {octets}/s, age {age}; {_path(report.path)}"


def _path(path: PathStats | None) -> str:
    if path is None:
        return "no path"
    kind = "relay" if path.relayed else "direct"
    return f"{kind} {printable(path.remote)}, rtt {duration(path.rtt)}, loss {path.loss:.2%}"

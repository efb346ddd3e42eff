"""``iroh-moq subscribe``: a track of a peer's broadcast goes to standard output or a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TextIO

import click
from iroh import EndpointAddr

from ..errors import MoqError
from ..model import GroupConsumer, TrackConsumer
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
from .output import Meter, Output, progress, say
from .peer import SKIPPED, find_broadcast, tell_losses
from .run import Exit, Failure

__all__ = ["subscribe"]

_READ_SIZE = 256 * 1024

Join = Callable[[list[bytes]], bytes]


def _lines(frames: list[bytes]) -> bytes:
    return b"".join(frame if frame.endswith(b"\n") else frame + b"\n" for frame in frames)


def _framed(frames: list[bytes]) -> bytes:
    # Without the empty ones, which would pass for ends of groups.
    return b"".join(len(frame).to_bytes(4) + frame for frame in frames if frame)


_JOINS: dict[str, Join] = {"raw": b"".join, "lines": _lines, "framed": _framed}
_END_OF_GROUP = {"framed": bytes(4)}


@click.command()
@ticket_argument
@name_argument
@click.option(
    "--output",
    "path",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write to this file, not to standard output.",
)
@click.option("--track", type=track_name, metavar="NAME", default=DEFAULT_TRACK, help="The track to read.")
@click.option(
    "--reliable",
    is_flag=True,
    help="Start with the first group there is and skip nothing; a publisher with --reliable waits for us.",
)
@click.option(
    "--max-latency",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Skip groups that come later than this after a newer one. Without it, the publisher's cache decides.",
)
@click.option(
    "--frames",
    type=click.Choice(list(_JOINS)),
    default="raw",
    help='How frames are written: "raw" as they are; "lines" with a newline after each that has none; '
    '"framed" after their length, 4 bytes big-endian, and a length of 0 after each group (empty frames are left out).',
)
@reconnect_option
@timeout_option
@json_option
@with_endpoint
async def subscribe(
    endpoint: EndpointOptions,
    ticket: EndpointAddr,
    name: str,
    path: str | None,
    track: str,
    reliable: bool,
    max_latency: float | None,
    frames: str,
    reconnect: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Write a track of broadcast NAME to standard output, until it ends.

    TICKET is what `iroh-moq publish` prints, or the endpoint id that `iroh-moq id` shows. A summary
    goes to standard error; with --json as JSON, and to standard output if there is an --output.
    """
    if reliable and max_latency is not None:
        raise Failure(Exit.USAGE, "--reliable skips nothing, so it cannot have a --max-latency")
    async with endpoint.bind(only(())) as moq:
        session, broadcast = await find_broadcast(moq, ticket, name, timeout, reconnect)
        consumer = broadcast.subscribe_track(
            track, ordered=reliable, max_latency=max_latency, start_group=0 if reliable else None
        )
        async with consumer, tell_losses(session):
            with Output(path) as output:
                copy = _Copy(consumer, output, reliable, _JOINS[frames], _END_OF_GROUP.get(frames, b""))
                try:
                    with progress(lambda: f"{name}: {copy.meter}", beside=output.is_terminal):
                        await copy.run()
                finally:
                    if copy.meter.groups or sys.exception() is None:
                        _summarize(copy, sys.stdout if path else sys.stderr, as_json)
    if reliable and copy.missing:
        raise Failure(
            Exit.INCOMPLETE, f"{copy.missing} groups are missing: the publisher no longer had them when we came"
        )


class _Copy:
    """Copies a track to an output."""

    def __init__(self, track: TrackConsumer, output: Output, reliable: bool, join: Join, end_of_group: bytes) -> None:
        self.meter = Meter()
        self.missing = 0
        """Groups that did not come, or not whole. A live stream may begin with any group."""
        self._track = track
        self._output = output
        self._reliable = reliable
        self._join = join
        self._end_of_group = end_of_group

    async def run(self) -> None:
        expected = 0 if self._reliable else None
        async for group in self._track:
            if expected is not None:
                self.missing += group.sequence - expected
            expected = group.sequence + 1
            self.meter.groups += 1
            try:
                await self._group(group)
            except MoqError as error:
                if self._reliable or error.code not in SKIPPED:
                    raise
                self.missing += 1

    async def _group(self, group: GroupConsumer) -> None:
        while frames := await group.read_frames(_READ_SIZE):
            data = self._join(frames)
            await self._output.write(data)
            self.meter.add(len(frames), sum(map(len, frames)))
        if self._end_of_group:
            await self._output.write(self._end_of_group)


def _summarize(copy: _Copy, file: TextIO, as_json: bool) -> None:
    meter = copy.meter
    if as_json:
        speed = meter.bytes / meter.seconds if meter.seconds else None
        summary = {**meter.counts, "missing": copy.missing, "seconds": meter.seconds, "bytes_per_second": speed}
        click.echo(json.dumps(summary), file=file)
    else:
        say(f"received {meter}{f', {copy.missing} groups missing' if copy.missing else ''}")

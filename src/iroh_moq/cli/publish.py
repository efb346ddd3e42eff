"""``iroh-moq publish``: standard input or files become the tracks of a broadcast."""

from __future__ import annotations

import asyncio
import math
import shlex
import sys
from collections.abc import Sequence

import click

from ..model import BroadcastProducer, Cache
from ..moq import Moq
from .feed import Feed, parse_feeds
from .grouping import GROUPING_HELP
from .input import STDIN
from .options import DEFAULT_TRACK, EndpointOptions, json_option, name_argument, only, peers, with_endpoint
from .output import Output, progress, say
from .run import Exit, Failure

__all__ = ["publish"]

_RELIABLE_CACHE = Cache(max_age=math.inf)
"""Where the publisher waits for the slowest subscriber, nothing unread may grow too old."""

_GRACE = 2.0
"""Seconds after an interrupt in which what was read already may still be delivered."""

_ONLINE = 5.0
"""Seconds to wait for a relay, which a ticket for the internet should name."""


@click.command(epilog=GROUPING_HELP)
@name_argument
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), help="Publish this, not standard input."
)
@click.option(
    "--track",
    "tracks",
    multiple=True,
    metavar="TRACK[=FILE]",
    help="A track, and the file, pipe or device it comes from; - is standard input. Repeatable. "
    f"[default: {DEFAULT_TRACK}]",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="[TRACK=]GROUPING",
    help="How the input becomes groups, see below; for all tracks or for one. Repeatable. "
    "[default: bytes:1M for regular files, else chunks]",
)
@click.option(
    "--reliable",
    is_flag=True,
    help="Lose nothing: wait for a subscriber of each track, and then for the slowest one. "
    "Without it the stream is live: it waits for nobody, and who cannot keep up skips groups.",
)
@click.option(
    "--allow",
    multiple=True,
    type=peers,
    metavar="ID|FILE",
    help="Let only this peer in, or those that a file names: an id or ticket on each line, # begins a comment. "
    "Repeatable.",
)
@json_option
@with_endpoint
async def publish(
    endpoint: EndpointOptions,
    name: str,
    file: str | None,
    tracks: tuple[str, ...],
    groups: tuple[str, ...],
    reliable: bool,
    allow: tuple[frozenset[str], ...],
    as_json: bool,
) -> None:
    """Publish standard input, or files, as broadcast NAME.

    Prints the ticket by which others subscribe, streams until the input ends, and exits once all
    that subscribers still wait for has been delivered. Ctrl-C ends the input early; in the middle of a
    regular file it breaks the stream off, and who subscribes with --reconnect waits for it to come back.

    \b
      tail -f app.log | iroh-moq publish logs --group lines
      iroh-moq publish backup --file disk.img --reliable
      iroh-moq publish cam --track video=video.pipe --track audio=audio.pipe --group audio=frames:1920
    """
    broadcast = BroadcastProducer(cache=_RELIABLE_CACHE if reliable else Cache())
    feeds = parse_feeds(broadcast, file, tracks, groups)
    async with endpoint.bind(only(frozenset().union(*allow)) if allow else None) as moq:
        if endpoint.network == "internet":
            await _online(moq)
        with broadcast, Output() as output:
            await moq.publish(name, broadcast)
            if as_json:
                names = [feed.name for feed in feeds]
                await output.json(event="published", name=name, ticket=moq.ticket(), id=str(moq.id()), tracks=names)
            else:
                _tell_how_to_subscribe(name, moq.ticket(), endpoint.network, feeds, reliable)
                if allow:
                    say("Only those that --allow names get in, each with --key-file and the file of its id.")
            try:
                with progress(lambda: "; ".join(map(_state, feeds)), beside=_reads_terminal(feeds)):
                    await _stream(moq, feeds, reliable)
                if reliable and not all(feed.track.delivered for feed in feeds):
                    raise Failure(Exit.INCOMPLETE, "no subscriber has stayed until it had all of it")
            finally:
                if as_json:
                    await output.json(event="finished", tracks={feed.name: feed.meter.counts for feed in feeds})
                else:
                    for feed in feeds:
                        say(f"published track {feed.name}: {feed.meter}")


async def _stream(moq: Moq, feeds: Sequence[Feed], reliable: bool) -> None:
    """Writes the tracks to the end of their inputs, and sees them delivered.

    An interrupt is such an end, but not in the middle of a file: who has a part of one must not take it for all.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for feed in feeds:
                group.create_task(feed.run(reliable=reliable))
        await _finish(feeds)
    except asyncio.CancelledError:
        if cut_off := [feed for feed in feeds if feed.is_cut_off and feed.meter.frames]:
            say(f"interrupted in the middle of {', '.join(feed.source for feed in cut_off)}")
            # Before the tracks end. For their readers that is a loss, after which they may come back.
            await moq.shutdown()
            raise
        try:
            async with asyncio.timeout(_GRACE):
                await _finish(feeds)
        except TimeoutError:
            say("a part of what was read could not be delivered in time")
        raise


async def _finish(feeds: Sequence[Feed]) -> None:
    """Ends the tracks and waits until every subscriber has them whole."""
    for feed in feeds:
        feed.track.finish()
    for feed in feeds:
        await feed.track.unused()


async def _online(moq: Moq) -> None:
    try:
        async with asyncio.timeout(_ONLINE):
            await moq.endpoint.online()
    except TimeoutError:
        say("no relay answers, so peers beyond this network may not get through")


def _tell_how_to_subscribe(name: str, ticket: str, network: str, feeds: Sequence[Feed], reliable: bool) -> None:
    say(f"Broadcast {name} is published; its ticket is in the commands that subscribe to it:")
    for feed in feeds:
        command = ["iroh-moq", "subscribe", ticket, name]
        if feed.name != DEFAULT_TRACK:
            command += ["--track", feed.name]
        if reliable:
            command.append("--reliable")
        if network != "internet":
            command += ["--network", network]
        say(f"  {shlex.join(command)}")


def _state(feed: Feed) -> str:
    return f"{feed.name}: {feed.meter}{'' if feed.track.is_used else ', no subscriber'}"


def _reads_terminal(feeds: Sequence[Feed]) -> bool:
    return any(feed.source == STDIN for feed in feeds) and sys.stdin is not None and sys.stdin.isatty()

"""Tracks that are written from an input: where each comes from, how it is cut, and its writing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ErrorCode
from ..model import BroadcastProducer, GroupProducer
from .grouping import GroupingFactory, Piece, parse_grouping
from .input import STDIN, Input, is_regular_file
from .options import DEFAULT_TRACK, track_name
from .output import Meter, say
from .run import Exit, Failure

__all__ = ["Feed", "parse_feeds"]

_BACKLOG = 4 * 1024 * 1024
"""Bytes that a reliable publisher runs ahead of its slowest subscriber."""


class Feed:
    """One track of a broadcast, and the input that becomes it."""

    def __init__(self, name: str, source: str, grouping: GroupingFactory, broadcast: BroadcastProducer) -> None:
        self.name = name
        self.source = source
        self._broadcast = broadcast
        self._new_grouping = grouping
        self._is_file = is_regular_file(source)
        self._begin()

    def _begin(self) -> None:
        self._at_end = False
        self.meter = Meter()
        self.track = self._broadcast.create_track(self.name)
        self._grouping = self._new_grouping()
        self._group: GroupProducer | None = None
        self._latest: GroupProducer | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether more is known to be there than was written: that of a regular file."""
        return self._is_file and not self._at_end

    async def run(self, *, reliable: bool) -> None:
        """Writes the track to the end of its input; where that is reliable, no faster than it is read.

        If all who read reliably have left before they had all of a file, most of it may not be kept any more. So
        whoever comes next gets it from the beginning, and this lasts until somebody has had it.
        """
        with Input(self.source) as source:
            await source.open()
            while not await self._copy(source, reliable):
                await source.rewind()

    async def _copy(self, source: Input, reliable: bool) -> bool:
        """Writes the track once; whether that was of use."""
        must_arrive = reliable and self._is_file
        try:
            while data := await source.read():
                if must_arrive and self.meter.frames and not self.track.is_used:
                    self._begin_again()
                    return False
                if reliable:
                    await self.track.used()
                self._write(self._grouping.feed(data))
                if reliable and self._latest is not None:
                    await self._latest.drained(_BACKLOG)
            if reliable and not self.meter.frames:
                await self.track.used()
            self._write(self._grouping.end())
        finally:
            self._end_group()
        self._at_end = True
        if must_arrive:
            self.track.finish()
            await self.track.unused()
            if not self.track.delivered:
                self._begin_again()
                return False
        return True

    def _begin_again(self) -> None:
        """Offers the track anew. At once: whoever comes must never find one that has been aborted."""
        say(f"nobody has had all of track {self.name}; the next subscriber gets it from the beginning")
        self._end_group()
        self.track.abort(ErrorCode.CANCEL)
        self._begin()

    def _write(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece is None:
                self._end_group()
                continue
            if self._group is None:
                self._group = self._latest = self.track.append_group()
                self.meter.groups += 1
            self._group.write_frame(piece)
            self.meter.add(1, len(piece))

    def _end_group(self) -> None:
        if self._group is not None:
            self._group.finish()
            self._group = None


def parse_feeds(
    broadcast: BroadcastProducer, file: str | None, tracks: Sequence[str], groups: Sequence[str]
) -> list[Feed]:
    """The tracks that the options ``--file``, ``--track`` and ``--group`` make.

    Raises:
        Failure: they contradict one another, or mean nothing.
    """
    sources = _parse_tracks(file, tracks)
    groupings = _parse_groups(groups, sources)
    feeds = []
    for name, source in sources.items():
        grouping = groupings.get(name) or groupings.get("") or _default_grouping(source)
        feeds.append(Feed(name, source, grouping, broadcast))
    return feeds


def _parse_tracks(file: str | None, tracks: Sequence[str]) -> dict[str, str]:
    """The input of each track, by its name."""
    sources: dict[str, str] = {}
    without_file = 0
    for text in tracks or (DEFAULT_TRACK,):
        name, named, source = text.partition("=")
        track_name(name)
        if name in sources:
            raise Failure(Exit.USAGE, f"track {name!r} is given twice")
        if named and not source:
            raise Failure(Exit.USAGE, f"--track {text!r} names no file; write {name}=FILE, or {name} alone")
        without_file += not named
        sources[name] = source if named else file or STDIN
    if without_file > 1 or list(sources.values()).count(STDIN) > 1:
        raise Failure(Exit.USAGE, "one input makes one track: give the others files of their own, --track TRACK=FILE")
    if file is not None and not without_file:
        raise Failure(Exit.USAGE, "--file has no track: each --track names a file of its own")
    return sources


def _parse_groups(groups: Sequence[str], tracks: Iterable[str]) -> dict[str, GroupingFactory]:
    """The grouping of each track that has its own, and under an empty name that of the others."""
    groupings: dict[str, GroupingFactory] = {}
    for text in groups:
        name, named, grouping = text.rpartition("=")
        if named and name not in tracks:
            raise Failure(Exit.USAGE, f"--group is for track {name!r}, which no --track makes")
        groupings[name] = parse_grouping(grouping)
    return groupings


def _default_grouping(source: str) -> GroupingFactory:
    return parse_grouping("bytes:1M" if is_regular_file(source) else "chunks")

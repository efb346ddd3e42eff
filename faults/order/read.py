"""The readers of a scenario: each reads in its own way, and looks at all it is given."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from iroh_moq import (
    BroadcastConsumer,
    Error,
    ErrorCode,
    GroupConsumer,
    MoqError,
    MoqSession,
    NotAnnounced,
    TrackConsumer,
)

from .plan import ReaderPlan
from .publish import Record

__all__ = ["Reader"]

T = TypeVar("T")

_PATIENCE = 300.0
"""Seconds for which a reader waits for a broadcast, which may have been aborted before it was there."""

_ENOUGH = 50
"""Things that are wrong after which a reader gives up."""

_SKIPPED = (ErrorCode.OLD, ErrorCode.EVICTED)


@dataclass
class Reader:
    """One reader: what it was given, how it ended, and what was wrong with it."""

    plan: ReaderPlan
    record: Record
    chance: random.Random
    trace: Callable[[str], None]
    groups: list[int] = field(default_factory=list)
    complete: list[int] = field(default_factory=list)
    ended: bool = False
    """Whether it was told that the track has finished."""
    error: Error | None = None
    left: bool = False
    """Whether it has had enough by itself."""
    wrong: list[str] = field(default_factory=list)

    @property
    def reliable(self) -> bool:
        """Whether it must be given everything, unless it is told otherwise."""
        return self.plan.way.startswith(("reliable", "stepper"))

    async def run(self, session: MoqSession) -> None:
        """Reads to the end of the track, or of its interest."""
        await asyncio.sleep(self.plan.joins)
        try:
            broadcast = await self._found(session)
            track = self._subscribe(broadcast)
            async with track:
                await self._read(track)
        except Error as error:
            self.error = error
        self.trace(f"{self.plan.way} of {self.plan.track}: {self.groups} {self.ended} {self.error}")

    async def _found(self, session: MoqSession) -> BroadcastConsumer:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._patient(lambda: session.subscribe("cam"))
        except TimeoutError:
            raise NotAnnounced("the broadcast was not announced in time") from None

    def _subscribe(self, broadcast: BroadcastConsumer) -> TrackConsumer:
        plan = self.plan
        if plan.way == "stepper":
            return broadcast.subscribe_track(plan.track, ordered=True, start_group=0, end_group=2)
        if self.reliable:
            return broadcast.subscribe_track(plan.track, ordered=True, start_group=0)
        return broadcast.subscribe_track(plan.track, max_latency=plan.latency)

    async def _read(self, track: TrackConsumer) -> None:
        if self.plan.way == "reliable frames":
            await self._read_frames(track)
        elif self.plan.way.endswith("arrivals"):
            await self._read_arrivals(track)
        else:
            await self._read_groups(track)

    # In order of sequence

    async def _read_groups(self, track: TrackConsumer) -> None:
        while (group := await self._patient(track.next_group)) is not None:
            if self.groups and group.sequence <= self.groups[-1]:
                self.wrong.append(f"group {group.sequence} came after {self.groups[-1]}")
            self._given(group)
            if self.plan.way == "stepper":
                track.update(end_group=group.sequence + self.chance.randint(2, 4))
            if self.plan.way == "quitter" and self.chance.random() < 0.2:
                self.left = True
                return
            await self._read_group(group)
        self.ended = True

    async def _read_frames(self, track: TrackConsumer) -> None:
        frames: list[bytes] = []
        while (frame := await self._patient(track.read_frame)) is not None:
            frames.append(frame)
            await self._pause()
        self.ended = True
        # Of what was written, in one row.
        expected = [frame for sequence in sorted(self.record.groups) for frame in self.record.groups[sequence]]
        if frames != expected:
            self.wrong.append(f"{len(frames)} frames, not the {len(expected)} that were written")
        self.groups = self.complete = sorted(self.record.groups)

    # In order of arrival

    async def _read_arrivals(self, track: TrackConsumer) -> None:
        reading: list[asyncio.Future[None]] = []
        try:
            while (group := await self._patient(track.recv_group)) is not None:
                self._given(group)
                reading.append(asyncio.ensure_future(self._read_aside(group)))
            self.ended = True
        finally:
            await asyncio.gather(*reading)

    async def _read_aside(self, group: GroupConsumer) -> None:
        try:
            await self._read_group(group)
        except Error as error:
            self.error = error

    # A group

    def _given(self, group: GroupConsumer) -> None:
        if group.sequence in self.groups:
            self.wrong.append(f"group {group.sequence} came twice")
        if group.sequence not in self.record.groups:
            self.wrong.append(f"group {group.sequence} was never written")
        self.groups.append(group.sequence)
        if len(self.wrong) > _ENOUGH:
            raise NotAnnounced("this leads nowhere")

    async def _read_group(self, group: GroupConsumer) -> None:
        index = 0
        try:
            while (frame := await self._patient(group.read_frame)) is not None:
                written = self.record.groups.get(group.sequence, [])
                if index >= len(written) or written[index] != frame:
                    self.wrong.append(f"frame {index} of group {group.sequence} is {frame!r}")
                index += 1
                await self._pause()
        except MoqError as error:
            if error.code not in _SKIPPED or self.reliable:
                raise
            return
        if group.sequence not in self.record.whole or index != len(self.record.groups[group.sequence]):
            self.wrong.append(f"group {group.sequence} ended well after {index} frames")
        self.complete.append(group.sequence)

    async def _pause(self) -> None:
        if self.plan.pause and self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.uniform(0, self.plan.pause))

    async def _patient(self, call: Callable[[], Awaitable[T]]) -> T:
        """Waits for a call, or now and then cancels it and calls again, which must lose nothing."""
        while self.chance.random() < self.plan.impatience:
            try:
                async with asyncio.timeout(self.chance.choice((0.0, 0.001, 0.05))):
                    return await call()
            except TimeoutError:
                continue
        return await call()

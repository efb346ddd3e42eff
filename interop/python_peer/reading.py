"""Subscriptions: what is asked for, and what came."""

from __future__ import annotations

import asyncio
from typing import Any

from iroh_moq import Error, GroupConsumer, MoqSession, TrackConsumer

from ..content import frame
from .failures import ending

__all__ = ["Subscription", "whole_group"]


class Progress:
    """A group as far as it has been read."""

    def __init__(self, group: GroupConsumer) -> None:
        self._group = group
        self._frames = 0
        self._bytes = 0
        self._wrong = 0
        self._stamps: list[float] = []
        self._end: Any = None

    async def read(self, limit: int | None) -> int | None:
        """Reads to the end of the group, or so many frames; says how many are left, None for at the end."""
        while limit != 0:
            try:
                item = await self._group.read_timed_frame()
            except Error as error:
                self._end = ending(error)
                return None
            if item is None:
                self._end = "finished"
                return None
            data, stamp = item
            self._wrong += data != frame(self._group.sequence, self._frames, len(data))
            self._frames += 1
            self._bytes += len(data)
            if stamp is not None:
                self._stamps = [*self._stamps[:1], stamp]
            if limit is not None:
                limit -= 1
        return 0

    def report(self) -> dict[str, Any]:
        """What has been read."""
        return {
            "sequence": self._group.sequence,
            "frames": self._frames,
            "bytes": self._bytes,
            "wrong": self._wrong,
            "first_timestamp": self._stamps[0] if self._stamps else None,
            "last_timestamp": self._stamps[-1] if self._stamps else None,
            "end": self._end,
        }


class Subscription:
    """A track that is asked for as soon as its broadcast is announced."""

    def __init__(self, session: MoqSession, broadcast: str, track: str, wishes: dict[str, Any]) -> None:
        self._ordered = bool(wishes.get("ordered"))
        self._asking = asyncio.ensure_future(self._ask(session, broadcast, track, wishes))
        # Whoever reads it gets the error; if nobody does, nobody misses it.
        self._asking.add_done_callback(lambda asking: asking.cancelled() or asking.exception())
        self._current: Progress | None = None

    async def read(
        self, groups: int | None = None, delay: float = 0, frames: int | None = None, together: bool = False
    ) -> dict[str, Any]:
        """Reads groups and reports each; the last field says how the track ended, if it did.

        With ``together`` they are read beside each other, and reported as they end.
        """
        reports: list[dict[str, Any]] = []
        try:
            consumer = await asyncio.shield(self._asking)
        except Error as error:
            return {"groups": reports, "end": ending(error)}
        if together:
            return await _read_together(consumer, groups)
        left = frames
        while groups is None or len(reports) < groups:
            progress = self._current
            if progress is None:
                try:
                    group = await (consumer.next_group() if self._ordered else consumer.recv_group())
                except Error as error:
                    return {"groups": reports, "end": ending(error)}
                if group is None:
                    return {"groups": reports, "end": "finished"}
                progress = Progress(group)
            before = progress.report()["frames"]
            stopped = await progress.read(left)
            report = progress.report()
            reports.append(report)
            if stopped is not None:
                self._current = progress
                break
            self._current = None
            if left is not None:
                left -= report["frames"] - before
            if delay:
                await asyncio.sleep(delay)
        return {"groups": reports, "end": None}

    async def read_datagrams(self, count: int) -> dict[str, Any]:
        """So many datagrams."""
        consumer = await asyncio.shield(self._asking)
        reports: list[dict[str, Any]] = []
        while len(reports) < count and (datagram := await consumer.recv_datagram()) is not None:
            report = {
                "sequence": datagram.sequence,
                "bytes": len(datagram.data),
                "right": datagram.data == frame(datagram.sequence, 0, len(datagram.data)),
                "timestamp": datagram.timestamp,
            }
            reports.append(report)
        return {"datagrams": reports}

    async def update(self, **wishes: Any) -> dict[str, Any]:
        """Changes what is asked for."""
        (await asyncio.shield(self._asking)).update(**_as_wishes(wishes))
        return {}

    def close(self) -> None:
        """Ends it."""
        self._asking.cancel()
        if self._asking.done() and not self._asking.cancelled() and self._asking.exception() is None:
            self._asking.result().close()

    async def _ask(self, session: MoqSession, broadcast: str, track: str, wishes: dict[str, Any]) -> TrackConsumer:
        consumer = await session.subscribe(broadcast)
        return consumer.subscribe_track(track, **_as_wishes(wishes))


async def _read_together(consumer: TrackConsumer, count: int | None) -> dict[str, Any]:
    reports: list[dict[str, Any]] = []
    begun = 0
    end: Any = None

    async def read(group: GroupConsumer) -> None:
        reports.append(await whole_group(group))

    async with asyncio.TaskGroup() as tasks:
        while count is None or begun < count:
            try:
                group = await consumer.recv_group()
            except Error as error:
                end = ending(error)
                break
            if group is None:
                end = "finished"
                break
            begun += 1
            tasks.create_task(read(group))
    return {"groups": reports, "end": end}


def _as_wishes(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "priority": given.get("priority", 0),
        "ordered": given.get("ordered", False),
        "max_latency": given.get("max_latency"),
        "start_group": given.get("start"),
        "end_group": given.get("end"),
    }


async def whole_group(group: GroupConsumer) -> dict[str, Any]:
    """A report of one group, read to its end."""
    progress = Progress(group)
    await progress.read(None)
    return progress.report()

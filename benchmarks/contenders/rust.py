"""`rust`: the Rust implementation over a real iroh endpoint, both sides the program of the interoperability suite.

Each side is one command to a process of its own (``bench_…`` in ``interop/peer/src/command.rs``), so that no Python
is on the way of what is measured. The program never holds a writer back, so its readers acknowledge groups, four
times a window, over a socket of their own straight to the publisher's process.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from interop.harness.kinds import Kind, rust_binary
from interop.harness.process import PeerError, PeerGone, PeerProcess

from ..arrivals import HELLO, meanwhile
from ..channel import Channel, Message
from ..contender import BROADCAST
from ..failed import Failed
from ..task import FirstFrames, Flood, Paced, Task
from ..whole import WholeContender
from ..workload import Report

__all__ = ["Rust"]

_VERSION = "moq-lite-05"
"""The newest that this package speaks as well."""

_ADDRESS = "127.0.0.1:0"
_TRACK = "data"
_KEEP = 10.0
"""Seconds that a group is kept: far longer than a window takes."""

_PATIENCE = 180.0
"""Seconds that a command may take: longer than the measurement may."""

_LOCK = Path(__file__).parents[2] / "interop" / "peer" / "Cargo.lock"
_CRATES = ("moq-net", "iroh")


class Rust(WholeContender):
    name: ClassVar[str] = "rust"
    cannot: ClassVar[frozenset[str]] = frozenset({"announcements", "idle"})

    def __init__(self) -> None:
        if not rust_binary().is_file():
            raise ImportError("the Rust peer is not built: python -m interop.build")

    def versions(self) -> dict[str, str]:
        locked = tomllib.loads(_LOCK.read_text())["package"]
        return {f"{each['name']} (Rust)": each["version"] for each in locked if each["name"] in _CRATES}

    def facts(self) -> dict[str, object]:
        return {"version": _VERSION}

    async def publish(self, task: Task, channel: Channel) -> Report:
        async with _peer() as peer:
            address = await peer.call("bind", versions=[_VERSION], address=_ADDRESS)
            match task:
                case Flood():
                    return await _publish_flood(peer, task, channel, address)
                case Paced():
                    return await _publish_paced(peer, task, channel, address)
                case FirstFrames():
                    async with _published(peer, [_TRACK], task.sessions, channel, address):
                        await channel.hear("over")
                    return {}

    async def subscribe(self, task: Task, channel: Channel) -> Report:
        publisher = (await channel.hear("address"))["address"]
        async with _peer() as peer:
            match task:
                case Flood():
                    content = {"frames": task.frames, "size": task.frame_size, "window": task.window.groups}
                    flood = {**content, "acknowledge": publisher.pop("acknowledge")}
                    opened = await peer.open(publisher, [_TRACK], task.subscribers, flood=flood)
                    return await _all_arrived(peer, opened, channel)
                case Paced():
                    opened = await peer.open(publisher, [each.track for each in task.tracks], task.subscribers)
                    return await _all_arrived(peer, opened, channel)
                case FirstFrames():
                    report = await peer.open(publisher, [_TRACK], task.sessions, do="bench_first_frame")
                    channel.tell("over")
                    return report


class _Peer:
    """The process. What it says is wrong is why there is no number."""

    def __init__(self, process: PeerProcess) -> None:
        self._process = process

    async def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        try:
            return await self._process.call(do, patience=_PATIENCE, **arguments)
        except PeerError as error:
            raise Failed(error.text) from None
        except PeerGone:
            raise Failed("the Rust process has ended") from None

    async def open(
        self, publisher: Message, tracks: list[str], readers: int, *, do: str = "bench_open", **arguments: Any
    ) -> dict[str, Any]:
        return await self.call(
            do, **publisher, version=_VERSION, broadcast=BROADCAST, tracks=tracks, readers=readers, **arguments
        )


@asynccontextmanager
async def _peer() -> AsyncIterator[_Peer]:
    process = await PeerProcess.start(Kind.RUST.command(), Kind.RUST.environment(), "rust")
    try:
        yield _Peer(process)
    finally:
        # There is nothing left that a farewell would be for.
        await process.kill()


@asynccontextmanager
async def _published(
    peer: _Peer, tracks: list[str], sessions: int, channel: Channel, address: Message
) -> AsyncIterator[None]:
    """Offers tracks that begin with one frame, tells the address, and accepts so many sessions."""
    specs = [{"name": name, "keep": _KEEP} for name in tracks]
    await peer.call("publish", broadcast=BROADCAST, tracks=specs)
    for name in tracks:
        await peer.call("write", broadcast=BROADCAST, track=name, groups=1, sizes=[len(HELLO)])
    accepting = [asyncio.create_task(peer.call("accept")) for _ in range(sessions)]
    channel.tell("address", address=address)
    try:
        yield
    finally:
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)


async def _publish_flood(peer: _Peer, task: Flood, channel: Channel, address: Message) -> Report:
    listening = await peer.call("bench_listen", readers=task.subscribers)
    address["acknowledge"] = listening["address"]
    async with _published(peer, [_TRACK], task.subscribers, channel, address):
        await channel.hear("ready")
        written = await peer.call(
            "bench_flood",
            acknowledged=listening["acknowledged"],
            broadcast=BROADCAST,
            track=_TRACK,
            seconds=task.seconds,
            frames=task.frames,
            size=task.frame_size,
            window=task.window.groups,
        )
        channel.tell("written", expected={_TRACK: written["groups"]})
        await channel.hear("arrived")
        after = await peer.call("usage")
        return {**written, "processor": after["processor"] - written["processor"]}


async def _publish_paced(peer: _Peer, task: Paced, channel: Channel, address: Message) -> Report:
    async with _published(peer, [each.track for each in task.tracks], task.subscribers, channel, address):
        await channel.hear("ready")
        before = await peer.call("usage")
        paces = [
            peer.call(
                "bench_pace",
                broadcast=BROADCAST,
                track=each.track,
                rate=each.rate,
                seconds=task.seconds,
                frames=each.frames,
                first=each.first_size or each.frame_size,
                size=each.frame_size,
            )
            for each in task.tracks
        ]
        written = await asyncio.gather(*paces)
        expected = {each.track: answer["frames"] for each, answer in zip(task.tracks, written, strict=True)}
        channel.tell("written", expected=expected)
        await channel.hear("arrived")
        after = await peer.call("usage")
        return {"processor": after["processor"] - before["processor"]}


async def _all_arrived(peer: _Peer, opened: dict[str, Any], channel: Channel) -> Report:
    channel.tell("ready")
    watching = asyncio.create_task(_watch(peer, opened["readers"]))
    try:
        expected = (await meanwhile(channel.hear("written"), [watching]))["expected"]
        report = await peer.call("bench_arrived", readers=opened["readers"], expected=expected)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    channel.tell("arrived")
    return {**report, "processor": report["processor"] - opened["processor"]}


async def _watch(peer: _Peer, readers: int) -> None:
    """Ends only if a reader fails."""
    await peer.call("bench_watch", readers=readers)

"""Two peers that a case works with, and the words in which it is written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from .kinds import Kind
from .process import PATIENCE, PeerProcess
from .versions import knows_the_end

__all__ = ["BROADCAST", "TRACK", "Link", "Party", "Reading", "connect", "sequences"]

LOOPBACK = "127.0.0.1:0"
BROADCAST = "room/cam"
TRACK = "video"


@dataclass
class Party:
    """A peer with a bound endpoint."""

    kind: Kind
    process: PeerProcess
    version: str
    where: dict[str, Any] = field(default_factory=dict)

    async def bind(
        self,
        *,
        versions: list[str] | None = None,
        address: str = LOOPBACK,
        relay: bool = False,
        through: str | None = None,
    ) -> None:
        """Binds a new endpoint, for its version or for several (the newest is dialled first).

        ``through`` is the URL of a relay server. What the peer had before is closed.
        """
        newest_first = sorted(versions or [self.version], reverse=True)
        self.where = await self.process.call(
            "bind", versions=newest_first, address=address, relay=relay, through=through
        )

    async def call(self, do: str, *, patience: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        """Has the peer do something."""
        return await self.process.call(do, patience=patience, **arguments)

    def begin(self, do: str, *, patience: float = PATIENCE, **arguments: Any) -> asyncio.Task[dict[str, Any]]:
        """The same, without waiting."""
        return self.process.begin(do, patience=patience, **arguments)

    # What publishers do.

    async def publish(self, *tracks: str, broadcast: str = BROADCAST, **options: Any) -> None:
        """Offers a broadcast with tracks."""
        specs = [{"name": name, **options} for name in tracks or (TRACK,)]
        await self.call("publish", broadcast=broadcast, tracks=specs)

    async def write(
        self,
        groups: int = 1,
        sizes: tuple[int, ...] = (100,),
        *,
        broadcast: str = BROADCAST,
        track: str = TRACK,
        patience: float = PATIENCE,
        **options: Any,
    ) -> list[int]:
        """Writes groups, each of frames of these sizes; gives their numbers."""
        answer = await self.call(
            "write", broadcast=broadcast, track=track, groups=groups, sizes=sizes, patience=patience, **options
        )
        return list(answer["sequences"])

    async def used(self, *, broadcast: str = BROADCAST, track: str = TRACK) -> None:
        """Waits until somebody has subscribed to a track."""
        await self.call("used", broadcast=broadcast, track=track)

    async def unused(self, *, broadcast: str = BROADCAST, track: str = TRACK) -> None:
        """Waits until nobody is subscribed to it any more."""
        await self.call("unused", broadcast=broadcast, track=track)

    async def finish(self, track: str | None = TRACK, group: int | None = None, broadcast: str = BROADCAST) -> None:
        """Ends a group, a track (or the whole broadcast) well."""
        await self.call("finish", broadcast=broadcast, track=track, group=group)

    async def abort(
        self, code: int, track: str | None = TRACK, group: int | None = None, broadcast: str = BROADCAST
    ) -> None:
        """Ends a group, a track (or the whole broadcast) with a code."""
        await self.call("abort", broadcast=broadcast, track=track, group=group, code=code)


class Reading:
    """A subscription of a party's."""

    def __init__(self, party: Party, number: int) -> None:
        self._party = party
        self._number = number

    async def read(self, groups: int | None = None, **options: Any) -> dict[str, Any]:
        """Reads groups, without a number to the end of the track; checks every byte of them."""
        return await self.begin(groups, **options)

    def begin(self, groups: int | None = None, **options: Any) -> asyncio.Task[dict[str, Any]]:
        """The same, without waiting."""
        return asyncio.get_running_loop().create_task(self._read(groups, **options))

    async def _read(self, groups: int | None, **options: Any) -> dict[str, Any]:
        answer = await self._party.call("read", subscription=self._number, groups=groups, **options)
        wrong = [group["sequence"] for group in answer["groups"] if group["wrong"]]
        assert not wrong, f"groups {wrong} came with other bytes than were sent"
        return answer

    async def datagrams(self, count: int) -> list[dict[str, Any]]:
        """So many datagrams."""
        answer = await self._party.call("read_datagrams", subscription=self._number, count=count)
        return list(answer["datagrams"])

    async def update(self, **wishes: Any) -> None:
        """Asks for something else."""
        await self._party.call("update", subscription=self._number, **wishes)

    async def close(self) -> None:
        """Ends it."""
        await self._party.call("unsubscribe", subscription=self._number)


@dataclass
class Link:
    """A publisher and a subscriber with a session between them."""

    version: str
    publisher: Party
    subscriber: Party
    publisher_dials: bool
    at_publisher: int = -1
    """The publisher's number for the session."""
    at_subscriber: int = -1
    """The subscriber's."""

    async def connect(self) -> None:
        """Opens the session."""
        if self.publisher_dials:
            self.at_publisher, self.at_subscriber = await connect(self.publisher, self.subscriber)
        else:
            self.at_subscriber, self.at_publisher = await connect(self.subscriber, self.publisher)

    async def subscribe(self, track: str = TRACK, *, broadcast: str = BROADCAST, **wishes: Any) -> Reading:
        """Asks for a track."""
        answer = await self.subscriber.call(
            "subscribe", session=self.at_subscriber, broadcast=broadcast, track=track, **wishes
        )
        return Reading(self.subscriber, answer["subscription"])

    async def subscribe_to_all(self, track: str = TRACK, *, to_end: bool = False, **wishes: Any) -> Reading:
        """Asks for a track so that none of its groups is lost.

        Rust's reader in order of sequence leaves out what comes late, so it has to read as groups arrive. And where
        the publisher does not say which group is the last, a Rust subscriber waits at the end for what might still
        come, as long as its max latency: so that has to be short ``to_end``.
        """
        if not self.subscriber.kind.is_rust:
            return await self.subscribe(track, ordered=True, **wishes)
        if to_end and not knows_the_end(self.version):
            wishes = {"max_latency": 1.0, **wishes}
        return await self.subscribe(track, **wishes)

    async def news(self, count: int) -> list[tuple[str, bool]]:
        """What the subscriber has been told of: names, and whether they came or went."""
        answer = await self.subscriber.call("news", session=self.at_subscriber, count=count)
        return [(entry["name"], entry["active"]) for entry in answer["news"]]


async def connect(dialling: Party, accepting: Party) -> tuple[int, int]:
    """Opens a session; gives the number that each side has for it."""
    accepted = accepting.begin("accept")
    dialled = await dialling.call("dial", **accepting.where)
    answer = await accepted
    assert dialled["version"] == answer["version"] == dialling.version
    assert dialled["peer"] == accepting.where["peer"]
    assert answer["peer"] == dialling.where["peer"]
    return dialled["session"], answer["session"]


def sequences(answer: dict[str, Any]) -> list[int]:
    """The groups that were read, in ascending order."""
    return sorted(group["sequence"] for group in answer["groups"])

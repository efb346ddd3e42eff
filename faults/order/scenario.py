"""Plays one scenario, and says what was wrong with it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from hashlib import sha256

from iroh_moq import BroadcastConsumer, BroadcastProducer, Error, MoqSession, TrackProducer

from .judge import has_gap, judge
from .network import LateTransport, Weather, late_pair
from .plan import Fault, Plan
from .publish import Record, new_broadcast, write
from .read import Reader
from .world import run_in_world

__all__ = ["Outcome", "play"]

_ENOUGH = 3600.0
"""Seconds, of made-up time, in which all of it must have ended."""

_SETTLING = 10.0
"""Seconds that the last news takes to be everywhere at most."""

_ANNOUNCING = 4
"""Directions of streams that are always open: both ends follow what the other announces."""

_FAREWELL = 20.0
"""Seconds for which a relay that has lost its publisher still serves what it has."""


@dataclass
class Outcome:
    """How a scenario went: what was wrong, by claim; what was read; and a fingerprint of its course."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    readers: int = 0
    groups: int = 0
    complete: int = 0
    """Readers that were told that they have all there is."""
    told: int = 0
    """Readers that were told that there will be no more, with an error."""
    gaps: int = 0
    """Readers that have missed a group before the error that they were told of."""
    fingerprint: str = ""


def play(plan: Plan) -> Outcome:
    """Plays it. The same plan always goes the same way."""
    scenario = _Scenario(plan)
    outcome = scenario.outcome
    aftermath = run_in_world(scenario.run())
    outcome.wrong += [("no task fails", text) for text in aftermath.failed]
    outcome.wrong += [("no error goes unseen", text) for text in aftermath.unseen]
    if aftermath.error is not None:
        outcome.wrong.append(("everything comes to an end", repr(aftermath.error)))
    else:
        outcome.wrong += [("nothing is left", f"task {name}") for name in aftermath.left]
    for reader in scenario.readers:
        outcome.wrong += judge(plan, reader)
        outcome.groups += len(reader.groups)
        outcome.complete += reader.ended
        outcome.gaps += has_gap(reader)
        outcome.told += reader.error is not None
    outcome.readers = len(scenario.readers)
    outcome.fingerprint = scenario.fingerprint.hexdigest()
    return outcome


class _Scenario:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self.readers: list[Reader] = []
        self.fingerprint = sha256()
        self._records = {track.name: Record() for track in plan.tracks}
        self._links: dict[int, tuple[LateTransport, LateTransport]] = {}
        self._sessions: list[MoqSession] = []
        self._offers: list[tuple[MoqSession, BroadcastConsumer]] = []
        self._passing: list[asyncio.Future[None]] = []
        self._tracks: dict[str, TrackProducer] = {}

    def chance(self, *of: object) -> random.Random:
        return random.Random("/".join(map(str, (self.plan.seed, *of))))

    def trace(self, text: str) -> None:
        self.fingerprint.update(f"{asyncio.get_running_loop().time():.9f} {text}\n".encode())

    async def run(self) -> None:
        async with asyncio.timeout(_ENOUGH):
            await self._run()

    async def _run(self) -> None:
        plan, broadcast = self.plan, new_broadcast()
        self._tracks = {track.name: broadcast.create_track(track.name) for track in plan.tracks}
        subscribers = await self._connect(broadcast.consume())
        doing = [
            asyncio.ensure_future(write(track, self._tracks[track.name], self._records[track.name], self.chance(track)))
            for track in plan.tracks
        ]
        for number, reader in enumerate(plan.readers):
            self.readers.append(Reader(reader, self._records[reader.track], self.chance("reader", number), self.trace))
            doing.append(asyncio.ensure_future(self.readers[-1].run(subscribers[reader.subscriber])))
        faults = [asyncio.ensure_future(self._fault(fault, broadcast)) for fault in plan.faults]
        await asyncio.gather(*doing)
        await asyncio.gather(*faults)
        if not broadcast.is_closed:
            broadcast.finish()
        await broadcast.unused()
        await self._end()

    # Who is there

    async def _connect(self, broadcast: BroadcastConsumer) -> list[MoqSession]:
        """Makes the sessions of the publisher, of the relay if there is one, and of the subscribers."""
        above: MoqSession | None = None
        if self.plan.relay:
            publisher, above = await self._link(-1, "publisher", "relay")
            self._offer(publisher, broadcast)
        subscribers = []
        for number in range(self.plan.subscribers):
            near, far = await self._link(number, "relay" if above else "publisher", f"subscriber {number}")
            subscribers.append(far)
            if above is None:
                self._offer(near, broadcast)
            else:
                self._passing.append(asyncio.ensure_future(self._pass_on(above, near)))
        return subscribers

    def _offer(self, session: MoqSession, broadcast: BroadcastConsumer) -> None:
        self._offers.append((session, broadcast))
        session.publish("cam", broadcast)

    @staticmethod
    async def _pass_on(above: MoqSession, below: MoqSession) -> None:
        """What a relay does: offers the publisher's broadcast, and its next one when that has ended."""
        try:
            while True:
                broadcast = await above.subscribe("cam")
                below.publish("cam", broadcast)
                await broadcast.closed()
        except Error:
            await asyncio.sleep(_FAREWELL)
            below.close(0, "nothing to pass on any more")

    async def _link(self, number: int, here: str, there: str) -> tuple[MoqSession, MoqSession]:
        plan = self.plan
        weather = Weather(self.chance("weather", number), plan.badness)
        pair = late_pair(weather, window=plan.window, max_streams=plan.max_streams, names=(here, there))
        self._links[number] = pair
        sessions = await MoqSession.session_accept(pair[0]), await MoqSession.session_connect(pair[1])
        self._sessions += sessions
        return sessions

    # What goes wrong

    async def _fault(self, fault: Fault, broadcast: BroadcastProducer) -> None:
        await asyncio.sleep(fault.at)
        self.trace(f"{fault.kind} {fault.link}")
        near, far = self._links[fault.link]
        match fault.kind:
            case "lose":
                near.lose(*fault.after)
            case "close":
                near.close(7, "fault")
            case "close here":
                far.close(7, "fault")
            case "abort":
                broadcast.abort(77)
            case "abort track":
                self._tracks[fault.track].abort(78)
            case "unpublish":
                for session, _ in self._offers:
                    session.origin_producer().unpublish_broadcast("cam")
                await asyncio.sleep(fault.after[0])
                for session, offer in self._offers:
                    session.publish("cam", offer)

    # The end

    async def _end(self) -> None:
        # What was said last is still on its way.
        await asyncio.sleep(_SETTLING)
        for near, far in self._links.values():
            count = near.open_streams + far.open_streams
            if near.close_error is None and count != _ANNOUNCING:
                self.outcome.wrong.append(("nothing is left", f"{count} open streams"))
        for session in self._sessions:
            session.close()
        for session in self._sessions:
            await session.closed()
        for passing in self._passing:
            await passing
        await asyncio.sleep(_SETTLING)

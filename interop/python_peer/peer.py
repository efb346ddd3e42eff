"""The endpoint, and all that hangs on it: sessions, subscriptions, what is published."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from iroh import Endpoint, EndpointAddr, EndpointBuilder, EndpointId, RelayMode

from iroh_moq import IncomingSessionStream, Moq, MoqSession, Router

from .announcements import Announcements
from .failures import Usage
from .publishing import Publishing
from .reading import Subscription, whole_group
from .relay import Relay

__all__ = ["Peer"]


class Peer:
    """One bound endpoint."""

    def __init__(self, stack: AsyncExitStack, endpoint: Endpoint, moq: Moq, relay: bool, through: str | None) -> None:
        self.publishing = Publishing(moq)
        self._stack = stack
        self._endpoint = endpoint
        self._moq = moq
        self._through = through
        self._incoming: IncomingSessionStream = moq.incoming_sessions()
        self._relay = Relay() if relay else None
        self._numbers = itertools.count()
        self._sessions: dict[int, tuple[MoqSession, Announcements]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def bind(cls, versions: list[str], address: str, relay: bool = False, through: str | None = None) -> Peer:
        """Binds an endpoint that takes these versions of the protocol and no others, at this relay server if any."""
        stack = AsyncExitStack()
        builder = EndpointBuilder()  # type: ignore[no-untyped-call]
        builder.apply_minimal()
        builder.relay_mode(RelayMode.custom_from_urls([through]) if through else RelayMode.disabled())
        alpns = [version.encode() for version in versions]
        builder.alpns(alpns)
        builder.bind_addr(address)
        endpoint = await builder.bind()
        stack.push_async_callback(endpoint.close)
        if through:
            await endpoint.online()
        moq = await stack.enter_async_context(Moq(endpoint, alpns=alpns))
        router = Router(endpoint)
        router.accept(alpns, moq.protocol_handler())
        stack.push_async_callback(router.spawn().shutdown)
        return cls(stack, endpoint, moq, relay, through)

    def where(self) -> dict[str, Any]:
        """How to dial it."""
        addresses = [socket for socket in self._endpoint.bound_sockets() if not socket.startswith("[")]
        return {"peer": str(self._endpoint.id()), "addresses": addresses, "through": self._through}

    async def dial(self, peer: str, addresses: list[str], through: str | None = None) -> dict[str, Any]:
        """Opens a session with a peer, in the first of our versions that it takes."""
        remote = EndpointAddr(EndpointId.from_string(peer), through, addresses)
        return self._add(await self._moq.connect(remote))

    async def accept(self, how: str = "accept") -> dict[str, Any]:
        """Receives the next session that a peer opens."""
        incoming = await self._incoming.next()
        if incoming is None:
            raise Usage("the endpoint is closed")
        if how == "reject":
            incoming.reject()
            return {}
        return self._add(incoming.accept())

    def close(self, session: int, code: int, reason: str) -> dict[str, Any]:
        """Closes a session."""
        self.session(session).close(code, reason)
        return {}

    async def closed(self, session: int) -> dict[str, Any]:
        """Waits for the end of a session and says why it came."""
        error = await self.session(session).closed()
        return {"code": error.code, "reason": error.reason, "local": error.local}

    async def news(self, session: int, count: int) -> dict[str, Any]:
        """So many announcements and retractions."""
        return await self._entry(session)[1].wait(count)

    def stats(self, session: int) -> dict[str, Any]:
        """The paths of a session."""
        paths = self.session(session).stats().paths
        return {
            "paths": [
                {"remote": path.remote, "selected": path.selected, "relayed": path.relayed, "rtt": path.rtt}
                for path in paths
            ]
        }

    def subscribe(self, session: int, broadcast: str, track: str, **wishes: Any) -> dict[str, Any]:
        """Asks for a track; whether it is to be had shows when it is read."""
        number = next(self._numbers)
        self._subscriptions[number] = Subscription(self.session(session), broadcast, track, wishes)
        return {"subscription": number}

    def subscription(self, number: int) -> Subscription:
        """A subscription that was begun."""
        if number not in self._subscriptions:
            raise Usage(f"no subscription {number}")
        return self._subscriptions[number]

    def unsubscribe(self, subscription: int) -> dict[str, Any]:
        """Ends a subscription."""
        self.subscription(subscription).close()
        del self._subscriptions[subscription]
        return {}

    async def fetch(self, session: int, broadcast: str, track: str, group: int) -> dict[str, Any]:
        """One past group, without a subscription."""
        consumer = await self.session(session).subscribe(broadcast)
        return await whole_group(await consumer.fetch_group(track, group))

    def session(self, number: int) -> MoqSession:
        """A session that was opened."""
        return self._entry(number)[0]

    async def shutdown(self) -> None:
        """Closes everything."""
        for subscription in self._subscriptions.values():
            subscription.close()
        await self._stack.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _entry(self, number: int) -> tuple[MoqSession, Announcements]:
        if number not in self._sessions:
            raise Usage(f"no session {number}")
        return self._sessions[number]

    def _add(self, session: MoqSession) -> dict[str, Any]:
        number = next(self._numbers)
        announcements = Announcements(session)
        self._sessions[number] = session, announcements
        self._spawn(announcements.follow())
        if self._relay is not None:
            self._spawn(self._relay.follow(session))
        version = bytes(session.conn().alpn()).decode()
        return {"session": number, "version": version, "peer": str(session.remote_id())}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

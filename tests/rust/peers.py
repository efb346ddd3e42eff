"""The Rust MoQ stack (`moq-rs`) as the peer of a test, over loopback.

What to know before writing a test with it:

* A handle that is dropped ends what it stands for, so keep what :func:`publish` returns.
* A broadcast is invisible until it is announced, and SUBSCRIBE goes out with the first read of a track,
  not with `subscribe_track`.
* With a maximum age of 0, its default, it sends and yields the newest group alone; give `max_age_us` to
  see every group. Age is counted on frame timestamps, which moq-lite-03 does not carry: a publisher's
  are those given to `write_frame`, a subscriber's the times of arrival. A group ages from where the
  next one begins, and is left out from the maximum age on, not only past it. A publisher keeps five
  seconds for those who ask for more, unless `publish_track` was told another `max_age_us`.
* Of groups that arrive together, `next_group` may yield a newer one first, and then skips the older.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import moq

__all__ = ["RustClient", "RustServer", "error_code", "publish", "read_group", "rust_client", "rust_server"]

_CLOSING = 5.0
"""Seconds within which a session must have ended after it was told to."""


class RustServer:
    """A server that accepts every session; made by :func:`rust_server`."""

    def __init__(self, port: int, origin: moq.OriginProducer, remote: moq.OriginConsumer) -> None:
        self.port = port
        self.origin = origin
        """What the server announces to its peers."""

        self.remote = remote
        """What its peers announce to it."""

        self._accepted: asyncio.Queue[moq.Session] = asyncio.Queue()

    async def session(self) -> moq.Session:
        """The next session that a peer opened."""
        return await self._accepted.get()


class RustClient:
    """A client with its one session; made by :func:`rust_client`."""

    def __init__(self, session: moq.Session, origin: moq.OriginProducer, remote: moq.OriginConsumer) -> None:
        self.session = session
        self.origin = origin
        """What the client announces to us."""

        self.remote = remote
        """What we announce to it."""


@asynccontextmanager
async def rust_server(*, relay: bool = False, reject: int | None = None) -> AsyncIterator[RustServer]:
    """A Rust server; leaving closes its sessions with code 0.

    Args:
        relay: announce to each peer what the others announced.
        reject: refuse every session with this application code, which travels as `64 + reject`;
            401 and 403 become 2, unauthorized.
    """
    origin = moq.OriginProducer()
    remote = origin if relay else moq.OriginProducer()
    listener: Any = moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=remote)
    async with listener:
        server = RustServer(int(listener.local_addr.rpartition(":")[2]), origin, remote.consume())
        sessions: list[moq.Session] = []

        async def accept() -> None:
            async for request in listener:
                # A peer that left during the handshake is its own business.
                with suppress(moq.Error):
                    if reject is not None:
                        await request.reject(reject)
                    else:
                        sessions.append(session := await request.accept())
                        server._accepted.put_nowait(session)

        accepting = asyncio.create_task(accept(), name="rust server")
        try:
            yield server
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            for session in sessions:
                await _close(session)
            if not accepting.cancelled():
                accepting.result()


@asynccontextmanager
async def rust_client(port: int) -> AsyncIterator[RustClient]:
    """A Rust client of our server, which does not connect again; leaving closes with code 0."""
    origin, remote = moq.OriginProducer(), moq.OriginProducer()
    # The scheme makes it raw QUIC; with https it would speak WebTransport.
    client: Any = moq.Client(
        f"moql://127.0.0.1:{port}",
        tls_verify=False,
        websocket_enabled=False,
        reconnect=False,
        publish=origin,
        subscribe=remote,
    )
    async with client:
        try:
            yield RustClient(client.session, origin, remote.consume())
        finally:
            await _close(client.session)


def publish(
    origin: moq.OriginProducer, path: str, *tracks: str, route: moq.Route | None = None
) -> tuple[moq.BroadcastProducer, *tuple[moq.TrackProducer, ...]]:
    """Announces a broadcast with these tracks, and returns it and them.

    `route=moq.Route(hops=[1, 2])` makes it one that has come through others.
    """
    broadcast = origin.create_broadcast(path)
    producers = [broadcast.publish_track(name) for name in tracks]
    broadcast.announce(route)
    return broadcast, *producers


async def read_group(track: moq.TrackConsumer, *, as_arrived: bool = False) -> tuple[int, list[bytes]] | None:
    """The next group, whole: its sequence and its frames, or None at the end of the track."""
    group = await (track.recv_group() if as_arrived else track.next_group())
    if group is None:
        return None
    return group.sequence, [bytes(frame.payload) async for frame in group]


def error_code(error: BaseException) -> int | None:
    """The code that travelled, of an error that `moq-rs` raised, or None where it had none."""
    details = moq.protocol_error(error)
    return None if details is None else details.code


async def _close(session: moq.Session) -> None:
    session.shutdown()
    with suppress(moq.Error):
        async with asyncio.timeout(_CLOSING):
            await session.closed()

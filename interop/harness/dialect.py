"""How each version writes the same messages: what a hostile peer says, and what it expects to hear."""

from __future__ import annotations

from dataclasses import dataclass

from .raw import RawStream, message, text, varint

__all__ = ["ANNOUNCE", "FETCH", "GROUP", "LARGEST", "SETUP", "SUBSCRIBE", "TRACK_REQUEST", "WISHES", "Dialect"]

LARGEST = (1 << 62) - 1
"""The largest varint."""

WISHES = b"\x80\x00\x00\x00\x00"
"""Priority, order, latency, start and end of a subscription that wishes for nothing special."""

ANNOUNCE, SUBSCRIBE, FETCH, TRACK_REQUEST = b"\x01", b"\x02", b"\x03", b"\x06"
GROUP, SETUP = b"\x00", b"\x01"
"""What streams begin with, bidirectional ones and others."""
_ORIGIN = 77
"""The hostile peer's id in lists of hops."""


@dataclass(frozen=True)
class Dialect:
    """The messages of one version, by its number."""

    number: int

    @classmethod
    def of(cls, version: str) -> Dialect:
        """That of a version with this name."""
        return cls(int(version.rpartition("-")[2]))

    @property
    def lists_hops(self) -> bool:
        return self.number >= 4

    @property
    def is_timed(self) -> bool:
        return self.number >= 5

    # Announcements

    def announce_request(self, prefix: str = "") -> bytes:
        return ANNOUNCE + message(text(prefix), b"\x00" if self.lists_hops else b"")

    async def heard_announce_request(self, stream: RawStream) -> None:
        """Sees that a peer asks on this stream for all there is."""
        assert await stream.read(1) == ANNOUNCE
        body = await stream.message()
        # With lists of hops, the peer's own id follows.
        assert body == text("") if not self.lists_hops else body.startswith(text("")) and len(body) > 1
        if self.number >= 5:
            await stream.write(message(varint(_ORIGIN), b"\x00"))

    def active(self, name: str, hops: int = 1) -> bytes:
        ids = b"".join(varint(1000 + hop) for hop in range(hops)) if self.lists_hops else b""
        return message(b"\x01", text(name), varint(hops), ids)

    def ended(self, name: str) -> bytes:
        return message(b"\x00", text(name), b"\x00")

    async def heard_active(self, stream: RawStream, name: str) -> None:
        """Sees that a peer says first that it has this broadcast."""
        if self.number >= 5:
            await stream.message()
        body = await stream.message()
        assert body.startswith(b"\x01" + text(name)), body

    # Subscriptions

    @staticmethod
    def subscribe(number: int, broadcast: str, track: str, wishes: bytes = WISHES) -> bytes:
        return SUBSCRIBE + message(varint(number), text(broadcast), text(track), wishes)

    @property
    def accepted(self) -> bytes:
        """That a subscription is served, with what comes first where the version says so."""
        return b"\x00" + (message(WISHES) if self.number < 5 else message(b"\x00"))

    @property
    def track_info(self) -> bytes:
        """Priority, order, age in milliseconds, and timescale."""
        return message(b"\x80\x00", varint(10_000), varint(1000))

    @staticmethod
    def track(broadcast: str, track: str) -> bytes:
        return TRACK_REQUEST + message(text(broadcast), text(track))

    @staticmethod
    def fetch(broadcast: str, track: str, group: int) -> bytes:
        return FETCH + message(text(broadcast), text(track), b"\x80", varint(group))

    # Groups

    @staticmethod
    def group(subscription: int, sequence: int) -> bytes:
        return GROUP + message(varint(subscription), varint(sequence))

    def frame(self, data: bytes, size: int | None = None, time: int = 0) -> bytes:
        """A frame; ``size`` is a lie, and ``time`` the difference from the one before, as it is written."""
        stamp = varint(time) if self.is_timed else b""
        return stamp + varint(len(data) if size is None else size) + data

    @staticmethod
    def setup(*options: bytes) -> bytes:
        return SETUP + message(varint(len(options)), *options)

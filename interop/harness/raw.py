"""A Rust peer that writes bytes of the case's own making to one of this package's peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iroh_moq.transport.codes import from_wire, to_wire

from .link import Party
from .process import PATIENCE

__all__ = ["Hostile", "RawStream", "message", "text", "varint"]


def varint(value: int) -> bytes:
    """A QUIC variable-length integer, as short as it can be."""
    for size, bits in ((1, 6), (2, 14), (4, 30), (8, 62)):
        if value < 1 << bits:
            return (value | (size.bit_length() - 1) << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(value)


def text(value: str) -> bytes:
    """A string or a path."""
    return varint(len(value.encode())) + value.encode()


def message(*parts: bytes) -> bytes:
    """A body with its length before it."""
    body = b"".join(parts)
    return varint(len(body)) + body


@dataclass
class RawStream:
    """A stream that the case writes to and reads from."""

    party: Party
    number: int

    async def write(self, data: bytes, times: int = 1) -> None:
        """Sends bytes."""
        await self.party.call("raw_write", stream=self.number, hex=data.hex(), times=times)

    async def finish(self) -> None:
        """Sends the end."""
        await self.party.call("raw_end", stream=self.number, how="finish")

    async def reset(self, code: int) -> None:
        """Gives up sending."""
        await self.party.call("raw_end", stream=self.number, how="reset", code=to_wire(code))

    async def stop(self, code: int) -> None:
        """Asks the other side to give up sending."""
        await self.party.call("raw_end", stream=self.number, how="stop", code=to_wire(code))

    async def read(self, count: int | None = None) -> bytes:
        """So many bytes, or all up to the end."""
        answer = await self._read(count)
        assert count is None or answer["end"] is None, f"the stream ended: {answer}"
        return bytes.fromhex(answer["hex"])

    async def message(self) -> bytes:
        """The body of the next message."""
        first = (await self.read(1))[0]
        rest = await self.read((1 << (first >> 6)) - 1) if first >= 0x40 else b""
        size = int.from_bytes(bytes((first & 0x3F,)) + rest, "big")
        return await self.read(size) if size else b""

    async def reset_code(self) -> int | None:
        """Reads on, until the other side resets the stream, and gives its code; None if it ends well."""
        answer = await self._read(None)
        return None if answer["code"] is None else from_wire(answer["code"])

    async def stop_code(self) -> int | None:
        """Waits until the other side stops the stream, and gives its code; None if it just takes it all."""
        answer = await self.party.call("raw_stopped", stream=self.number)
        return None if answer["code"] is None else from_wire(answer["code"])

    async def _read(self, count: int | None) -> dict[str, Any]:
        return await self.party.call("raw_read", stream=self.number, bytes=count)


@dataclass
class Hostile:
    """A connection on which nothing happens but what the case does."""

    party: Party
    number: int

    async def uni(self, data: bytes = b"") -> RawStream:
        """A new unidirectional stream that begins with these bytes."""
        return await self._open("uni", data)

    async def bi(self, data: bytes = b"") -> RawStream:
        """A new bidirectional stream."""
        return await self._open("bi", data)

    async def accept_bi(self, patience: float = PATIENCE) -> RawStream:
        """The next bidirectional stream that the other side opens."""
        answer = await self.party.call("raw_accept", connection=self.number, direction="bi", patience=patience)
        return RawStream(self.party, answer["stream"])

    async def accept_uni(self) -> RawStream:
        """The next unidirectional one."""
        answer = await self.party.call("raw_accept", connection=self.number, direction="uni")
        return RawStream(self.party, answer["stream"])

    async def _open(self, direction: str, data: bytes) -> RawStream:
        answer = await self.party.call("raw_open", connection=self.number, direction=direction)
        stream = RawStream(self.party, answer["stream"])
        if data:
            await stream.write(data)
        return stream

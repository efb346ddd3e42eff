"""The basic types on the wire: varints, strings, paths, options (RFC 9000, section 16, for varints).

Writing is functions that return bytes. Reading is a `Body`: the bytes of one message, consumed from
the front, that must come out even.
"""

from __future__ import annotations

from ..errors import ErrorCode, MoqError
from ..model.path import MAX_NAME_BYTES, MAX_PATH_PARTS

__all__ = [
    "MAX_MESSAGE_SIZE",
    "MAX_VARINT",
    "Body",
    "message",
    "option",
    "peek_varint",
    "string",
    "unzigzag",
    "varint",
    "zigzag",
]

MAX_VARINT = (1 << 62) - 1

MAX_MESSAGE_SIZE = 64 * 1024
"""The longest message body accepted, in bytes, unless something else is said; real ones have a few hundred."""


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x40))


def varint(value: int) -> bytes:
    """The shortest form of a number below 2**62."""
    if value < 0x40:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")


def peek_varint(data: bytes | bytearray | memoryview, start: int) -> tuple[int, int] | None:
    """The number at ``start`` and where it ends, or None if it is not all there."""
    if start >= len(data):
        return None
    first = data[start]
    if first < 0x40:
        return first, start + 1
    end = start + (1 << (first >> 6))
    if end > len(data):
        return None
    return int.from_bytes(data[start:end], "big") & ((1 << (8 * (end - start) - 2)) - 1), end


def zigzag(difference: int) -> int:
    """A difference as a number that is small where it is small, whatever its sign."""
    return difference << 1 if difference >= 0 else (-difference << 1) - 1


def unzigzag(number: int) -> int:
    """Back from `zigzag`."""
    return number >> 1 if number & 1 == 0 else -(number >> 1) - 1


def string(value: str) -> bytes:
    """A length and that many bytes of UTF-8."""
    data = value.encode()
    return varint(len(data)) + data


def option(value: int | None) -> bytes:
    """0 for nothing, else the value plus one."""
    return varint(0 if value is None else value + 1)


def message(*fields: bytes) -> bytes:
    """A message: its length, then its body."""
    body = b"".join(fields)
    return varint(len(body)) + body


def malformed(what: str) -> MoqError:
    """The error for bytes that do not mean anything."""
    return MoqError(ErrorCode.DECODE, what)


class Body:
    """The fields of one message, read from the front.

    Every method raises MoqError (code 5) when the bytes end too early or mean nothing.
    """

    __slots__ = ("_data", "_position", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._position = 0
        self._what = what

    def varint(self) -> int:
        found = peek_varint(self._data, self._position)
        if found is None:
            raise malformed(f"{self._what} ends inside a number")
        value, self._position = found
        return value

    def u8(self) -> int:
        if self._position >= len(self._data):
            raise malformed(f"{self._what} ends before its last field")
        self._position += 1
        return self._data[self._position - 1]

    def flag(self) -> bool:
        return self.u8() != 0

    def string(self) -> str:
        size = self.varint()
        end = self._position + size
        if end > len(self._data):
            raise malformed(f"{self._what} ends inside a string")
        if size > MAX_NAME_BYTES:
            # Every string of the protocol is a name.
            raise malformed(f"{self._what} has a name of {size} bytes; at most {MAX_NAME_BYTES} are allowed")
        raw = self._data[self._position : end]
        self._position = end
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise malformed(f"{self._what} has a string that is not UTF-8") from error

    def data(self) -> bytes:
        """A length and that many bytes."""
        size = self.varint()
        start, end = self._position, self._position + size
        if end > len(self._data):
            raise malformed(f"{self._what} ends inside a value")
        self._position = end
        return self._data[start:end]

    def rest(self) -> bytes:
        """All that is left."""
        start, self._position = self._position, len(self._data)
        return self._data[start:]

    def path(self) -> str:
        """A path, normalised."""
        parts = [part for part in self.string().split("/") if part]
        if len(parts) > MAX_PATH_PARTS:
            raise malformed(f"{self._what} has a path of {len(parts)} parts; at most {MAX_PATH_PARTS} are allowed")
        return "/".join(parts)

    def option(self) -> int | None:
        value = self.varint()
        return None if value == 0 else value - 1

    def end(self) -> None:
        if self._position != len(self._data):
            raise malformed(f"{self._what} is {len(self._data) - self._position} bytes too long")

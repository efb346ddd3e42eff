"""Makes hostile bytes of honest ones: random, mutated, truncated, repeated, spliced, and cut into pieces."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["Mutator", "split"]

_LARGEST = 8 * 1024
_HUGE = 160 * 1024
"""How long an input may become; one in a thousand may be huge, more than any message may have."""

_NUMBERS = [
    bytes.fromhex(text)
    for text in (
        "00", "01", "02", "3f", "4040", "7fff", "80004000", "80010000", "80010001", "bfffffff",
        "c000000000000000", "c000000040000000", "c0000000ffffffff", "ffffffffffffffff", "fffffffffffffffe", "4000",
    )
]  # fmt: skip
"""Varints at the borders of their four forms and of the limits; the last is longer than it need be."""

_TEXT = [b"/", b"//", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\xf0\x9f\x92\xa9", b'"', b"\\", b"\\x", b")"]


class Mutator:
    """An endless source of inputs, made of a corpus and a source of randomness."""

    def __init__(self, chance: random.Random, corpus: Sequence[bytes]) -> None:
        self.chance = chance
        self.corpus = corpus
        self._ways: list[Callable[[bytearray], None]] = [
            self._flip, self._overwrite, self._insert, self._number, self._delete, self._truncate, self._repeat,
            self._splice, self._swap,
        ]  # fmt: skip

    def make(self) -> bytes:
        """The next input."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.05:
            return chance.randbytes(chance.randrange(80))
        data = bytearray(chance.choice(self.corpus))
        if kind < 0.08:
            return bytes(data)
        for _ in range(1 + chance.getrandbits(2)):
            chance.choice(self._ways)(data)
        if kind > 0.999 and data:
            data = data * (_HUGE // len(data) + 1)
            return bytes(data[:_HUGE])
        return bytes(data[:_LARGEST])

    def _place(self, data: bytearray) -> int:
        # Mostly near the beginning, where types and sizes are.
        return min(self.chance.randrange(len(data) + 1), self.chance.randrange(len(data) + 1))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.getrandbits(3)

    def _overwrite(self, data: bytearray) -> None:
        start = self._place(data)
        bits = self.chance.randbytes(1 + self.chance.getrandbits(2))
        data[start : start + len(bits)] = bits

    def _insert(self, data: bytearray) -> None:
        start = self._place(data)
        data[start:start] = self.chance.choice(_TEXT) if self.chance.getrandbits(1) else self.chance.randbytes(3)

    def _number(self, data: bytearray) -> None:
        start = self._place(data)
        data[start : start + self.chance.getrandbits(1)] = self.chance.choice(_NUMBERS)

    def _delete(self, data: bytearray) -> None:
        start = self._place(data)
        del data[start : start + 1 + self.chance.getrandbits(3)]

    def _truncate(self, data: bytearray) -> None:
        del data[self.chance.randrange(len(data) + 1) :]

    def _repeat(self, data: bytearray) -> None:
        start = self._place(data)
        data[start:start] = data[start : start + 1 + self.chance.getrandbits(5)] * (1 + self.chance.getrandbits(3))

    def _splice(self, data: bytearray) -> None:
        data[self._place(data) :] = self.chance.choice(self.corpus)

    def _swap(self, data: bytearray) -> None:
        first, second = sorted((self._place(data), self._place(data)))
        data[:] = data[:first] + data[second:] + data[first:second]


def split(chance: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces: one, a few, or every byte on its own; now and then an empty one would be
    the end of a stream, so there is none."""
    if len(data) < 2 or chance.random() < 0.1:
        return [data] if data else []
    if len(data) <= 64 and chance.random() < 0.2:
        return [data[index : index + 1] for index in range(len(data))]
    cuts = sorted({chance.randrange(1, len(data)) for _ in range(1 + chance.getrandbits(2))})
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

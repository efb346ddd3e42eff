from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq.transport.codes import from_wire, to_wire

FIRST, LAST = 0x52E4A40FA8DB, 0x52E5AC983162


@pytest.mark.parametrize(
    ("code", "wire"),
    [
        (0, FIRST),
        (1, FIRST + 1),
        (0x1D, FIRST + 0x1D),
        (0x1E, FIRST + 0x1F),
        (0x3C, FIRST + 0x3E),
        ((1 << 32) - 1, LAST),
    ],
)
def test_the_places_by_the_draft(code: int, wire: int) -> None:
    assert to_wire(code) == wire
    assert from_wire(wire) == code


@given(st.integers(0, (1 << 32) - 1))
def test_every_code_comes_back_and_meets_no_reserved_one(code: int) -> None:
    assert from_wire(to_wire(code)) == code
    # RFC 9114, section 8.1: codes of the form 0x1f * N + 0x21 are reserved.
    assert (to_wire(code) - 0x21) % 0x1F != 0


@pytest.mark.parametrize("wire", [0, 13, 77, FIRST - 1, LAST + 1, (1 << 62) - 1])
def test_a_code_from_elsewhere_is_taken_as_it_is(wire: int) -> None:
    assert from_wire(wire) == wire

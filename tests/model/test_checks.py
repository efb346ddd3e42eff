from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from iroh_moq.errors import InvalidArgument, InvalidType
from iroh_moq.model.checks import check_code, check_int, check_seconds


class Number(IntEnum):
    FIVE = 5


@pytest.mark.parametrize("value", [1, 5, 9, Number.FIVE])
def test_ints_within_their_bounds(value: int) -> None:
    assert check_int(value, "value", 1, 9) == value


def test_without_an_upper_bound() -> None:
    assert check_int(1 << 100, "value", 1) == 1 << 100
    with pytest.raises(InvalidArgument, match="value must be at least 1, not 0"):
        check_int(0, "value", 1)


@pytest.mark.parametrize("value", [0, 10, -1])
def test_ints_out_of_bounds(value: int) -> None:
    with pytest.raises(InvalidArgument, match=f"value must be between 1 and 9, not {value}"):
        check_int(value, "value", 1, 9)


@pytest.mark.parametrize(("value", "name"), [(True, "bool"), ("1", "str"), (1.0, "float"), (None, "NoneType")])
def test_what_is_no_int(value: Any, name: str) -> None:
    with pytest.raises(InvalidType, match=f"value must be an int, not {name}"):
        check_int(value, "value", 0, 9)


def test_codes_are_what_can_be_sent() -> None:
    assert check_code(0) == 0
    assert check_code((1 << 32) - 1) == (1 << 32) - 1
    for code in (-1, 1 << 32):
        with pytest.raises(InvalidArgument, match="code"):
            check_code(code)


@pytest.mark.parametrize("value", [0, 0.5, 10])
def test_seconds(value: float) -> None:
    assert check_seconds(value, "value", 10) == value


@pytest.mark.parametrize("value", [-0.1, 10.5, float("nan"), float("inf")])
def test_seconds_out_of_bounds(value: float) -> None:
    with pytest.raises(InvalidArgument, match="value must be between 0 and 10 seconds"):
        check_seconds(value, "value", 10)


@pytest.mark.parametrize("value", [True, "1", None])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(InvalidType, match="value must be a number"):
        check_seconds(value, "value", 10)

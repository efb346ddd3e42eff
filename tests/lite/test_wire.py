from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq import MAX_NAME_BYTES, ErrorCode, MoqError
from iroh_moq.lite.wire import MAX_VARINT, Body, message, option, peek_varint, string, unzigzag, varint, zigzag
from tests.lite.strategies import numbers, paths


class TestVarint:
    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            # RFC 9000, section A.1, and the borders of the four forms.
            (151288809941952652, "c2197c5eff14e88c"),
            (494878333, "9d7f3e7d"),
            (15293, "7bbd"),
            (37, "25"),
            (0, "00"),
            (0x3F, "3f"),
            (0x40, "4040"),
            (0x3FFF, "7fff"),
            (0x4000, "80004000"),
            (0x3FFFFFFF, "bfffffff"),
            (0x40000000, "c000000040000000"),
            (MAX_VARINT, "ffffffffffffffff"),
        ],
    )
    def test_known_values(self, value: int, encoded: str) -> None:
        data = bytes.fromhex(encoded)
        assert varint(value) == data
        assert peek_varint(data, 0) == (value, len(data))

    def test_a_longer_form_than_needed_is_understood(self) -> None:
        assert peek_varint(bytes.fromhex("4025"), 0) == (37, 2)

    @given(numbers, st.binary(max_size=3), st.binary(max_size=3))
    def test_round_trip_anywhere(self, value: int, before: bytes, after: bytes) -> None:
        encoded = varint(value)
        assert peek_varint(before + encoded + after, len(before)) == (value, len(before) + len(encoded))

    @given(numbers)
    def test_every_shorter_piece_is_incomplete(self, value: int) -> None:
        encoded = varint(value)
        for end in range(len(encoded)):
            assert peek_varint(encoded[:end], 0) is None


class TestBody:
    def read(self, data: bytes) -> Body:
        return Body(data, "TEST")

    @given(numbers, paths, st.booleans(), st.none() | numbers.filter(lambda value: value < MAX_VARINT))
    def test_fields_come_back_in_order(self, number: int, path: str, flag: bool, maybe: int | None) -> None:
        body = self.read(varint(number) + string(path) + bytes((flag,)) + option(maybe))
        assert (body.varint(), body.path(), body.flag(), body.option()) == (number, path, flag, maybe)
        body.end()

    def test_a_message_is_its_length_and_its_body(self) -> None:
        assert message(b"ab", b"", b"c") == b"\x03abc"
        assert message(bytes(64)) == b"\x40\x40" + bytes(64)

    @pytest.mark.parametrize(
        ("data", "field", "complaint"),
        [
            (b"", "varint", "ends inside a number"),
            (b"\x40", "varint", "ends inside a number"),
            (b"", "u8", "ends before its last field"),
            (b"", "flag", "ends before its last field"),
            (b"\x05abcd", "string", "ends inside a string"),
            (b"\x02\xff\xfe", "string", "not UTF-8"),
            (b"\x02\xff\xfe", "path", "not UTF-8"),
            (b"", "option", "ends inside a number"),
            (b"\x05abcd", "data", "ends inside a value"),
            (string("x" * (MAX_NAME_BYTES + 1)), "string", "1025 bytes"),
            (string("x" * (MAX_NAME_BYTES + 1)), "path", "1025 bytes"),
            (string("a/" * 33), "path", "33 parts"),
        ],
    )
    def test_what_means_nothing_is_refused_and_named(self, data: bytes, field: str, complaint: str) -> None:
        with pytest.raises(MoqError, match=f"TEST .*{complaint}") as caught:
            getattr(self.read(data), field)()
        assert caught.value.code == ErrorCode.DECODE

    def test_the_longest_names_are_taken(self) -> None:
        assert self.read(string("x" * MAX_NAME_BYTES)).string() == "x" * MAX_NAME_BYTES
        longest = "/".join("a" * 32)
        assert self.read(string(longest)).path() == longest

    def test_a_path_is_normalised(self) -> None:
        assert self.read(string("/a//b/c/")).path() == "a/b/c"
        assert self.read(string("///")).path() == ""

    def test_what_is_left_over_is_refused(self) -> None:
        body = self.read(b"\x01\x02\x03")
        body.u8()
        with pytest.raises(MoqError, match="2 bytes too long"):
            body.end()

    def test_bytes_and_the_rest(self) -> None:
        body = self.read(b"\x02ab\x00rest")
        assert (body.data(), body.data(), body.rest(), body.rest()) == (b"ab", b"", b"rest", b"")
        body.end()


@given(st.integers(-MAX_VARINT // 2, MAX_VARINT // 2))
def test_a_difference_is_a_number_and_back(difference: int) -> None:
    assert 0 <= zigzag(difference) <= MAX_VARINT
    assert unzigzag(zigzag(difference)) == difference


def test_small_differences_are_small_numbers() -> None:
    assert [zigzag(difference) for difference in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]

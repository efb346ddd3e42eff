from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_moq.errors import InvalidArgument, InvalidType
from iroh_moq.model.path import (
    MAX_NAME_BYTES,
    MAX_PATH_PARTS,
    check_name,
    has_prefix,
    normalize_path,
    strip_prefix,
)

parts = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=5)
paths = st.lists(parts, min_size=1, max_size=5).map("/".join)


@pytest.mark.parametrize("check", [check_name, normalize_path])
@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("", InvalidArgument, "thing must not be empty"),
        ("x" * (MAX_NAME_BYTES + 1), InvalidArgument, "thing has 1025 bytes; at most 1024"),
        ("é" * (MAX_NAME_BYTES // 2 + 1), InvalidArgument, "thing has 1026 bytes; at most 1024"),
        ("a\ud800b", InvalidArgument, "thing .* cannot be encoded as UTF-8"),
        (b"name", InvalidType, "thing must be a str, not bytes"),
        (None, InvalidType, "thing must be a str, not NoneType"),
    ],
)
def test_bad_names_are_named(check: Any, name: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check(name, "thing")


def test_the_longest_name() -> None:
    longest = "é" * (MAX_NAME_BYTES // 2)
    assert check_name(longest, "thing") == longest
    assert normalize_path(longest) == longest


@pytest.mark.parametrize(("path", "normal"), [("a", "a"), ("/a//b/", "a/b"), ("///a", "a"), ("a b/ü", "a b/ü")])
def test_paths_are_normalized(path: str, normal: str) -> None:
    assert normalize_path(path) == normal


@pytest.mark.parametrize("path", ["", "/", "///"])
def test_the_empty_path_only_where_it_is_allowed(path: str) -> None:
    assert normalize_path(path, allow_empty=True) == ""
    with pytest.raises(InvalidArgument, match="broadcast name must not be empty"):
        normalize_path(path)


def test_how_many_parts_a_path_may_have() -> None:
    longest = "/".join("a" * MAX_PATH_PARTS)
    assert normalize_path(longest) == longest
    with pytest.raises(InvalidArgument, match="has 33 parts; at most 32"):
        normalize_path(longest + "/a")


@pytest.mark.parametrize(
    ("path", "prefix", "matches"),
    [("a/b", "", True), ("a/b", "a", True), ("a/b", "a/b", True), ("ab", "a", False), ("a", "a/b", False)],
)
def test_prefixes_match_whole_parts(path: str, prefix: str, matches: bool) -> None:
    assert has_prefix(path, prefix) is matches


@given(paths)
def test_a_normal_path_stays_as_it_is(path: str) -> None:
    assert normalize_path(path) == path
    assert normalize_path(f"//{path}/") == path


@given(paths | st.just(""), paths | st.just(""))
def test_stripping_leaves_what_follows(prefix: str, suffix: str) -> None:
    path = f"{prefix}/{suffix}" if prefix and suffix else prefix or suffix
    assert has_prefix(path, prefix)
    assert strip_prefix(path, prefix) == suffix

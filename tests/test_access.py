"""What peers may do, as a matter of names and ids alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from iroh import EndpointAddr, EndpointTicket, SecretKey

from iroh_moq import Access, InvalidArgument, InvalidType
from iroh_moq.access import Audience
from iroh_moq.peers import parse_peers, read_peers

_KEYS = [SecretKey.from_bytes(bytes([number]) * 32).public() for number in range(3)]
_ALICE, _BOB, _CAROL = map(str, _KEYS)
_TICKET = str(EndpointTicket.from_addr(EndpointAddr(_KEYS[2], None, ["127.0.0.1:1"])))


class TestPrefixes:
    def test_everything_without_a_limit(self) -> None:
        assert Access() == Access(publish=None, subscribe=None)
        assert Access().may_publish("a/b")
        assert Access().may_subscribe("a/b")

    def test_nothing(self) -> None:
        assert not Access(publish=()).may_publish("a")
        assert Access(publish=()).may_subscribe("a")
        assert not Access(subscribe=()).may_subscribe("a")
        assert Access(subscribe=()).may_publish("a")

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [("room", True), ("room/alice", True), ("roommates", False), ("a/b", True), ("a", False), ("x/room", False)],
    )
    def test_whole_parts(self, name: str, allowed: bool) -> None:
        access = Access(publish=["room", "/a//b/"], subscribe=("room", "a/b"))
        assert access.may_publish(name) is allowed
        assert access.may_subscribe(name) is allowed

    def test_the_empty_prefix_is_everything(self) -> None:
        assert Access(publish=[""]).may_publish("a")

    def test_what_it_was_made_of_can_change(self) -> None:
        prefixes = ["room"]
        access = Access(publish=prefixes)
        prefixes.append("other")
        assert not access.may_publish("other")
        with pytest.raises(AttributeError):
            access.publish = None  # type: ignore[misc]
        assert copy.copy(access) == access
        assert hash(access) == hash(Access(publish=("room",)))

    @pytest.mark.parametrize(
        "value", ["room", b"room", 7, True, lambda name: True, {"room": True}, iter(["a"]), [b"a"]]
    )
    @pytest.mark.parametrize("what", ["publish", "subscribe"])
    def test_a_wrong_type(self, value: Any, what: str) -> None:
        with pytest.raises(InvalidType, match=what):
            Access(**{what: value})

    @pytest.mark.parametrize("prefix", ["\ud800", "x" * 1025, "a/" * 33])
    def test_what_no_name_begins_with(self, prefix: str) -> None:
        with pytest.raises(InvalidArgument, match="prefix in publish"):
            Access(publish=[prefix])


class TestTogether:
    @pytest.mark.parametrize(
        ("one", "other", "both"),
        [
            (None, None, None),
            (None, ["a"], ("a",)),
            (["a"], None, ("a",)),
            (["a"], [], ()),
            (["a"], ["a/b", "c"], ("a/b",)),
            (["a", "c/d"], ["a/b", "c"], ("c/d", "a/b")),
            (["a"], ["a"], ("a",)),
            (["a"], ["ab"], ()),
        ],
    )
    def test_what_both_allow(self, one: Any, other: Any, both: Any) -> None:
        assert (Access(publish=one) & Access(publish=other)).publish == both
        assert (Access(subscribe=one) & Access(subscribe=other)).subscribe == both

    def test_within(self) -> None:
        narrow, wide = Access(publish=["a/b"], subscribe=()), Access(publish=["a"])
        assert narrow.within(wide)
        assert narrow.within(narrow)
        assert narrow.within(Access())
        assert not wide.within(narrow)
        assert not Access().within(wide)
        assert not Access(publish=["a"]).within(Access(publish=["a"], subscribe=["a"]))


class TestAudience:
    def test_those_allowed_learn_of_it(self) -> None:
        audience = Audience.of(frozenset({"a"}), None)
        assert [audience.learns(peer) for peer in "ab"] == [True, False]
        assert [audience.may_subscribe(peer) for peer in "ab"] == [True, False]

    def test_unless_others_do(self) -> None:
        audience = Audience.of(frozenset({"a"}), frozenset({"b"}))
        assert [audience.learns(peer) for peer in "abc"] == [False, True, False]
        assert [audience.may_subscribe(peer) for peer in "abc"] == [True, False, False]

    def test_all_may_subscribe_and_few_learn(self) -> None:
        audience = Audience.of(None, frozenset())
        assert audience.may_subscribe("a")
        assert not audience.learns("a")


class TestPeers:
    def test_ids_texts_and_tickets(self) -> None:
        assert parse_peers([_KEYS[0], _BOB, f" {_TICKET}\n"], "allow") == frozenset({_ALICE, _BOB, _CAROL})
        assert parse_peers((), "allow") == frozenset()
        assert parse_peers(None, "allow") is None

    @pytest.mark.parametrize(
        "value", [_ALICE, _KEYS[0], b"x", 7, True, lambda peer: True, {_ALICE: False}, iter([_ALICE]), [7], [None]]
    )
    def test_a_wrong_type(self, value: Any) -> None:
        with pytest.raises(InvalidType, match="allow must"):
            parse_peers(value, "allow")

    @pytest.mark.parametrize("text", ["", "me", _ALICE[:-1], _TICKET[:-1], "\ud800", "endpoint\ud800", _ALICE + "\0"])
    def test_a_text_that_is_none(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match="allow: "):
            parse_peers([_BOB, text], "allow")


class TestAFile:
    def test_an_id_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "friends"
        path.write_bytes(f"\ufeff# friends\r\n{_ALICE}\r\n\r\n  {_TICKET} # carol\r\n{_ALICE}".encode())
        assert read_peers(path) == {_ALICE, _CAROL}

    @pytest.mark.parametrize("text", ["", "\n\n", "# nobody yet\n"])
    def test_nobody(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "friends"
        path.write_text(text)
        with pytest.raises(InvalidArgument, match="friends names nobody"):
            read_peers(path)

    def test_a_bad_line(self, tmp_path: Path) -> None:
        path = tmp_path / "friends"
        path.write_text(f"# friends\n{_ALICE}\nbob\n")
        with pytest.raises(InvalidArgument, match="friends, line 3: 'bob' is neither a ticket"):
            read_peers(path)

    def test_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "friends"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(InvalidArgument, match="not UTF-8"):
            read_peers(path)

"""Records, and the lines that become of them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest

from iroh_moq import MoqError
from iroh_moq.log import FIELDS, JsonFormatter, TextFormatter, fields
from tests.endpoints import PATIENCE, pair, published, subscribed


def record(text: str = "%s was refused", *values: object, **about: str) -> logging.LogRecord:
    made = logging.LogRecord("iroh_moq.test", logging.WARNING, "file", 1, text, values or ("bob",), None)
    made.created = 1_700_000_000.25
    vars(made).update(fields(**about))
    return made


def test_only_what_is_known_is_a_field() -> None:
    assert fields() == {}
    assert fields(peer=7, track="video", broadcast=None) == {"peer": "7", "track": "video"}


def test_json() -> None:
    line = JsonFormatter().format(record(peer="bob", broadcast="room/cam", reason="hidden"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "logger": "iroh_moq.test",
        "message": "bob was refused",
        "peer": "bob",
        "broadcast": "room/cam",
        "reason": "hidden",
    }


def test_an_exception() -> None:
    made = record()
    try:
        raise RuntimeError("the list is lost")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter().format(made))
    assert line["exception"].endswith("RuntimeError: the list is lost")
    text = TextFormatter().format(made)
    assert text.splitlines()[0] == "WARNING iroh_moq.test: bob was refused"
    assert text.splitlines()[-1] == "RuntimeError: the list is lost"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nERROR fake", "\ud800", "\u202e"])
def test_what_a_peer_says_stays_in_its_line(text: str) -> None:
    made = record("%s", text)
    line = TextFormatter().format(made)
    assert line.isprintable()
    assert json.loads(JsonFormatter().format(made))["message"] == text
    JsonFormatter().format(made).encode()


async def test_records_of_streams_have_the_broadcast_and_the_track(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "iroh_moq")
    async with pair() as (alice, bob):
        _, track = await published(alice)
        session, consumer = await subscribed(alice, bob)
        async with consumer.subscribe_track("video"):
            await asyncio.wait_for(track.used(), PATIENCE)
        missing = consumer.subscribe_track("audio")
        with pytest.raises(MoqError):
            await asyncio.wait_for(missing.next_group(), PATIENCE)
        session.close()
    seen = [(*(vars(entry).get(name) for name in FIELDS), entry.name) for entry in caplog.records]
    here, there = str(alice.id()), str(bob.id())
    for expected in (
        (None, "cam", None, None, "iroh_moq.published"),
        (there, "cam", "video", None, "iroh_moq.lite.publisher"),
        (here, "cam", "video", None, "iroh_moq.lite.subscriber"),
        (there, "cam", "audio", "not_found", "iroh_moq.lite.publisher"),
    ):
        assert expected in seen


async def test_records_of_sessions_have_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "iroh_moq")
    async with pair() as (alice, bob):
        session = await bob.connect(alice.ticket())
        session.close()
        await asyncio.wait_for(session.closed(), PATIENCE)
    about = {(entry.name, vars(entry).get("peer")) for entry in caplog.records}
    assert {("iroh_moq.actor", str(moq.id())) for moq in (alice, bob)} <= about
    assert all(name.startswith("iroh_moq.") for name, _ in about)

"""Bytes that no honest peer sends: answered with the right code on that stream alone, while the session goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from ..harness.kinds import Kind
from ..harness.link import BROADCAST, TRACK, Party
from ..harness.pool import Pool
from ..harness.raw import Hostile, RawStream, message, text, varint

CANCEL, DECODE, UNEXPECTED_STREAM, BOUNDS, DUPLICATE, NOT_FOUND, WRONG_SIZE, TOO_LARGE = 0, 5, 10, 11, 12, 13, 14, 27
MALFORMED = {DECODE, BOUNDS, TOO_LARGE, WRONG_SIZE}

GROUP = b"\x00"
ANNOUNCE, SUBSCRIBE, FETCH, UNKNOWN = b"\x01", b"\x02", b"\x03", b"\x3f"
ACTIVE, ENDED = b"\x01", b"\x00"
LARGEST = (1 << 62) - 1
REST = b"\x80\x00\x00\x00\x00"
"""Priority, order, latency, start and end of a subscription that wishes for nothing special."""

pytestmark = pytest.mark.before(4)
"""The bytes are those of moq-lite-03."""


@dataclass
class Target:
    """This package's peer, and the hostile one's connection to it."""

    party: Party
    session: int
    hostile: Hostile

    async def goes_on(self) -> None:
        """Sees that the session lives: it still announces what it has."""
        stream = await self.hostile.bi(ANNOUNCE + message(text("")))
        expected = message(ACTIVE, text(BROADCAST), b"\x01")
        assert await stream.read(len(expected)) == expected
        await stream.finish()
        assert await stream.reset_code() is None

    async def subscribed(self) -> tuple[int, RawStream, int]:
        """Makes it subscribe to a track of the hostile peer's: its reader, the stream, and the id that it gave."""
        announcing = await self.announcing()
        await announcing.write(message(ACTIVE, text("bait"), b"\x01"))
        answer = await self.party.call("subscribe", session=self.session, broadcast="bait", track=TRACK)
        stream = await self.hostile.accept_bi()
        # What is between these two is the id, whose length is known from what surrounds it.
        head = await stream.read(2)
        body = await stream.read(head[1])
        assert head[:1] == SUBSCRIBE
        number = body[0]
        await stream.write(b"\x00" + message(REST))
        return answer["subscription"], stream, number

    async def announcing(self) -> RawStream:
        """The stream on which it wants to hear of broadcasts."""
        stream = await self.hostile.accept_bi()
        assert await stream.read(3) == ANNOUNCE + message(text(""))
        return stream

    async def news(self, *expected: tuple[str, bool]) -> None:
        """Waits until it has been told of so much, and sees that it is this."""
        answer = await self.party.call("news", session=self.session, count=len(expected))
        assert [(entry["name"], entry["active"]) for entry in answer["news"]] == list(expected)

    async def group_end(self, subscription: int) -> object:
        """How the next group ends for its reader."""
        answer = await self.party.call("read", subscription=subscription, groups=1)
        end = answer["groups"][0]["end"]
        return end["code"] if isinstance(end, dict) else end


@pytest.fixture(params=["python", "python-plain"])
def column(request: pytest.FixtureRequest) -> str:
    """Who is attacked."""
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="session")
async def target(peers: Pool, version: str, column: str) -> AsyncIterator[Target]:
    """A peer that publishes something, attacked by the Rust peer."""
    kind = Kind(column)
    party = Party(kind, await peers.get(kind, "publisher"), version)
    attacker = Party(Kind.RUST, await peers.get(Kind.RUST, "attacker"), version)
    await party.bind()
    await attacker.bind()
    await party.publish()
    accepted = party.begin("accept")
    dialled = await attacker.call("raw_dial", **party.where, version=version)
    target = Target(party, (await accepted)["session"], Hostile(attacker, dialled["connection"]))
    yield target
    await target.goes_on()


# Streams of its own that this package accepts.


@pytest.mark.core
async def test_unknown_uni_stream(target: Target) -> None:
    """Is stopped."""
    stream = await target.hostile.uni(UNKNOWN + b"whatever")
    assert await stream.stop_code() == UNEXPECTED_STREAM


@pytest.mark.core
async def test_unknown_bi_stream(target: Target) -> None:
    """Is stopped and reset."""
    stream = await target.hostile.bi(UNKNOWN + b"whatever")
    assert await stream.reset_code() == UNEXPECTED_STREAM
    assert await stream.stop_code() == UNEXPECTED_STREAM


async def test_largest_stream_type(target: Target) -> None:
    """A type at the limit of what a varint can be."""
    stream = await target.hostile.bi(varint(LARGEST))
    assert await stream.reset_code() == UNEXPECTED_STREAM
    stream = await target.hostile.uni(varint(LARGEST))
    assert await stream.stop_code() == UNEXPECTED_STREAM


async def test_fetch(target: Target) -> None:
    """Not a part of this version."""
    stream = await target.hostile.bi(FETCH + message(text(BROADCAST), text(TRACK), b"\x00\x00"))
    assert await stream.reset_code() == UNEXPECTED_STREAM


async def test_stream_without_a_byte(target: Target) -> None:
    """Ends before it has said what it is; and one that is reset at once."""
    stream = await target.hostile.bi()
    await stream.finish()
    assert await stream.reset_code() in {None, *MALFORMED}
    stream = await target.hostile.bi()
    await stream.reset(77)
    stream = await target.hostile.uni()
    await stream.finish()


async def test_a_thousand_unknown_streams(target: Target) -> None:
    """Each is stopped, and none costs more than itself."""
    for _ in range(1000):
        stream = await target.hostile.uni(UNKNOWN)
        assert await stream.stop_code() == UNEXPECTED_STREAM


# Requests.


@pytest.mark.core
@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("over-long", varint(1) + text(BROADCAST) + text(TRACK) + REST + b"\x00"),
        ("too short", varint(1) + text(BROADCAST) + text(TRACK)),
        ("string past the end", varint(1) + varint(200) + b"room"),
        ("not UTF-8", varint(1) + b"\x02\xff\xfe" + text(TRACK) + REST),
        ("33 parts", varint(1) + text("/".join("x" * 33)) + text(TRACK) + REST),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_malformed_subscribe(target: Target, what: str, body: bytes) -> None:
    """Is reset with Decode, or what says more precisely what is wrong."""
    stream = await target.hostile.bi(SUBSCRIBE + message(body))
    assert await stream.reset_code() in MALFORMED, what


@pytest.mark.core
async def test_truncated_subscribe(target: Target) -> None:
    """Ends within the message."""
    stream = await target.hostile.bi(SUBSCRIBE + b"\x20\x01\x04ro")
    await stream.finish()
    assert await stream.reset_code() in MALFORMED


async def test_enormous_message(target: Target) -> None:
    """Says that it is longer than anything can be."""
    for opening in (SUBSCRIBE, ANNOUNCE):
        stream = await target.hostile.bi(opening + varint(LARGEST) + b"x" * 100)
        assert await stream.reset_code() in MALFORMED
    stream = await target.hostile.uni(GROUP + varint(LARGEST) + b"x" * 100)
    assert await stream.stop_code() in MALFORMED


@pytest.mark.core
async def test_unknown_broadcast(target: Target) -> None:
    """Is not found; nor is an unknown track of a known one."""
    for number, (broadcast, track) in enumerate([("nothing", TRACK), (BROADCAST, "nothing")]):
        stream = await target.hostile.bi(SUBSCRIBE + message(varint(number), text(broadcast), text(track), REST))
        assert await stream.reset_code() == NOT_FOUND


async def test_duplicate_subscription_id(target: Target) -> None:
    """The second is refused, and the first goes on."""
    request = SUBSCRIBE + message(varint(5), text(BROADCAST), text(TRACK), REST)
    first = await target.hostile.bi(request)
    assert await first.read(1) == b"\x00"
    second = await target.hostile.bi(request)
    assert await second.reset_code() == DUPLICATE
    await target.party.write(1, (4,))
    group = await target.hostile.accept_uni()
    assert (await group.read())[:4] == GROUP + message(varint(5), b"\x00")


async def test_subscription_at_the_limits(target: Target) -> None:
    """Every number is as large as can be."""
    wishes = b"\xff\x01" + varint(LARGEST) * 3
    stream = await target.hostile.bi(SUBSCRIBE + message(varint(LARGEST), text(BROADCAST), text(TRACK), wishes))
    assert await stream.read(1) == b"\x00"
    await stream.reset(CANCEL)


async def test_malformed_update(target: Target) -> None:
    """An update that cannot be read ends its subscription."""
    stream = await target.hostile.bi(SUBSCRIBE + message(varint(1), text(BROADCAST), text(TRACK), REST))
    assert await stream.read(1) == b"\x00"
    await stream.write(message(b"\x80"))
    assert await stream.reset_code() in MALFORMED


async def test_malformed_announce_request(target: Target) -> None:
    """Is reset."""
    stream = await target.hostile.bi(ANNOUNCE + message(text("room"), b"\x00"))
    assert await stream.reset_code() in MALFORMED


async def test_subscription_stopped(target: Target) -> None:
    """A subscriber that stops a group gets the next one; one that gives up is noticed."""
    stream = await target.hostile.bi(SUBSCRIBE + message(varint(1), text(BROADCAST), text(TRACK), REST))
    assert await stream.read(1) == b"\x00"
    await target.party.write(1, (100,), first=0, open=True)
    group = await target.hostile.accept_uni()
    await group.stop(CANCEL)
    await target.party.write(1, (100,), first=1)
    assert (await (await target.hostile.accept_uni()).read())[:4] == GROUP + b"\x02\x01\x01"
    await stream.reset(CANCEL)
    await target.party.call("unused", broadcast=BROADCAST, track=TRACK)


# Groups.


@pytest.mark.core
async def test_group_for_unknown_subscription(target: Target) -> None:
    """Is stopped quietly."""
    stream = await target.hostile.uni(GROUP + message(varint(99), varint(0)) + b"\x04data")
    assert await stream.stop_code() == CANCEL


async def test_malformed_group(target: Target) -> None:
    """Is stopped."""
    stream = await target.hostile.uni(GROUP + message(varint(0), varint(0), b"\x00"))
    assert await stream.stop_code() in MALFORMED


@pytest.mark.core
async def test_frame_ends_early(target: Target) -> None:
    """The group's reader gets WrongSize, and the next group comes through."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(GROUP + message(varint(number), varint(0)) + b"\x08half")
    await stream.finish()
    assert await target.group_end(reader) == WRONG_SIZE
    stream = await target.hostile.uni(GROUP + message(varint(number), varint(1)) + b"\x04good")
    await stream.finish()
    assert await target.group_end(reader) == "finished"


@pytest.mark.parametrize("size", [(32 << 20) + 1, LARGEST])
async def test_frame_too_large(target: Target, size: int) -> None:
    """The stream is stopped before any of it is kept, and the reader is told."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(GROUP + message(varint(number), varint(0)) + varint(size) + b"x" * 1000)
    assert await stream.stop_code() == TOO_LARGE
    assert await target.group_end(reader) == TOO_LARGE


async def test_group_twice(target: Target) -> None:
    """The second with a number is refused, and the first goes on."""
    reader, _, number = await target.subscribed()
    header = GROUP + message(varint(number), varint(0))
    first = await target.hostile.uni(header + b"\x04once")
    assert (await target.party.call("read", subscription=reader, frames=1))["groups"][0]["frames"] == 1
    second = await target.hostile.uni(header + b"\x05twice")
    assert await second.stop_code() in {DUPLICATE, CANCEL}
    await first.finish()
    assert await target.group_end(reader) == "finished"


async def test_group_number_at_the_limit(target: Target) -> None:
    """The largest group there can be."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(GROUP + message(varint(number), varint(LARGEST - 1)) + b"\x04data")
    await stream.finish()
    assert await target.group_end(reader) == "finished"


@pytest.mark.core
async def test_group_reset(target: Target) -> None:
    """The reader gets the code."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(GROUP + message(varint(number), varint(0)) + b"\x04data")
    assert (await target.party.call("read", subscription=reader, frames=1))["groups"][0]["frames"] == 1
    await stream.reset(64 + 9)
    assert await target.group_end(reader) == 64 + 9


async def test_malformed_answer(target: Target) -> None:
    """An answer to a subscription that cannot be read ends the subscription."""
    announcing = await target.announcing()
    await announcing.write(message(ACTIVE, text("bait"), b"\x01"))
    answer = await target.party.call("subscribe", session=target.session, broadcast="bait", track=TRACK)
    stream = await target.hostile.accept_bi()
    await stream.write(b"\x00" + message(b"\x80\x00"))
    assert await stream.stop_code() in MALFORMED
    assert (await target.party.call("read", **answer))["end"]["code"] in MALFORMED


# Announcements.


@pytest.mark.core
async def test_announced_twice(target: Target) -> None:
    """Is a duplicate; the stream is over, and with it what it had announced."""
    announcing = await target.announcing()
    active = message(ACTIVE, text("bait"), b"\x01")
    await announcing.write(active)
    await target.news(("bait", True))
    await announcing.write(active)
    assert await announcing.stop_code() == DUPLICATE
    await target.news(("bait", True), ("bait", False))


@pytest.mark.core
async def test_ended_twice(target: Target) -> None:
    """The second time says nothing new, so the stream goes on; a name that never was is the same."""
    announcing = await target.announcing()
    active, ended = message(ACTIVE, text("bait"), b"\x01"), message(ENDED, text("bait"), b"\x00")
    await announcing.write(active)
    await target.news(("bait", True))
    await announcing.write(ended + ended + message(ENDED, text("never"), b"\x00"))
    await target.news(("bait", True), ("bait", False))
    await announcing.write(active)
    await target.news(("bait", True), ("bait", False), ("bait", True))


@pytest.mark.parametrize(
    "body",
    [b"\x02" + text("bait") + b"\x00", ACTIVE + text("bait"), ACTIVE + text("bait") + b"\x01\x01", b""],
    ids=["unknown status", "no hops", "over-long", "empty"],
)
async def test_malformed_announcement(target: Target, body: bytes) -> None:
    """Is stopped."""
    announcing = await target.announcing()
    await announcing.write(message(body))
    assert await announcing.stop_code() in MALFORMED | {15, 16}

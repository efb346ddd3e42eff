"""Bytes that no honest peer sends: answered with the right code on that stream alone, while the session goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from ..harness.dialect import ANNOUNCE, FETCH, GROUP, LARGEST, SETUP, SUBSCRIBE, TRACK_REQUEST, WISHES, Dialect
from ..harness.kinds import Kind
from ..harness.link import BROADCAST, TRACK, Party
from ..harness.pool import Pool
from ..harness.raw import Hostile, RawStream, message, text, varint

CANCEL, DECODE, UNEXPECTED_STREAM, BOUNDS, DUPLICATE, NOT_FOUND, WRONG_SIZE, TOO_LARGE = 0, 5, 10, 11, 12, 13, 14, 27
MALFORMED = {DECODE, BOUNDS, TOO_LARGE, WRONG_SIZE}

UNKNOWN = b"\x3f"


@dataclass
class Target:
    """This package's peer, and the hostile one's connection to it."""

    party: Party
    session: int
    hostile: Hostile
    says: Dialect

    async def goes_on(self) -> None:
        """Sees that the session lives: it still announces what it has."""
        stream = await self.hostile.bi(self.says.announce_request())
        await self.says.heard_active(stream, BROADCAST)
        await stream.finish()
        assert await stream.reset_code() is None

    async def subscribed(self) -> tuple[int, RawStream, int]:
        """Makes it subscribe to a track of the hostile peer's: its reader, the stream, and the id that it gave."""
        announcing = await self.announcing()
        await announcing.write(self.says.active("bait"))
        answer = await self.party.call("subscribe", session=self.session, broadcast="bait", track=TRACK)
        stream, number = await self.asked()
        await stream.write(self.says.accepted)
        return answer["subscription"], stream, number

    async def asked(self) -> tuple[RawStream, int]:
        """The stream on which it asks for a track, and the id that it gave."""
        kinds = {SUBSCRIBE, TRACK_REQUEST} if self.says.is_timed else {SUBSCRIBE}
        requests = {kind: (stream, body) for kind, stream, body in [await self.request() for _ in kinds]}
        assert requests.keys() == kinds
        if TRACK_REQUEST in kinds:
            # Else whoever reads with timestamps waits.
            inquiry, _ = requests[TRACK_REQUEST]
            await inquiry.write(self.says.track_info)
            await inquiry.finish()
        stream, body = requests[SUBSCRIBE]
        # Subscriptions are few here: their ids have one byte.
        return stream, body[0]

    async def request(self) -> tuple[bytes, RawStream, bytes]:
        """What it asks for next: the type, the stream and the message."""
        stream = await self.hostile.accept_bi()
        return await stream.read(1), stream, await stream.message()

    async def announcing(self) -> RawStream:
        """The stream on which it wants to hear of broadcasts."""
        stream = await self.hostile.accept_bi()
        await self.says.heard_announce_request(stream)
        return stream

    async def serves(self, stream: RawStream) -> None:
        """Waits until it has begun to serve the subscription of this stream."""
        if self.says.number < 5:
            assert await stream.read(1) == b"\x00"
        else:
            # It says so only with the first group.
            await self.party.used()

    async def group(self) -> RawStream:
        """The stream of the next group that it sends."""
        while True:
            stream = await self.hostile.accept_uni()
            if await stream.read(1) == GROUP:
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
    target = Target(party, (await accepted)["session"], Hostile(attacker, dialled["connection"]), Dialect.of(version))
    if target.says.number >= 5:
        await (await target.hostile.uni(target.says.setup())).finish()
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


@pytest.mark.before(5)
@pytest.mark.parametrize("request_type", [FETCH, TRACK_REQUEST], ids=["FETCH", "TRACK"])
async def test_of_a_later_version(target: Target, request_type: bytes) -> None:
    """What only a later version has is unknown in this one."""
    stream = await target.hostile.bi(request_type + message(text(BROADCAST), text(TRACK), b"\x00\x00"))
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
        ("over-long", varint(1) + text(BROADCAST) + text(TRACK) + WISHES + b"\x00"),
        ("too short", varint(1) + text(BROADCAST) + text(TRACK)),
        ("string past the end", varint(1) + varint(200) + b"room"),
        ("not UTF-8", varint(1) + b"\x02\xff\xfe" + text(TRACK) + WISHES),
        ("33 parts", varint(1) + text("/".join("x" * 33)) + text(TRACK) + WISHES),
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
        stream = await target.hostile.bi(target.says.subscribe(number, broadcast, track))
        assert await stream.reset_code() == NOT_FOUND


async def test_duplicate_subscription_id(target: Target) -> None:
    """The second is refused, and the first goes on."""
    request = target.says.subscribe(5, BROADCAST, TRACK)
    first = await target.hostile.bi(request)
    await target.serves(first)
    second = await target.hostile.bi(request)
    assert await second.reset_code() == DUPLICATE
    await target.party.write(1, (4,))
    group = await target.group()
    assert await group.message() == varint(5) + b"\x00"


async def test_subscription_at_the_limits(target: Target) -> None:
    """Every number is as large as can be."""
    wishes = b"\xff\x01" + varint(LARGEST) * 3
    stream = await target.hostile.bi(target.says.subscribe(LARGEST, BROADCAST, TRACK, wishes))
    await target.serves(stream)
    await stream.reset(CANCEL)


async def test_malformed_update(target: Target) -> None:
    """An update that cannot be read ends its subscription."""
    stream = await target.hostile.bi(target.says.subscribe(1, BROADCAST, TRACK))
    await target.serves(stream)
    await stream.write(message(b"\x80"))
    assert await stream.reset_code() in MALFORMED


async def test_malformed_announce_request(target: Target) -> None:
    """Is reset."""
    stream = await target.hostile.bi(ANNOUNCE + message(text("room"), b"\x00\x00"))
    assert await stream.reset_code() in MALFORMED


async def test_subscription_stopped(target: Target) -> None:
    """A subscriber that stops a group gets the next one; one that gives up is noticed."""
    stream = await target.hostile.bi(target.says.subscribe(1, BROADCAST, TRACK))
    await target.serves(stream)
    await target.party.write(1, (100,), first=0, open=True)
    group = await target.group()
    await group.stop(CANCEL)
    await target.party.write(1, (100,), first=1)
    assert await (await target.group()).message() == b"\x01\x01"
    await stream.reset(CANCEL)
    await target.party.call("unused", broadcast=BROADCAST, track=TRACK)


# Groups.


@pytest.mark.core
async def test_group_for_unknown_subscription(target: Target) -> None:
    """Is stopped quietly."""
    stream = await target.hostile.uni(target.says.group(99, 0) + target.says.frame(b"data"))
    assert await stream.stop_code() == CANCEL


async def test_malformed_group(target: Target) -> None:
    """Is stopped."""
    stream = await target.hostile.uni(GROUP + message(varint(0), varint(0), b"\x00"))
    assert await stream.stop_code() in MALFORMED


@pytest.mark.core
async def test_frame_ends_early(target: Target) -> None:
    """The group's reader gets WrongSize, and the next group comes through."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(target.says.group(number, 0) + target.says.frame(b"half", size=8))
    await stream.finish()
    assert await target.group_end(reader) == WRONG_SIZE
    stream = await target.hostile.uni(target.says.group(number, 1) + target.says.frame(b"good"))
    await stream.finish()
    assert await target.group_end(reader) == "finished"


@pytest.mark.parametrize("size", [(32 << 20) + 1, LARGEST])
async def test_frame_too_large(target: Target, size: int) -> None:
    """The stream is stopped before any of it is kept, and the reader is told."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(target.says.group(number, 0) + target.says.frame(b"x" * 1000, size))
    assert await stream.stop_code() == TOO_LARGE
    assert await target.group_end(reader) == TOO_LARGE


async def test_group_twice(target: Target) -> None:
    """The second with a number is refused, and the first goes on."""
    reader, _, number = await target.subscribed()
    header = target.says.group(number, 0)
    first = await target.hostile.uni(header + target.says.frame(b"once"))
    assert (await target.party.call("read", subscription=reader, frames=1))["groups"][0]["frames"] == 1
    second = await target.hostile.uni(header + target.says.frame(b"twice"))
    assert await second.stop_code() in {DUPLICATE, CANCEL}
    await first.finish()
    assert await target.group_end(reader) == "finished"


async def test_group_number_at_the_limit(target: Target) -> None:
    """The largest group there can be."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(target.says.group(number, LARGEST - 1) + target.says.frame(b"data"))
    await stream.finish()
    assert await target.group_end(reader) == "finished"


@pytest.mark.core
async def test_group_reset(target: Target) -> None:
    """The reader gets the code."""
    reader, _, number = await target.subscribed()
    stream = await target.hostile.uni(target.says.group(number, 0) + target.says.frame(b"data"))
    assert (await target.party.call("read", subscription=reader, frames=1))["groups"][0]["frames"] == 1
    await stream.reset(64 + 9)
    assert await target.group_end(reader) == 64 + 9


async def test_malformed_answer(target: Target) -> None:
    """An answer to a subscription that cannot be read ends the subscription."""
    announcing = await target.announcing()
    await announcing.write(target.says.active("bait"))
    answer = await target.party.call("subscribe", session=target.session, broadcast="bait", track=TRACK)
    stream, _ = await target.asked()
    await stream.write(b"\x00" + message(b"\x80\x00"))
    assert await stream.stop_code() in MALFORMED
    assert (await target.party.call("read", **answer))["end"]["code"] in MALFORMED


# Announcements.


@pytest.mark.core
@pytest.mark.before(5)
async def test_announced_twice(target: Target) -> None:
    """Is a duplicate; the stream is over, and with it what it had announced."""
    announcing = await target.announcing()
    active = target.says.active("bait")
    await announcing.write(active)
    await target.news(("bait", True))
    await announcing.write(active)
    assert await announcing.stop_code() == DUPLICATE
    await target.news(("bait", True), ("bait", False))


@pytest.mark.core
async def test_ended_twice(target: Target) -> None:
    """The second time says nothing new, so the stream goes on; a name that never was is the same."""
    announcing = await target.announcing()
    active, ended = target.says.active("bait"), target.says.ended("bait")
    await announcing.write(active)
    await target.news(("bait", True))
    await announcing.write(ended + ended + target.says.ended("never"))
    await target.news(("bait", True), ("bait", False))
    await announcing.write(active)
    await target.news(("bait", True), ("bait", False), ("bait", True))


@pytest.mark.parametrize(
    "body",
    [b"\x03" + text("bait") + b"\x00", b"\x01" + text("bait"), b"\x01" + text("bait") + b"\x01\x01\x01", b""],
    ids=["unknown status", "no hops", "over-long", "empty"],
)
async def test_malformed_announcement(target: Target, body: bytes) -> None:
    """Is stopped."""
    announcing = await target.announcing()
    await announcing.write(message(body))
    assert await announcing.stop_code() in MALFORMED | {15, 16}


@pytest.mark.since(4)
async def test_too_many_hops(target: Target) -> None:
    """An announcement lists more origins than any may have passed."""
    announcing = await target.announcing()
    await announcing.write(target.says.active("bait", hops=33))
    assert await announcing.stop_code() in MALFORMED


@pytest.mark.since(5)
async def test_announced_again(target: Target) -> None:
    """A second announcement is news of the way, and the stream goes on."""
    announcing = await target.announcing()
    await announcing.write(target.says.active("bait") + target.says.active("bait", hops=3))
    await target.news(("bait", True))
    await announcing.write(target.says.ended("bait"))
    await target.news(("bait", True), ("bait", False))


# What came with moq-lite-05.


@pytest.mark.core
@pytest.mark.since(5)
async def test_setup_twice(target: Target) -> None:
    """The second is refused."""
    stream = await target.hostile.uni(target.says.setup())
    assert await stream.stop_code() == DUPLICATE


@pytest.mark.since(5)
@pytest.mark.parametrize(
    "body",
    [b"\x02" + b"\x05\x01\x01" * 2, b"\x01\x05\x09\x01", varint(65), varint(LARGEST), b""],
    ids=["an option twice", "an option past the end", "too many", "very many", "empty"],
)
async def test_malformed_setup(target: Target, body: bytes) -> None:
    """Is stopped."""
    stream = await target.hostile.uni(SETUP + message(body))
    assert await stream.stop_code() in MALFORMED


@pytest.mark.core
@pytest.mark.since(5)
async def test_fetch_and_track_of_what_is_not(target: Target) -> None:
    """Neither is found: an unknown broadcast, an unknown track, a group that never was."""
    for broadcast, track in (("nothing", TRACK), (BROADCAST, "nothing")):
        stream = await target.hostile.bi(target.says.track(broadcast, track))
        assert await stream.reset_code() == NOT_FOUND
        stream = await target.hostile.bi(target.says.fetch(broadcast, track, 0))
        assert await stream.reset_code() == NOT_FOUND
    for group in (5, LARGEST):
        stream = await target.hostile.bi(target.says.fetch(BROADCAST, TRACK, group))
        assert await stream.reset_code() == NOT_FOUND


@pytest.mark.since(5)
@pytest.mark.parametrize("request_type", [FETCH, TRACK_REQUEST], ids=["FETCH", "TRACK"])
async def test_malformed_fetch_and_track(target: Target, request_type: bytes) -> None:
    """Is reset: too short, too long, or a string past its end."""
    for body in (text(BROADCAST), text(BROADCAST) + text(TRACK) + b"\x80\x00\x00", varint(200) + b"room"):
        stream = await target.hostile.bi(request_type + message(body))
        assert await stream.reset_code() in MALFORMED


@pytest.mark.since(5)
@pytest.mark.parametrize("times", [(0, 1), (LARGEST - 1, LARGEST - 1)], ids=["before the beginning", "beyond the end"])
async def test_impossible_timestamp(target: Target, times: tuple[int, int]) -> None:
    """The second frame cannot be, so its group ends; the next group comes through."""
    reader, _, number = await target.subscribed()
    frames = b"".join(target.says.frame(b"data", time=time) for time in times)
    stream = await target.hostile.uni(target.says.group(number, 0) + frames)
    assert await stream.stop_code() in MALFORMED
    assert await target.group_end(reader) in MALFORMED
    stream = await target.hostile.uni(target.says.group(number, 1) + target.says.frame(b"good"))
    await stream.finish()
    assert await target.group_end(reader) == "finished"


@pytest.mark.since(5)
async def test_datagrams_of_nothing(target: Target) -> None:
    """What means nothing, or is for nobody, is dropped."""
    for data in (b"", b"\xff", varint(99) + b"\x00\x00data", varint(LARGEST) * 3):
        await target.hostile.party.call("raw_datagram", connection=target.hostile.number, hex=data.hex())


@pytest.mark.since(5)
async def test_malformed_track_info(target: Target) -> None:
    """A track whose properties cannot be read: the stream is stopped, and groups still come."""
    announcing = await target.announcing()
    await announcing.write(target.says.active("bait"))
    answer = await target.party.call("subscribe", session=target.session, broadcast="bait", track=TRACK)
    requests = {kind: (stream, body) for kind, stream, body in [await target.request(), await target.request()]}
    (subscription, subscribed), (inquiry, _) = requests[SUBSCRIBE], requests[TRACK_REQUEST]
    await subscription.write(target.says.accepted)
    await inquiry.write(message(b"\x80\x00\x00\x00"))
    assert await inquiry.stop_code() in MALFORMED
    group = await target.hostile.uni(target.says.group(subscribed[0], 0) + target.says.frame(b"good"))
    await group.finish()
    assert await target.group_end(answer["subscription"]) == "finished"

"""Who may do what, between real endpoints."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from iroh import EndpointId

from iroh_moq import (
    ALPN,
    Access,
    BroadcastProducer,
    ErrorCode,
    InvalidArgument,
    InvalidType,
    Moq,
    MoqError,
    MoqSession,
    ServerError,
)
from tests.endpoints import PATIENCE, bound, next_news, pair, published

FRAME = b"for those who may"


@dataclass
class Peer:
    """Somebody with a session to the publisher."""

    moq: Moq
    session: MoqSession

    @property
    def id(self) -> str:
        return str(self.moq.id())


@asynccontextmanager
async def meeting(count: int = 2, **options: Any) -> AsyncIterator[tuple[Moq, list[Peer]]]:
    """A publisher and those who have dialled it."""
    async with AsyncExitStack() as stack:
        # In later versions a subscription asks, and may be refused, on two streams.
        publisher = await stack.enter_async_context(bound(**{"alpns": ALPN} | options))
        peers = []
        for _ in range(count):
            moq = await stack.enter_async_context(bound())
            async with asyncio.timeout(PATIENCE):
                peers.append(Peer(moq, await moq.connect(publisher.ticket())))
        yield publisher, peers


async def told(session: MoqSession, until: str) -> list[str]:
    """The names that a peer is told, up to one that was published last."""
    news, names = session.origin_consumer(), []
    while (name := (await next_news(news))[0]) != until:
        names.append(name)
    return names


async def read(session: MoqSession, name: str, *, announced: bool = False) -> bytes | None:
    async with asyncio.timeout(PATIENCE):
        consumer = await session.subscribe(name, announced=announced)
        async with consumer.subscribe_track("video") as track:
            return await track.read_frame()


async def refused(session: MoqSession, name: str, *, announced: bool = False) -> int:
    """The code that a subscription ends with."""
    with pytest.raises(MoqError) as caught:
        await read(session, name, announced=announced)
    return caught.value.code


async def publish(moq: Moq, name: str = "cam", **audience: Any) -> BroadcastProducer:
    """A broadcast with a frame to read."""
    broadcast = BroadcastProducer()
    broadcast.create_track("video").write_frame(FRAME)
    await moq.publish(name, broadcast, **audience)
    return broadcast


class TestAllow:
    @pytest.mark.parametrize("form", [lambda moq: moq.id(), lambda moq: str(moq.id()), lambda moq: moq.ticket()])
    async def test_others_neither_learn_of_it_nor_get_it(self, form: Callable[[Moq], Any]) -> None:
        async with meeting() as (alice, (bob, carol)):
            await publish(alice, "cam", allow=[form(bob.moq)])
            await publish(alice, "open")
            assert await told(bob.session, "open") == ["cam"]
            assert await told(carol.session, "open") == []
            assert await read(bob.session, "cam", announced=True) == FRAME
            # Exactly as if it were not there.
            codes = [await refused(carol.session, name) for name in ("cam", "nothing")]
            assert codes == [ErrorCode.NOT_FOUND, ErrorCode.NOT_FOUND]
            assert alice.metrics().refusals["hidden"] == 1
            assert await read(carol.session, "open") == FRAME

    async def test_who_comes_later(self) -> None:
        async with meeting(0) as (alice, _), bound() as bob, bound() as carol:
            await publish(alice, "cam", allow={bob.id()})
            await publish(alice, "open")
            for moq, names in ((bob, ["cam"]), (carol, [])):
                assert await told(await moq.connect(alice.ticket()), "open") == names

    async def test_the_one_who_is_dialled(self) -> None:
        async with pair() as (alice, bob):
            await publish(alice, "cam", allow=[])
            await publish(alice, "friends", allow=[bob.id()])
            await publish(alice, "open")
            incoming = bob.incoming_sessions()
            await alice.connect(bob.ticket())
            session = await asyncio.wait_for(incoming.next(), PATIENCE)
            assert session is not None
            assert await told(session.accept(), "open") == ["friends"]
            assert await refused(session.accept(), "cam") == ErrorCode.NOT_FOUND

    async def test_nobody(self) -> None:
        async with meeting(1) as (alice, (bob,)):
            await publish(alice, allow=[])
            await publish(alice, "open")
            assert await told(bob.session, "open") == []
            assert await refused(bob.session, "cam") == ErrorCode.NOT_FOUND


class TestAnnounceTo:
    async def test_those_who_know_the_name_may_have_it(self) -> None:
        async with meeting() as (alice, (bob, carol)):
            await publish(alice, "cam", announce_to=[bob.id])
            await publish(alice, "open")
            assert await told(bob.session, "open") == ["cam"]
            assert await told(carol.session, "open") == []
            assert await read(carol.session, "cam") == FRAME

    async def test_allowed_but_not_told(self) -> None:
        async with meeting() as (alice, (bob, carol)):
            await publish(alice, "cam", allow=[bob.id], announce_to=[])
            await publish(alice, "open")
            assert await told(bob.session, "open") == []
            assert await read(bob.session, "cam") == FRAME
            assert await refused(carol.session, "cam") == ErrorCode.NOT_FOUND

    async def test_told_but_not_allowed(self, caplog: pytest.LogCaptureFixture) -> None:
        async with meeting(1) as (alice, (bob,)):
            await publish(alice, "cam", allow=[], announce_to=[bob.id])
            for _ in range(3):
                assert await refused(bob.session, "cam", announced=True) == ErrorCode.UNAUTHORIZED
            assert alice.metrics().refusals == {"subscription": 3}
            (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert bob.id in line.getMessage()
            assert vars(line)["peer"] == bob.id

    async def test_a_hidden_broadcast_that_ends(self) -> None:
        async with meeting(1) as (alice, (bob,)):
            broadcast = await publish(alice, "cam", announce_to=[])
            consumer = await bob.session.subscribe("cam", announced=False)
            assert await bob.session.subscribe("cam", announced=False) == consumer
            assert await read(bob.session, "cam") == FRAME
            await asyncio.wait_for(broadcast.unused(), PATIENCE)
            broadcast.finish()
            assert await refused(bob.session, "cam") == ErrorCode.NOT_FOUND
            # What was asked for by its name ends with the session.
            bob.session.close()
            assert await asyncio.wait_for(consumer.closed(), PATIENCE) is not None


class TestReplacing:
    async def test_a_broadcast_for_others(self) -> None:
        async with meeting() as (alice, (bob, carol)):
            await publish(alice)
            watching = [peer.session.origin_consumer() for peer in (bob, carol)]
            for news in watching:
                assert (await next_news(news))[0] == "cam"
            await publish(alice, allow=[carol.id])
            for news in watching:
                assert await next_news(news) == ("cam", None)
            assert (await next_news(watching[1]))[0] == "cam"
            await publish(alice, "open")
            assert (await next_news(watching[0]))[0] == "open"
            assert await alice.published_broadcasts() == ["cam", "open"]
            assert await refused(bob.session, "cam") == ErrorCode.NOT_FOUND

    async def test_the_same_broadcast_for_others(self) -> None:
        async with meeting() as (alice, (bob, carol)):
            broadcast = await publish(alice, allow=[bob.id])
            news = bob.session.origin_consumer()
            assert (await next_news(news))[0] == "cam"
            await alice.publish("cam", broadcast, allow=[carol.id])
            assert await next_news(news) == ("cam", None)
            assert await read(carol.session, "cam", announced=True) == FRAME
            await alice.publish("cam", broadcast)
            assert (await next_news(news))[0] == "cam"
            assert await read(bob.session, "cam", announced=True) == FRAME

    async def test_unpublished_it_is_open_to_nobody(self) -> None:
        async with meeting(1) as (alice, (bob,)):
            broadcast = await publish(alice, announce_to=[])
            assert await read(bob.session, "cam") == FRAME
            await asyncio.wait_for(broadcast.unused(), PATIENCE)
            await alice.unpublish("cam")
            assert await refused(bob.session, "cam") == ErrorCode.NOT_FOUND
            assert not broadcast.is_closed
            # No list is left over for the next of that name.
            await publish(alice)
            assert await read(bob.session, "cam", announced=True) == FRAME


class TestMistakes:
    @pytest.mark.parametrize("what", ["allow", "announce_to"])
    async def test_lists_that_cannot_be(self, what: str) -> None:
        async with bound() as alice:
            mistakes: list[Any] = [
                str(alice.id()),
                alice.id(),
                lambda peer: True,
                True,
                7,
                {str(alice.id()): True},
                [7],
            ]
            for wrong in mistakes:
                with pytest.raises(InvalidType, match=what):
                    await alice.publish("cam", BroadcastProducer(), **{what: wrong})
            for bad in ("me", "\ud800", "endpoint\ud800", ""):
                with pytest.raises(InvalidArgument, match=what):
                    await alice.publish("cam", BroadcastProducer(), **{what: [bad]})
            assert await alice.published_broadcasts() == []

    async def test_an_access_that_is_none(self) -> None:
        async with pair() as (alice, bob):
            for wrong in (True, "cam", ("cam",), lambda name: True):
                with pytest.raises(InvalidType, match="access must be an Access"):
                    await bob.connect(alice.ticket(), access=wrong)  # type: ignore[arg-type]

    async def test_surrogates_are_no_peer(self) -> None:
        async with bound() as bob:
            for text in ("\ud800", "endpoint\ud800"):
                with pytest.raises(InvalidArgument):
                    await bob.connect(text)


class TestAuthorize:
    @pytest.mark.parametrize("answer", [None, 1, "yes", [], ["cam"], object(), lambda: True, 0])
    async def test_an_answer_that_is_none_is_a_no(self, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
        async with pair(authorize=lambda peer: answer) as (alice, bob):
            await publish(alice)
            with pytest.raises(ServerError) as caught:
                await bob.connect(alice.ticket())
            assert caught.value.code == ErrorCode.UNAUTHORIZED
            assert alice.metrics().refusals == {"authorize_failed": 1}
            assert "it must be a bool or an Access" in caplog.text
            assert str(bob.id()) in caplog.text

    async def test_an_exception_is_a_no(self, caplog: pytest.LogCaptureFixture) -> None:
        def authorize(peer: EndpointId) -> bool:
            raise RuntimeError("the list is lost")

        async with pair(authorize=authorize) as (alice, bob):
            for _ in range(3):
                with pytest.raises(ServerError):
                    await bob.connect(alice.ticket())
            assert alice.metrics().refusals == {"authorize_failed": 3}
            assert alice.metrics().sessions_opened == {"incoming": 0, "outgoing": 0}
            assert caplog.text.count("RuntimeError: the list is lost") == 1

    async def test_a_no_is_counted_each_time_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async with pair(authorize=lambda peer: False) as (alice, bob):
            for _ in range(3):
                with pytest.raises(ServerError):
                    await bob.connect(alice.ticket())
            assert alice.metrics().refusals == {"unauthorized": 3}
            assert caplog.text.count(f"{bob.id()} is not authorized") == 1
        assert f"2 more refusals of {bob.id()}: unauthorized" in caplog.text

    @pytest.mark.parametrize("later", [False, True])
    async def test_what_a_peer_may_learn_and_have(self, later: bool) -> None:
        async def allowed(peer: EndpointId) -> Access:
            await asyncio.sleep(0)
            return Access(subscribe=["room", "open"])

        plain = Access(subscribe=["room", "open"])
        async with meeting(1, authorize=allowed if later else lambda peer: plain) as (alice, (bob,)):
            for name in ("roommates", "cam", "room/alice", "room", "open"):
                await publish(alice, name)
            assert await told(bob.session, "open") == ["room/alice", "room"]
            assert await read(bob.session, "room/alice", announced=True) == FRAME
            assert await refused(bob.session, "cam") == ErrorCode.NOT_FOUND
            assert await refused(bob.session, "roommates") == ErrorCode.NOT_FOUND
            assert await refused(bob.session, "nothing") == ErrorCode.NOT_FOUND
            assert alice.metrics().refusals == {"hidden": 2, "not_found": 1}

    async def test_what_the_application_offers_one_session_is_limited_too(self) -> None:
        async with pair(authorize=lambda peer: Access(subscribe=["open"])) as (alice, bob):
            incoming = alice.incoming_sessions()
            session = await bob.connect(alice.ticket())
            other = await asyncio.wait_for(incoming.next(), PATIENCE)
            assert other is not None
            for name in ("cam", "open"):
                other.accept().publish(name, BroadcastProducer().consume())
            assert await told(session, "open") == []
            assert await refused(session, "cam") == ErrorCode.NOT_FOUND

    async def test_an_open_door_does_not_open_a_broadcast(self) -> None:
        async with meeting(1, authorize=lambda peer: Access(subscribe=["cam"])) as (alice, (bob,)):
            await publish(alice, "cam/hidden", allow=[])
            await publish(alice, "other", allow=[bob.id])
            await publish(alice, "cam")
            assert await told(bob.session, "cam") == []
            assert await refused(bob.session, "cam/hidden") == ErrorCode.NOT_FOUND
            assert await refused(bob.session, "other") == ErrorCode.NOT_FOUND

    async def test_what_a_peer_may_publish(self, caplog: pytest.LogCaptureFixture) -> None:
        async with pair(authorize=lambda peer: Access(publish=["room/bob"])) as (alice, bob):
            incoming = alice.incoming_sessions()
            for name in ("cam", "room/bobby", "other", "room/bob/phone"):
                await publish(bob, name)
            await bob.connect(alice.ticket())
            other = await asyncio.wait_for(incoming.next(), PATIENCE)
            assert other is not None
            session = other.accept()
            assert await told(session, "room/bob/phone") == []
            assert await read(session, "room/bob/phone", announced=True) == FRAME
            with pytest.raises(MoqError) as caught:
                await session.subscribe("cam", announced=False)
            assert caught.value.code == ErrorCode.UNAUTHORIZED
            # One line for all three; and the end of what was never heard of is no news.
            await bob.unpublish("cam")
            await bob.unpublish("room/bob/phone")
            news = session.origin_consumer()
            while (await next_news(news)) != ("room/bob/phone", None):
                pass
            metrics = alice.metrics()
            assert metrics.refusals == {"announcement": 3}
            assert metrics.announcements_received == 1
            lines = [record for record in caplog.records if "may not publish" in record.getMessage()]
            assert [vars(line)["peer"] for line in lines] == [str(bob.id())]
            assert not session.is_closed

    async def test_a_session_that_the_application_rejects(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "iroh_moq.session")
        async with pair() as (alice, bob):
            incoming = alice.incoming_sessions()
            session = await bob.connect(alice.ticket())
            other = await asyncio.wait_for(incoming.next(), PATIENCE)
            assert other is not None
            other.reject()
            await asyncio.wait_for(session.closed(), PATIENCE)
            assert alice.metrics().refusals == {"rejected": 1}
            assert f"{bob.id()} was rejected" in caplog.text


class TestConnect:
    async def test_what_the_dialled_peer_may_do(self) -> None:
        # In later versions a subscription asks, and is refused, on two streams.
        async with pair(alpns=ALPN) as (alice, bob):
            for name in ("cam", "open"):
                await publish(alice, name)
                await publish(bob, name)
            incoming = bob.incoming_sessions()
            session = await alice.connect(bob.ticket(), access=Access(publish=["open"], subscribe=["open"]))
            assert session.access == Access(publish=("open",), subscribe=("open",))
            other = await asyncio.wait_for(incoming.next(), PATIENCE)
            assert other is not None
            assert await told(session, "open") == []
            assert await told(other.accept(), "open") == []
            assert await refused(other.accept(), "cam") == ErrorCode.NOT_FOUND
            assert alice.metrics().refusals == {"announcement": 1, "hidden": 1}

    async def test_a_live_session_that_allows_more(self) -> None:
        async with pair() as (alice, bob):
            session = await alice.connect(bob.ticket(), access=Access(publish=["a"]))
            assert await alice.connect(bob.ticket()) is session
            assert await alice.connect(bob.ticket(), access=Access(publish=["a", "b"])) is session
            with pytest.raises(InvalidArgument, match="less than the live session"):
                await alice.connect(bob.ticket(), access=Access(publish=["a/b"]))
            assert not session.is_closed

    async def test_concurrent_ones_get_what_all_of_them_allow(self) -> None:
        async with pair() as (alice, bob):
            sessions = await asyncio.gather(
                alice.connect(bob.ticket()),
                alice.connect(bob.ticket(), access=Access(publish=["a"])),
                alice.connect(bob.ticket(), access=Access(subscribe=["b"])),
            )
            assert len(set(sessions)) == 1
            assert sessions[0].access == Access(publish=["a"], subscribe=["b"])

    @pytest.mark.parametrize("round_", range(4))
    async def test_whichever_of_two_connections_survives(self, round_: int) -> None:
        """Both dial at once: what the caller allows holds, even on the connection that the peer dialled."""
        async with pair(authorize=lambda peer: Access(subscribe=["b"])) as (alice, bob):

            async def later() -> MoqSession:
                await asyncio.sleep(round_ * 0.002)
                return await bob.connect(alice.ticket())

            narrow = Access(publish=["a"])
            ours, _ = await asyncio.gather(alice.connect(bob.ticket(), access=narrow), later())
            assert ours.access.within(narrow)
            if ours.conn().side().name == "SERVER":
                assert ours.access == Access(publish=["a"], subscribe=["b"])

    async def test_the_limit_goes_with_its_session(self) -> None:
        async with pair() as (alice, bob):
            session = await alice.connect(bob.ticket(), access=Access(publish=[]))
            session.close()
            # Before the end of the first has been seen out.
            assert (await alice.connect(bob.ticket())).access == Access()

    async def test_the_limit_goes_with_its_attempt(self) -> None:
        async with pair() as (alice, bob):
            ticket = bob.ticket()
            bob.endpoint.set_alpns([b"other"])
            with pytest.raises(Exception, match="does not speak"):
                await alice.connect(ticket, access=Access(publish=[]))
            bob.endpoint.set_alpns([b"moq-lite-03"])
            assert (await alice.connect(ticket)).access == Access()


async def test_everybody_may_do_everything_without_a_word() -> None:
    async with pair() as (alice, bob):
        await published(alice)
        session = await bob.connect(alice.ticket())
        assert session.access == Access()
        assert await asyncio.wait_for(session.subscribe("cam"), PATIENCE)
        assert alice.metrics().refusals == {}

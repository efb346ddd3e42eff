"""The chat: whoever has one ticket reaches everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.examples.programs import Program, running


@asynccontextmanager
async def _chatting(nick: str, *tickets: str) -> AsyncIterator[tuple[Program, str]]:
    async with running("chat", nick, *tickets) as chat:
        yield chat, await chat.ticket()


async def test_one_ticket_leads_to_everybody() -> None:
    async with (
        _chatting("ann") as (ann, first),
        _chatting("bob", first) as (bob, second),
        _chatting("cid", second) as (cid, _),
    ):
        await asyncio.gather(
            ann.has_said(r"^\* bob is here$", r"^\* cid is here$"),
            bob.has_said(r"^\* ann is here$", r"^\* cid is here$"),
            cid.has_said(r"^\* ann is here$", r"^\* bob is here$"),
        )
        ann.type("good morning")
        cid.type("hello")
        await asyncio.gather(
            ann.has_said(r"^\d\d:\d\d cid: hello$"),
            bob.has_said(r"^\d\d:\d\d ann: good morning$", r"^\d\d:\d\d cid: hello$"),
            cid.has_said(r"^\d\d:\d\d ann: good morning$"),
        )
        # The two that met through the third do not need it any more.
        await bob.interrupt()
        await asyncio.gather(ann.has_said(r"^\* bob has left$"), cid.has_said(r"^\* bob has left$"))
        ann.type("just us")
        await cid.has_said("ann: just us$")
        # Who comes later meets those who are left, and sees what they said.
        async with _chatting("dee", first) as (dee, _):
            await dee.has_said("ann: good morning$", "ann: just us$", "cid: hello$")
            await asyncio.gather(ann.has_said(r"^\* dee is here$"), cid.has_said(r"^\* dee is here$"))
            assert "bob" not in dee.output
            await dee.interrupt()
        await asyncio.gather(ann.interrupt(), cid.interrupt())


async def test_all_who_join_at_once_meet() -> None:
    async with (
        _chatting("ann") as (ann, ticket),
        running("chat", "bob", ticket) as bob,
        running("chat", "cid", ticket) as cid,
        running("chat", "dee", ticket) as dee,
    ):
        everybody = {"ann": ann, "bob": bob, "cid": cid, "dee": dee}
        for nick, program in everybody.items():
            await program.has_said(*(rf"^\* {other} is here$" for other in everybody if other != nick))
        await asyncio.gather(*(program.interrupt() for program in everybody.values()))


async def test_all_leave_at_once() -> None:
    async with (
        _chatting("ann") as (ann, ticket),
        running("chat", "bob", ticket) as bob,
        running("chat", "cid", ticket) as cid,
    ):
        await ann.has_said(r"^\* bob is here$", r"^\* cid is here$")
        for each in (bob, cid, ann):
            each.end_input()
        for each in (ann, bob, cid):
            assert await each.ends() == 0
            assert "already closed" not in each.output


async def test_last_words_arrive() -> None:
    async with _chatting("ann") as (ann, ticket), _chatting("bob", ticket) as (bob, _):
        bob.type("")
        bob.type("hello")
        await ann.says(r"^\d\d:\d\d bob: hello$")
        # To press Enter is not to say something.
        assert ann.output.count(" bob:") == 1
        bob.type("so long\x1b[31m")
        bob.end_input()
        assert await bob.ends() == 0
        # Without the character that would colour a terminal.
        await ann.says(r"^\d\d:\d\d bob: so long\[31m$")
        await ann.says(r"^\* bob has left$")
        await ann.interrupt()


async def test_a_ticket_that_leads_nowhere() -> None:
    async with running("chat", "ann", "nonsense") as ann:
        await ann.says(r"^\* 'nonsense' is neither a ticket")
        await ann.interrupt()


async def test_a_nick_that_cannot_be() -> None:
    async with running("chat", "/") as nobody:
        assert await nobody.ends() == 2
        assert "the nick must not be empty" in nobody.output

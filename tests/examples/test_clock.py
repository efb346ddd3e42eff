"""The clock, watched by two at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.examples.programs import running

_TIME = r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$"


async def test_everybody_sees_each_second() -> None:
    async with running("clock", "--speed", "100") as clock:
        ticket = await clock.ticket()
        async with running("clock", ticket) as early, running("clock", ticket) as late:
            first = datetime.fromisoformat((await early.says(_TIME))[1])
            await late.says(_TIME)
            for passed in range(1, 150):
                # More than two minutes, which are groups: none is lost on the way from one to the next.
                now = datetime.fromisoformat((await early.says(_TIME))[1])
                assert now == first + timedelta(seconds=passed)
            await late.interrupt()
            await early.says(_TIME)
            await clock.interrupt()
            assert await early.ends() == 1
            assert "session closed by the peer: code 0, shutdown" in early.output


async def test_who_joins_late_starts_at_the_minute() -> None:
    async with running("clock", "--speed", "20") as clock:
        ticket = await clock.ticket()
        async with running("clock", ticket) as early:
            # Within a minute that began while somebody was watching, so that it began at second 0.
            await early.says(r":00$")
            await early.says(r":20$")
        async with running("clock", ticket) as late:
            first = datetime.fromisoformat((await late.says(_TIME))[1])
            assert first.second == 0
            await late.interrupt()


async def test_a_ticket_that_is_none() -> None:
    async with running("clock", "nonsense") as viewer:
        await viewer.says("clock: 'nonsense' is neither a ticket")
        assert await viewer.ends() == 1


async def test_a_speed_that_cannot_be() -> None:
    async with running("clock", "--speed", "0") as clock:
        assert await clock.ends() == 2
        assert "--speed must be more than 0" in clock.output

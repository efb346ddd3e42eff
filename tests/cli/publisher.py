"""A program that the commands read from."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from iroh_moq import BroadcastProducer, Moq, MoqSession, TrackProducer
from tests.cli.processes import LOOPBACK, Process, started
from tests.endpoints import PATIENCE


@dataclass
class Publisher:
    """It has a broadcast "x", with one track."""

    moq: Moq
    broadcast: BroadcastProducer
    track: TrackProducer

    @asynccontextmanager
    async def read_by(
        self, command: str, *arguments: str, stdout: int = PIPE, stderr: int = PIPE
    ) -> AsyncIterator[tuple[Process, MoqSession]]:
        """A command that reads the track, once it has subscribed, and the session with it."""
        incoming = self.moq.incoming_sessions()
        arguments = (command, *LOOPBACK, self.moq.ticket(), "x", *arguments)
        async with started(*arguments, stdout=stdout, stderr=stderr) as process:
            async with asyncio.timeout(PATIENCE):
                session = await incoming.next()
                await self.track.used()
            assert session is not None
            yield process, session.accept()

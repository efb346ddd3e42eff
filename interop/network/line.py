"""A proxy between two peers, as the cases see it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from ..harness.process import ROOT
from .namespaces import Networks, inside
from .shaper import Conditions

__all__ = ["Line"]


class Line:
    """The line between two peers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.address = ""

    @classmethod
    async def open(cls, networks: Networks, port: int) -> Line:
        """Opens the line to the left peer, who has this port."""
        command = [sys.executable, "-m", "interop.network.proxy", "--to-left", networks.to_left[0]]
        command += ["--left", f"{networks.left_address}:{port}", "--to-right", networks.to_right]
        process = await asyncio.create_subprocess_exec(
            *inside(networks.middle, command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        line = cls(process)
        line.address = str((await line._answer())["address"])
        return line

    async def become(self, conditions: Conditions) -> None:
        """Changes what happens to packets, from now on."""
        await self._order({"conditions": asdict(conditions)})

    async def move(self, address: str) -> None:
        """Changes where the left peer sees the right one's packets come from."""
        await self._order({"move": address})

    async def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(5):
            await self._process.wait()

    async def _order(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        assert await self._answer() == order

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            return dict(json.loads(await self._process.stdout.readline()))

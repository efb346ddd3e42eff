"""What processes of this suite that are driven by another share: they are told JSON objects, and say some."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

__all__ = ["commands", "many_files", "say"]


def say(event: str, **values: Any) -> None:
    """Tells the one who has started this process."""
    print(json.dumps({"event": event, **values}), flush=True)


async def commands() -> AsyncIterator[dict[str, Any]]:
    """What this process is told, to the end of its input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def many_files() -> None:
    """Each endpoint has sockets of its own, so very many need more files than is usual."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

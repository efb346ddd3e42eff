"""Streams a real file between two processes, each with an endpoint of its own on loopback.

    python demo.py              the shared library of the iroh package
    python demo.py FILE         any other file

One process publishes the file while it reads it; the other knows its ticket alone, and subscribes.
What comes out is written to a temporary file, and compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.util
import json
import shlex
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_READ_SIZE = 256 * 1024


class Failed(Exception):
    """The demonstration did not work."""


@asynccontextmanager
async def iroh_moq(*arguments: str, stderr: int | None = None) -> AsyncIterator[Process]:
    """A process of the command ``iroh-moq``, which ends with the block at the latest."""
    command = [*arguments, "--network", "loopback", "--json"]
    print(f"$ iroh-moq {shlex.join(command)}", flush=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "iroh_moq", *command), stdout=PIPE, stderr=stderr
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Reads what is left in its pipes as well, so that they get closed.
        await process.communicate()


async def stream(file: Path, size: int, copy: Path) -> dict[str, Any]:
    """Streams a file into a copy, and returns what the subscriber says of it.

    Without --reliable the publisher would wait for nobody, as a camera does: the file would be over before
    anybody has come.
    """
    async with iroh_moq("publish", "demo", "--file", str(file), "--reliable") as publisher:
        assert publisher.stdout is not None
        published = await publisher.stdout.readline()
        if not published:
            raise Failed(f"the publisher ended with exit code {await publisher.wait()}")
        ticket = json.loads(published)["ticket"]
        async with iroh_moq("subscribe", ticket, "demo", "--reliable", stderr=PIPE) as subscriber:
            assert subscriber.stdout is not None
            assert subscriber.stderr is not None
            said, _ = await asyncio.gather(subscriber.stderr.read(), save(subscriber.stdout, copy, size))
            if code := await subscriber.wait():
                raise Failed(f"the subscriber ended with exit code {code}: {said.decode(errors='replace').strip()}")
        if code := await publisher.wait():
            raise Failed(f"the publisher ended with exit code {code}")
    summary: dict[str, Any] = json.loads(said)
    return summary


async def save(source: asyncio.StreamReader, copy: Path, size: int) -> None:
    """Writes a stream to a file, and tells of each tenth of its size."""
    told = received = 0
    with copy.open("wb") as out:
        while data := await source.read(_READ_SIZE):
            out.write(data)
            received += len(data)
            tenth = received * 10 // max(size, 1)
            if tenth > told:
                told = tenth
                print(f"{tenth * 10:5} %   {received / 1e6:.1f} MB", flush=True)


def sha256(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


async def run(file: Path, size: int) -> None:
    """The demonstration, in full."""
    task = asyncio.current_task()
    assert task is not None
    # Windows has no signal handlers in its loop.
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    print(f"Streaming {file.name} ({size / 1e6:.1f} MB) from one process to another, over iroh on loopback:\n")
    with tempfile.TemporaryDirectory(prefix="iroh-moq-demo-") as folder:
        copy = Path(folder) / "copy"
        summary = await stream(file, size, copy)
        speed = summary["bytes_per_second"]
        pace = f"{summary['seconds']:.2f} s" + (f", {speed / 1e6:.0f} MB/s" if speed else "")
        print(f"\nReceived {summary['bytes']} of {size} bytes in {summary['groups']} groups, {pace}")
        before, after = sha256(file), sha256(copy)
        print(f"SHA-256 of the file:          {before}")
        print(f"SHA-256 of what was received: {after}")
        if before != after:
            raise Failed("what was received is not what was sent")
        print("They match.")


def default_file() -> Path:
    """The shared library of the iroh package: a few megabytes that are there wherever this runs."""
    spec = importlib.util.find_spec("iroh")
    if spec is None or spec.origin is None:
        raise Failed("the iroh package is not installed")
    return max(Path(spec.origin).parent.iterdir(), key=lambda file: file.stat().st_size)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="what to stream (default: iroh's shared library)")
    options = parser.parse_args()
    try:
        file = options.file or default_file()
        size = file.stat().st_size
        if not file.is_file():
            raise Failed(f"{file} is not a file")
        asyncio.run(run(file, size))
    except (Failed, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()

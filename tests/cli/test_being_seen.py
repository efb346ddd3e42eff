"""What the commands log, and the metrics that they serve."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import urllib.request

import pytest

from tests.cli.processes import LOOPBACK, Process, assert_wrong_usage, finished, publishing, started, subscribed
from tests.cli.publisher import Publisher
from tests.endpoints import PATIENCE, bound


async def _scrape(process: Process) -> tuple[str, str]:
    """Where a command says that its metrics are, and what is there."""
    match = re.fullmatch(r"Metrics are on (http://\S+/metrics)", await process.error_line())
    assert match
    opened = await asyncio.to_thread(urllib.request.urlopen, match[1], timeout=PATIENCE)
    with opened:
        return match[1], opened.read().decode()


class TestMetrics:
    @pytest.mark.parametrize("where", ["0", ":0", "127.0.0.1:0"])
    async def test_of_a_publisher(self, where: str) -> None:
        async with publishing("x", "--metrics", where) as (publisher, _):
            address, text = await _scrape(publisher)
            assert address.startswith("http://127.0.0.1:")
            assert re.search(r'^iroh_moq_broadcasts\{endpoint="[0-9a-f]{64}"\} 1\.0$', text, re.MULTILINE)
            ended = await publisher.ends()
            assert (ended.code, ended.errors) == (0, "")

    async def test_of_a_subscriber(self, publisher: Publisher) -> None:
        async with publisher.read_by("subscribe", "--metrics", "0") as (process, _):
            publisher.track.write_frame(b"frame")
            assert await process.read(5) == b"frame"
            _, text = await _scrape(process)
            assert re.search(r"^iroh_moq_bytes_received_total\{.*\} 5\.0$", text, re.MULTILINE)

    async def test_an_address_that_is_taken(self) -> None:
        async with publishing("x", "--metrics", "0") as (publisher, _):
            address, _ = await _scrape(publisher)
            port = address.split(":")[-1].split("/")[0]
            ended = await finished("publish", *LOOPBACK, "y", "--metrics", port)
        assert ended.code == 1
        assert f"metrics cannot be served on 127.0.0.1:{port}" in ended.errors

    async def test_without_the_package_for_it(self) -> None:
        script = "import sys; sys.modules['prometheus_client'] = None; from iroh_moq.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, "publish", *LOOPBACK, "x", "--metrics", "0"),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"pip install 'iroh-moq[prometheus]'" in errors

    @pytest.mark.parametrize("where", ["", "here", "65536", "-1", "127.0.0.1", "a:b", "\u0664"])
    def test_what_is_no_address(self, where: str) -> None:
        assert_wrong_usage("is no address to listen at", "publish", *LOOPBACK, "x", "--metrics", where)


class TestLog:
    async def test_json(self) -> None:
        async with publishing("x", "--log-json", "--allow", "0" * 64) as (publisher, ticket):
            assert (await subscribed(ticket, "x")).code == 3
            line = json.loads(await publisher.error_line())
        assert (line["level"], line["logger"], line["reason"]) == ("warning", "iroh_moq.moq", "unauthorized")
        assert re.fullmatch("[0-9a-f]{64}", line["peer"])
        assert line["peer"] in line["message"]

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (["--log-level", "info"], []),
            ([], ["--log-level", "info"]),
            (["--log-json", "-v"], []),
            (["-v"], ["--log-json"]),
        ],
    )
    async def test_levels(self, before: list[str], after: list[str]) -> None:
        async with bound() as moq:
            ended = await finished(*before, "list", *LOOPBACK, "--once", moq.ticket(), *after)
        assert ended.code == 0
        assert "iroh_moq.actor" in ended.errors
        lines = ended.errors.splitlines()
        if "--log-json" in before + after:
            assert {json.loads(line)["level"] for line in lines} == {"info"}
        else:
            assert all(line.startswith("INFO ") for line in lines)

    async def test_less(self) -> None:
        async with (
            started("publish", *LOOPBACK, "--json", "x", "--log-level", "error", "--allow", "0" * 64) as publisher,
        ):
            ticket = (await publisher.json())["ticket"]
            assert (await subscribed(ticket, "x")).code == 3
            ended = await publisher.ends()
        assert (ended.code, ended.errors) == (0, "")

    def test_what_is_no_level(self) -> None:
        assert_wrong_usage("'loud' is not one of", "list", "--log-level", "loud", "ticket")

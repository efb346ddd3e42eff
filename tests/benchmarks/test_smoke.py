"""The command, from end to end, with work so small that its numbers mean nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.contenders import PIDS
from tests.conftest import within
from tests.examples.programs import interruptible

_ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0
_CONTENDERS = "tests.benchmarks.contenders"


@asynccontextmanager
async def _benchmarks(
    output: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    with interruptible():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "benchmarks", "--quick", "--no-plot", "--output", str(output)),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
        )
    try:
        async with within(_PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _results(output: Path, *arguments: str) -> dict[str, Any]:
    """What the command writes, and that it says the same."""
    async with _benchmarks(output, *arguments) as process:
        said, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()
    assert said.decode().strip() == (output / "latest.md").read_text().strip()
    results: dict[str, Any] = json.loads((output / "latest.json").read_text())
    return results


async def test_two_workloads_in_two_rounds(tmp_path: Path) -> None:
    results = await _results(
        tmp_path,
        *("--workload", "frames-100", "--workload", "announcements"),
        *("--contender", "iroh-moq", "--contender", "iroh"),
        *("--rounds", "2", "--seconds", "0.1"),
    )
    done = [(sample["round"], sample["workload"], sample["contender"]) for sample in results["samples"]]
    assert done == [
        *((0, "frames-100", "iroh-moq"), (0, "frames-100", "iroh"), (0, "announcements", "iroh-moq")),
        *((1, "frames-100", "iroh"), (1, "frames-100", "iroh-moq"), (1, "announcements", "iroh-moq")),
    ]
    assert all(sample["failed"] is None for sample in results["samples"])
    assert all(
        sample["numbers"]["frames_per_second"] > 0
        for sample in results["samples"]
        if sample["workload"] == "frames-100"
    )
    for cell in results["summary"]:
        assert cell["low"] <= cell["median"] <= cell["high"]
    assert {"iroh", "iroh-moq"} <= results["versions"].keys()
    table = (tmp_path / "latest.md").read_text()
    assert "| work | unit | iroh-moq | iroh |" in table
    assert "## Failures" not in table
    (announcing,) = [line for line in table.splitlines() if line.startswith("| 1,000 announcements to a new session")]
    assert announcing.endswith("| - |")
    target = next(line for line in table.splitlines() if line.startswith("| 100-byte frames/s"))
    assert target.endswith("| - | not measured |")


async def test_who_loses_a_frame_has_no_number(tmp_path: Path) -> None:
    lossy = f"{_CONTENDERS}:Lossy"
    results = await _results(
        tmp_path, "--workload", "frames-100", "--contender", "iroh-moq", "--contender", lossy, "--seconds", "0.1"
    )
    good, bad = results["samples"]
    assert good["failed"] is None
    assert bad["failed"] == "group 2 is not as it was sent: 199 frames of 200"
    assert bad["numbers"] == {}
    table = (tmp_path / "latest.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith("| 100-byte frames, 200 to a group | frames/s")]
    assert row.endswith("| FAILED |")
    assert f"- frames-100, {lossy}: group 2 is not as it was sent: 199 frames of 200 (1 of 1 times)" in table


async def test_a_process_that_ends(tmp_path: Path) -> None:
    results = await _results(
        tmp_path, "--workload", "groups", "--contender", f"{_CONTENDERS}:Broken", "--seconds", "0.1"
    )
    assert results["samples"][0]["failed"].startswith("a process ended with code 9")


async def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    pids, output = tmp_path / "pids", tmp_path / "output"
    pids.mkdir()
    arguments = (
        "--workload",
        "groups",
        "--contender",
        f"{_CONTENDERS}:Recorded",
        "--rounds",
        "1000",
        "--seconds",
        "0.1",
    )
    async with _benchmarks(output, *arguments, environment={PIDS: str(pids)}) as process:
        assert process.stderr is not None
        # Among what asyncio says of a slow machine.
        while b"1/1000" not in (line := await process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, complaints = await process.communicate()
        assert process.returncode == 128 + signal.SIGINT
    assert b"Traceback" not in complaints
    started = [int(file.name) for file in pids.iterdir()]
    assert len(started) >= 2
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not output.exists()

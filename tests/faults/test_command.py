"""The command line: what it takes, how it ends, and that it writes what it has."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

import faults.__main__ as command
from faults.parts import PARTS, load_part
from faults.report import load
from faults.run import Run
from tests.conftest import within
from tests.examples.programs import interruptible

_ROOT = Path(__file__).parents[2]


def test_all_parts_are_there() -> None:
    assert all(callable(load_part(name)) for name in PARTS)


@pytest.mark.parametrize("arguments", [["nonsense"], ["--minutes", "0"], ["--seed", "x"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_says_whether_all_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: bool, code: int
) -> None:
    monkeypatch.setattr(command, "load_part", lambda _: lambda run: run.check("claim", holds))
    assert command.main(["order", "--output", str(tmp_path)]) == code
    assert load(tmp_path)["order"]["failed"] is not holds


def test_a_part_that_breaks_keeps_no_other_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Run) -> None:
        if run.part == "order":
            raise ZeroDivisionError("planted")

    monkeypatch.setattr(command, "load_part", lambda _: broken)
    assert command.main(["order", "load", "--output", str(tmp_path)]) == 1
    parts = load(tmp_path)
    assert "planted" in str(parts["order"])
    assert not parts["load"]["failed"]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("part", ["parsers", "order", "hostile"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_what_it_has(tmp_path: Path, part: str, number: signal.Signals) -> None:
    with interruptible():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faults", part, "--long", "--output", str(tmp_path)),
            stderr=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
    assert process.stderr is not None
    try:
        async with within(60):
            # The first word on how far it is.
            assert (await process.stderr.readline()).startswith(part.encode())
            process.send_signal(number)
            rest = await process.stderr.read()
            assert await process.wait() == 128 + number, rest.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in rest
    section = load(tmp_path)[part]
    assert section["stopped"]
    assert section["figures"]

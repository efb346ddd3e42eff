"""The command as a whole: help, version, and what it is called."""

from __future__ import annotations

import asyncio
import shlex
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from iroh_moq import __version__
from iroh_moq.cli import main
from iroh_moq.cli.run import Exit
from iroh_moq.transport.driver import driver
from tests.cli.processes import LOOPBACK, STRANGER, assert_wrong_usage, finished, invoked
from tests.endpoints import PATIENCE, bound

_COMMANDS = ("id", "publish", "subscribe", "list", "watch")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option: str) -> None:
    shown = invoked(option)
    assert shown.exit_code == 0
    for command in _COMMANDS:
        assert f"\n  {command} " in shown.stdout
    for code in Exit:
        assert f"\n    {code:<3}  " in shown.stdout
    assert all(len(line) <= 100 for line in shown.stdout.splitlines())


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_of_a_command(command: str) -> None:
    shown = invoked(command, "--help")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"Usage: iroh-moq {command} [OPTIONS]")
    for parameter in main.commands[command].params:
        for option in parameter.opts:
            assert (option if option.startswith("-") else option.upper()) in shown.stdout


def test_version() -> None:
    shown = invoked("--version")
    # With what it runs on, and why.
    used = "in use" if driver.module is not None else f"not in use: {driver.reason}"
    assert (shown.exit_code, shown.stdout) == (0, f"iroh-moq {__version__}, native driver {used}\n")


def test_no_command() -> None:
    shown = invoked()
    assert shown.exit_code == 2
    assert "Usage: iroh-moq" in shown.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option"),
        (["list"], "Missing argument 'TICKET'"),
        (["subscribe", STRANGER], "Missing argument 'NAME'"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str) -> None:
    assert_wrong_usage(complaint, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", STRANGER, "--timeout", "nan"],
        ["watch", STRANGER, "cam", "--interval", "nan"],
        ["watch", STRANGER, "cam", "--interval", "inf"],
        ["subscribe", STRANGER, "cam", "--max-latency", "inf"],
    ],
)
def test_a_time_that_never_ends_or_is_none(arguments: list[str]) -> None:
    assert_wrong_usage("is not a time in seconds", *arguments)


@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ("publish x --network loopback <&-", Exit.USAGE, "standard input is closed"),
        ("publish x --network loopback --json </dev/null >&-", Exit.FAILED, "standard output is closed"),
        ("id --key-file HERE/key >/dev/full", Exit.FAILED, "No space left on device"),
    ],
)
async def test_standard_streams_that_are_no_use(command: str, code: Exit, complaint: str, tmp_path: Path) -> None:
    shell = f"{shlex.quote(sys.executable)} -m iroh_moq {command.replace('HERE', shlex.quote(str(tmp_path)))}"
    process = await asyncio.create_subprocess_shell(shell, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE):
        _, errors = await process.communicate()
    assert (process.returncode, complaint in errors.decode()) == (code, True)
    assert b"Traceback" not in errors


def test_it_is_installed_by_its_name() -> None:
    (script,) = distribution("iroh-moq").entry_points.select(group="console_scripts")
    assert script.name == "iroh-moq"
    assert script.load() is main


async def test_help_comes_at_once() -> None:
    """What only a live view needs is not imported for it."""
    shown = await finished("--help", environment={"PYTHONPROFILEIMPORTTIME": "1"})
    assert shown.code == 0
    imported = {line.split("|")[-1].strip() for line in shown.errors.splitlines()}
    assert "iroh_moq.cli.watch" in imported
    assert "rich" not in imported


async def test_verbose() -> None:
    async with bound() as moq:
        quiet, verbose, more = await asyncio.gather(
            *(
                finished(*before, "list", *LOOPBACK, "--once", moq.ticket(), *after)
                for before, after in (([], []), ([], ["-v"]), (["-vv"], []))
            )
        )
    assert [ended.code for ended in (quiet, verbose, more)] == [0, 0, 0]
    assert quiet.errors == ""
    assert "INFO iroh_moq" in verbose.errors
    assert "DEBUG" not in verbose.errors
    assert "DEBUG" in more.errors

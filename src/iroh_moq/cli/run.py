"""Runs a command's coroutine: signals, errors in one clear line each, and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any

import click

from ..errors import ConnectError, Error, ErrorCode, InvalidArgument, InvalidType, MoqError, ServerError
from .text import printable

__all__ = ["EXIT_CODES", "Exit", "Failure", "run"]


class Exit(IntEnum):
    """The codes that the command exits with."""

    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    BROKEN_OFF = 5
    INCOMPLETE = 6
    OUTPUT_CLOSED = 7
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES = """\b
Exit codes:
  0    everything was streamed
  1    a file or another resource of this machine failed
  2    wrong usage: an option, a ticket, a name, or a key file
  3    the peer cannot be reached, or refused
  4    the broadcast did not come in time, or has no such track
  5    the stream broke off: the peer has gone, or aborted it
  6    the stream has ended, but a part of what --reliable asks for is missing, or nobody had all
  7    the reader of this command's output has gone
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
"""


class Failure(click.ClickException):
    """Ends the command with a code and one line."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(" ".join(printable(line) for line in message.splitlines()))
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What the process exits with."""
        return self.code


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a command to its end; Ctrl-C and SIGTERM cancel it, so that it can clean up.

    Raises:
        Failure: the command failed.
        SystemExit: it was interrupted.
    """
    signals: list[signal.Signals] = []
    try:
        asyncio.run(_until_signalled(main, signals))
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except asyncio.CancelledError:
        sys.exit(128 + signals[0] if signals else Exit.INTERRUPTED)
    except BaseExceptionGroup as group:
        raise _failure(_first(group)) from group
    except (Error, OSError) as error:
        raise _failure(error) from error


async def _until_signalled(main: Callable[[], Coroutine[Any, Any, None]], signals: list[signal.Signals]) -> None:
    """Runs a command, and cancels it at each signal: the second time, also what it does about the first."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def cancel(number: signal.Signals) -> None:
        signals.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Where a loop has no signal handlers, they do what they always do. Where it has, an interrupt comes
        # between two of its callbacks, and not in the middle of one that the iroh library has called.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, cancel, number)
    await main()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _failure(error: BaseException) -> BaseException:
    match error:
        case InvalidArgument() | InvalidType():
            return Failure(Exit.USAGE, str(error))
        case ServerError(code=ErrorCode.UNAUTHORIZED):
            return Failure(
                Exit.UNREACHABLE,
                f"{error}. Does this command have a --key-file, and --allow the id that `iroh-moq id` shows of that?",
            )
        case ConnectError() | ServerError():
            return Failure(Exit.UNREACHABLE, f"{error}. Is it still running, and is its ticket the latest?")
        case MoqError(code=ErrorCode.NOT_FOUND):
            return Failure(Exit.NOT_FOUND, f"{error}. Name the track with --track.")
        case Error():
            return Failure(Exit.BROKEN_OFF, f"the stream broke off: {error}")
        case BrokenPipeError():
            _forget_output()
            return Failure(Exit.OUTPUT_CLOSED, "the reader of the output has gone, so the rest was not written")
        case OSError():
            return Failure(Exit.FAILED, str(error))
    return error


def _forget_output() -> None:
    """Lets Python flush its closed standard output at the end without another error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)

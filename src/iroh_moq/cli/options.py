"""Options and arguments that several commands have."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from ..address import parse_remote
from ..errors import Error
from ..log import JsonFormatter, TextFormatter
from ..model import normalize_path
from ..model.path import check_name
from ..moq import Authorize, Moq
from ..peers import read_peers
from .metrics import serving
from .run import Exit, Failure, run

__all__ = [
    "DEFAULT_TRACK",
    "EndpointOptions",
    "Seconds",
    "json_option",
    "logging_options",
    "name_argument",
    "only",
    "peers",
    "reconnect_option",
    "ticket_argument",
    "timeout_option",
    "track_name",
    "with_endpoint",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

Network = Literal["internet", "lan", "loopback"]

DEFAULT_TRACK = "data"
"""The track that `publish` writes and the others read where none is named."""


def _checked(check: Callable[[str], object]) -> Callable[[str], Any]:
    """The type of a value that the package itself checks: what it refuses is wrong usage, told in one line."""

    def convert(text: str) -> object:
        try:
            return check(text)
        except Error as error:
            raise Failure(Exit.USAGE, str(error)) from error

    return convert


class Seconds(click.FloatRange):
    """A time: a number, and one that ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a time in seconds", param, ctx)
        return seconds


def peers(text: str) -> frozenset[str]:
    """The ids of peers: the one that the text is, as an id or a ticket, or those in a file of that name.

    Raises:
        Failure: it is none of these, or the file cannot be used.
    """
    with contextlib.suppress(Error):
        return frozenset({str(parse_remote(text).id())})
    try:
        return read_peers(text)
    except FileNotFoundError as error:
        hint = "`iroh-moq id` shows a machine's own"
        raise Failure(Exit.USAGE, f"{text!r} is no endpoint id, no ticket and no file; {hint}") from error
    except (Error, OSError, ValueError) as error:
        raise Failure(Exit.USAGE, str(error)) from error


def address(text: str) -> tuple[str, int]:
    """Where to listen: ``PORT``, ``ADDR:PORT`` or ``[ADDR]:PORT``, as address (empty if there is none) and port.

    Raises:
        Failure: it is none of these.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise Failure(Exit.USAGE, f"{text!r} is no address to listen at; it is PORT, ADDR:PORT or [ADDR]:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def only(allowed: Collection[str]) -> Authorize:
    """Lets these peers in, and nobody else."""
    return lambda peer: str(peer) in allowed


track_name = _checked(lambda text: check_name(text, "track name"))


def _handler() -> logging.Handler:
    """What writes the log to standard error, unless something else is set up already."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(TextFormatter())
        root.addHandler(handler)
    return root.handlers[0]


def _verbose(_ctx: click.Context, _param: click.Parameter, verbosity: int) -> None:
    _handler()
    if verbosity:
        logging.getLogger().setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


def _log_level(_ctx: click.Context, _param: click.Parameter, level: str | None) -> None:
    if level is not None:
        logging.getLogger().setLevel(level.upper())


def _log_json(_ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        _handler().setFormatter(JsonFormatter())


def logging_options(command: Decorated) -> Decorated:
    """Adds the options that say what is logged, and how. They can stand before and after the command's name."""
    for option in (
        click.option(
            "--log-json",
            is_flag=True,
            expose_value=False,
            callback=_log_json,
            help="Log JSON, one object per line, with peer, broadcast and track as fields.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            expose_value=False,
            callback=_log_level,
            help="Log from this level on. [default: warning]",
        ),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=_verbose,
            show_default=False,
            help="Log to standard error what happens; twice for details.",
        ),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, one object per line.")
reconnect_option = click.option(
    "--reconnect",
    is_flag=True,
    help="When the connection is lost, or there is none yet, dial again until there is one, and go on where it was.",
)
ticket_argument = click.argument("ticket", type=_checked(parse_remote))
name_argument = click.argument("name", type=_checked(normalize_path))

timeout_option = click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="How long to wait for the peer and its broadcast. Without it, the broadcast may take for ever.",
)


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """What the command line says about the endpoint."""

    network: Network
    key_file: str | None
    relays: tuple[str, ...]
    addresses: tuple[tuple[str, int], ...]
    metrics: tuple[str, int] | None

    @asynccontextmanager
    async def bind(self, authorize: Authorize | None = None) -> AsyncIterator[Moq]:
        """Binds the endpoint while the block runs, and serves its metrics where they are wanted."""
        async with await Moq.bind(
            network=self.network,
            key_file=self.key_file,
            addresses=[self._address(*each) for each in self.addresses],
            relays=self.relays or None,
            authorize=authorize,
        ) as moq:
            with self._serving_metrics(moq):
                yield moq

    def _address(self, host: str, port: int) -> str:
        if not host:
            host = "127.0.0.1" if self.network == "loopback" else "0.0.0.0"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _serving_metrics(self, moq: Moq) -> AbstractContextManager[object]:
        if self.metrics is None:
            return nullcontext()
        host, port = self.metrics
        return serving(moq, host or "127.0.0.1", port)


def with_endpoint(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a command that is a coroutine, and adds the options of its endpoint to its own.

    It gets them as one `EndpointOptions`, named ``endpoint``.
    """

    @functools.wraps(command)
    def collected(
        network: Network,
        key_file: str | None,
        relay: tuple[str, ...],
        bind: tuple[tuple[str, int], ...],
        metrics: tuple[str, int] | None,
        **others: Any,
    ) -> None:
        run(functools.partial(command, endpoint=EndpointOptions(network, key_file, relay, bind, metrics), **others))

    for option in (
        logging_options,
        click.option(
            "--metrics",
            type=address,
            metavar="[ADDR:]PORT",
            help="Serve metrics for Prometheus here; without an address, to this machine alone. Needs the extra "
            "iroh-moq[prometheus].",
        ),
        click.option(
            "--bind",
            type=address,
            multiple=True,
            metavar="[ADDR:]PORT",
            help="Where to listen, instead of at a port of chance; repeatable, once for each IP version. With a "
            "--key-file, a ticket holds beyond a restart on any network.",
        ),
        click.option("--relay", multiple=True, metavar="URL", help="Relay server to use instead of n0's; repeatable."),
        click.option(
            "--key-file",
            type=click.Path(dir_okay=False),
            help="File with the secret key, made if it is missing. Without it, the id is a new one each time.",
        ),
        click.option(
            "--network",
            type=click.Choice(["internet", "lan", "loopback"]),
            default="internet",
            help='"internet" reaches peers anywhere, through relays where it must; "lan" reaches those whose '
            'addresses this machine can reach; "loopback" stays on this machine.',
        ),
    ):
        collected = option(collected)
    return collected

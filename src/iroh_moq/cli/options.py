"""Options and arguments that several commands have."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

import click

from ..address import parse_remote
from ..errors import Error
from ..model import normalize_path
from ..model.path import check_name
from ..moq import Authorize, Moq
from ..peers import read_peers
from .run import Exit, Failure, run

__all__ = [
    "DEFAULT_TRACK",
    "EndpointOptions",
    "json_option",
    "name_argument",
    "only",
    "peers",
    "reconnect_option",
    "ticket_argument",
    "timeout_option",
    "track_name",
    "verbose_option",
    "with_endpoint",
]

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


def only(allowed: Collection[str]) -> Authorize:
    """Lets these peers in, and nobody else."""
    return lambda peer: str(peer) in allowed


track_name = _checked(lambda text: check_name(text, "track name"))


def _set_up_logging(_ctx: click.Context, _param: click.Parameter, verbosity: int) -> None:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    if verbosity:
        logging.getLogger().setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_set_up_logging,
    show_default=False,
    help="Log to standard error what happens; twice for details.",
)

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
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long to wait for the peer and its broadcast. Without it, the broadcast may take for ever.",
)


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """What the command line says about the endpoint."""

    network: Network
    key_file: str | None
    relays: tuple[str, ...]

    async def bind(self, authorize: Authorize | None = None) -> Moq:
        """Binds the endpoint."""
        return await Moq.bind(
            network=self.network, key_file=self.key_file, relays=self.relays or None, authorize=authorize
        )


def with_endpoint(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a command that is a coroutine, and adds the options of its endpoint to its own.

    It gets them as one `EndpointOptions`, named ``endpoint``.
    """

    @functools.wraps(command)
    def collected(network: Network, key_file: str | None, relay: tuple[str, ...], **others: Any) -> None:
        run(functools.partial(command, endpoint=EndpointOptions(network, key_file, relay), **others))

    for option in (
        verbose_option,
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

"""The command ``iroh-moq``: streams from and to the shell. One module per command."""

from __future__ import annotations

import click

from ..transport.driver import driver
from ..version import __version__
from .id import show_id
from .list import list_broadcasts
from .options import logging_options
from .publish import publish
from .run import EXIT_CODES
from .subscribe import subscribe
from .watch import watch

__all__ = ["main"]


def show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Prints the version, and what the streams of iroh connections run on."""
    if wanted:
        used = "in use" if driver.module is not None else f"not in use: {driver.reason}"
        click.echo(f"iroh-moq {__version__}, native driver {used}")
        context.exit()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=EXIT_CODES,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show the version."
)
@logging_options
def main() -> None:
    """Live streams between programs, peer to peer.

    Publish on one machine, then run the command that it prints on another:

    \b
      tail -f app.log | iroh-moq publish logs --group lines
      iroh-moq subscribe TICKET logs
    """


for command in (show_id, publish, subscribe, list_broadcasts, watch):
    main.add_command(command)

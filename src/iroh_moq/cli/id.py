"""``iroh-moq id``: the key file and the endpoint id."""

from __future__ import annotations

import json
from pathlib import Path

import click
from iroh import SecretKey

from ..endpoint import load_or_create_key
from ..errors import Error
from .options import json_option, logging_options
from .output import say
from .run import Exit, Failure

__all__ = ["show_id"]


def default_key_file() -> Path:
    """Where the user's key is kept."""
    return Path(click.get_app_dir("iroh-moq")) / "key"


@click.command("id")
@click.option("--key-file", type=click.Path(dir_okay=False), help="[default: in the user's own settings]")
@json_option
@logging_options
def show_id(key_file: str | None, as_json: bool) -> None:
    """Show the endpoint id of a key file, which is made if it is missing.

    The id is a public key: peers can dial it wherever the machine is, as long as a command with
    the option --key-file for the same file runs there, and name it in --allow.
    """
    path = default_key_file() if key_file is None else Path(key_file)
    new = not path.exists()
    try:
        endpoint_id = str(SecretKey.from_bytes(load_or_create_key(path)).public())
        click.echo(json.dumps({"id": endpoint_id, "key_file": str(path), "new": new}) if as_json else endpoint_id)
    except Error as error:
        raise Failure(Exit.USAGE, str(error)) from error
    except OSError as error:
        raise Failure(Exit.FAILED, str(error)) from error
    if not as_json:
        say(f"The key is {'a new one, ' if new else ''}in {path}: give that to --key-file.")

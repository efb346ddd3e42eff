"""Lists of peers: given by the caller as ids, or in a file as text."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from iroh import EndpointId

from .address import EndpointLike, parse_remote
from .errors import InvalidArgument, InvalidType

__all__ = ["parse_peers", "read_peers"]


def parse_peers(peers: Collection[EndpointLike] | None, what: str) -> frozenset[str] | None:
    """The ids in a collection, as text in their one form; None stays None.

    Args:
        peers: EndpointIds, or texts: ids or tickets.
        what: the argument's name, for the error.

    Raises:
        InvalidType: it is no collection (a single text is none), or one of its items is no id.
        InvalidArgument: a text in it is neither an id nor a ticket.
    """
    if peers is None:
        return None
    # A mapping of ids to yes and no would pass for a collection of those who may.
    if isinstance(peers, (str, bytes, Mapping, EndpointId)) or not isinstance(peers, Collection):
        raise InvalidType(f"{what} must be a collection of peer ids or None, not {type(peers).__name__}")
    return frozenset(_id(peer, what) for peer in peers)


def _id(peer: EndpointLike, what: str) -> str:
    try:
        return str(parse_remote(peer).id())
    except InvalidType as error:
        raise InvalidType(f"{what} must hold EndpointIds or texts, not {type(peer).__name__}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from error


def read_peers(path: str | os.PathLike[str]) -> frozenset[str]:
    """The ids in a file: one id or ticket a line. From ``#`` on a line is a comment.

    Raises:
        InvalidArgument: a line is neither (it is named with its number), or there is no id at all.
        OSError: the file cannot be read.
    """
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file} is no text file: it is not UTF-8") from error
    peers = set()
    for number, line in enumerate(text.splitlines(), 1):
        peer = line.partition("#")[0].strip()
        if peer:
            peers.add(_id(peer, f"{file}, line {number}"))
    if not peers:
        raise InvalidArgument(f"{file} names nobody: write one endpoint id a line")
    return frozenset(peers)

"""Who to dial, and dialling: endpoint ids, addresses and tickets."""

from __future__ import annotations

from iroh import Connection, Endpoint, EndpointAddr, EndpointId, EndpointTicket, IrohError

from .errors import ConnectError, InvalidArgument, InvalidType

__all__ = ["EndpointLike", "dial", "parse_remote", "ticket_of"]

EndpointLike = EndpointAddr | EndpointId | str
"""A peer: its address, its id alone (found by discovery), or either as text."""

_TICKET_PREFIX = "endpoint"


def parse_remote(remote: EndpointLike) -> EndpointAddr:
    """The address that ``remote`` stands for.

    Raises:
        InvalidType: it is not an EndpointAddr, EndpointId or str.
        InvalidArgument: the text is neither a ticket nor an endpoint id.
    """
    if isinstance(remote, EndpointAddr):
        return remote
    if isinstance(remote, EndpointId):
        return EndpointAddr(remote, None, [])
    if not isinstance(remote, str):
        raise InvalidType(f"remote must be an EndpointAddr, an EndpointId or a str, not {type(remote).__name__}")
    text = remote.strip()
    try:
        if text.startswith(_TICKET_PREFIX):
            return EndpointTicket.from_string(text).endpoint_addr()
        return EndpointAddr(EndpointId.from_string(text), None, [])
    except (IrohError, UnicodeEncodeError) as error:
        # The second for what the command line could not decode, which nothing encodes again.
        shown = text if len(text) <= 40 else text[:40] + "…"
        if text.startswith(_TICKET_PREFIX):
            raise InvalidArgument(f"{shown!r} is not a whole ticket: a part was cut off or changed") from error
        raise InvalidArgument(
            f"{shown!r} is neither a ticket (it begins with {_TICKET_PREFIX!r}) nor an endpoint id (64 hex digits)"
        ) from error


def ticket_of(endpoint: Endpoint) -> str:
    """A text by which others can dial an endpoint: its id and where it can be reached now."""
    return str(EndpointTicket.from_addr(endpoint.addr()))


async def dial(endpoint: Endpoint, remote: EndpointAddr, alpn: bytes) -> Connection:
    """Connects, with one protocol.

    Raises:
        ConnectError: the peer cannot be reached, or does not speak the protocol.
    """
    try:
        return await endpoint.connect(remote, alpn)
    except IrohError as error:
        who = remote.id().fmt_short()
        text = error.message()
        if "support any known protocol" in text:
            raise ConnectError(f"peer {who} does not speak {alpn.decode(errors='replace')}") from error
        # The last line of the package's text is the cause; those before it are its source lines.
        cause = text.strip().rsplit("\n", 1)[-1].strip().split(" (/")[0]
        raise ConnectError(f"peer {who} cannot be reached: {cause}") from error

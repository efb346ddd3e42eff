"""Who to dial, and dialling: endpoint ids, addresses and tickets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from iroh import Connection, Endpoint, EndpointAddr, EndpointId, EndpointTicket, IrohError

from .errors import ConnectError, InvalidArgument, InvalidType

__all__ = ["Dialer", "EndpointLike", "NotSpoken", "check_alpns", "dial", "dial_first", "parse_remote", "ticket_of"]

EndpointLike = EndpointAddr | EndpointId | str
"""A peer: its address, its id alone (found by discovery), or either as text."""

_REMEMBERED = 1024
"""How many peers' protocols a dialer remembers."""

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


class NotSpoken(ConnectError):
    """The peer was reached, and does not speak the protocol."""


def check_alpns(alpns: bytes | Iterable[bytes]) -> tuple[bytes, ...]:
    """Names of protocols, the one wanted most first.

    Raises:
        InvalidType: they are not bytes.
        InvalidArgument: there is none, or one that no handshake can carry.
    """
    if not isinstance(alpns, Iterable):
        raise InvalidType(f"alpns must be bytes, or several of them, not {type(alpns).__name__}")
    names = (alpns,) if isinstance(alpns, bytes) else tuple(alpns)
    for name in names:
        if not isinstance(name, bytes):
            raise InvalidType(f"an ALPN must be bytes, not {type(name).__name__}")
        if not 0 < len(name) < 256:
            raise InvalidArgument(f"an ALPN must have 1 to 255 bytes, not {len(name)}")
    if not names:
        raise InvalidArgument("no ALPN is given; iroh_moq.ALPNS has those of all versions")
    return names


async def dial(endpoint: Endpoint, remote: EndpointAddr, alpn: bytes) -> Connection:
    """Connects, with one protocol.

    Raises:
        NotSpoken: the peer does not speak the protocol.
        ConnectError: the peer cannot be reached.
    """
    try:
        return await endpoint.connect(remote, alpn)
    except IrohError as error:
        who = remote.id().fmt_short()
        text = error.message()
        if "support any known protocol" in text:
            raise NotSpoken(f"peer {who} does not speak {alpn.decode(errors='replace')}") from error
        # The last line of the package's text is the cause; those before it are its source lines.
        cause = text.strip().rsplit("\n", 1)[-1].strip().split(" (/")[0]
        raise ConnectError(f"peer {who} cannot be reached: {cause}") from error


async def dial_first(endpoint: Endpoint, remote: EndpointAddr, alpns: Sequence[bytes]) -> Connection:
    """Connects with the first of several protocols that the peer speaks: a handshake for each it does not.

    Raises:
        ConnectError: the peer cannot be reached, or speaks none of them.
    """
    for alpn in alpns[:-1]:
        try:
            return await dial(endpoint, remote, alpn)
        except NotSpoken:
            continue
    try:
        return await dial(endpoint, remote, alpns[-1])
    except NotSpoken as error:
        names = ", ".join(alpn.decode(errors="replace") for alpn in alpns)
        raise NotSpoken(f"peer {remote.id().fmt_short()} does not speak {names}") from error


class Dialer:
    """Dials peers with the first protocol that they speak, and remembers which that was."""

    def __init__(self, endpoint: Endpoint, alpns: tuple[bytes, ...]) -> None:
        self._endpoint = endpoint
        self._alpns = alpns
        self._known: OrderedDict[str, bytes] = OrderedDict()

    async def dial(self, remote: EndpointAddr) -> Connection:
        """Connects.

        Raises:
            ConnectError: the peer cannot be reached, or speaks none of the protocols.
        """
        peer = str(remote.id())
        known = self._known.pop(peer, None)
        alpns = self._alpns if known is None else (known, *(alpn for alpn in self._alpns if alpn != known))
        connection = await dial_first(self._endpoint, remote, alpns)
        self._known[peer] = connection.alpn()
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return connection

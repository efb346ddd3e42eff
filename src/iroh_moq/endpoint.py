"""Endpoints for those who have none: bound for the internet, a network, or this machine alone."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from iroh import Endpoint, EndpointBuilder, IrohError, RelayMode, SecretKey

from .errors import ConnectError, InvalidArgument, InvalidType
from .lite import ALPNS

__all__ = ["KEY_SIZE", "bind_endpoint", "check_endpoint", "load_or_create_key"]

KEY_SIZE = 32

_ADDRESSES: dict[str, tuple[str, ...]] = {
    "internet": (),
    "lan": (),
    "loopback": ("127.0.0.1:0", "[::1]:0"),
}


async def bind_endpoint(
    network: str, key: bytes | None, addresses: Sequence[str], relays: Sequence[str] | None
) -> Endpoint:
    """Binds an endpoint that speaks moq-lite; the arguments are those of `Moq.bind`.

    Raises:
        InvalidArgument, InvalidType: an argument cannot be used.
        ConnectError: an address cannot be bound.
    """
    if not isinstance(network, str) or network not in _ADDRESSES:
        raise InvalidArgument(f"network must be one of {', '.join(_ADDRESSES)}, not {network!r}")
    if key is not None and not isinstance(key, bytes):
        raise InvalidType(f"key must be bytes, not {type(key).__name__}")
    if key is not None and len(key) != KEY_SIZE:
        raise InvalidArgument(f"key must have {KEY_SIZE} bytes, not {len(key)}")
    _check_texts(addresses, "addresses")
    _check_texts(() if relays is None else relays, "relays")
    if relays is not None and network != "internet":
        raise InvalidArgument(f"relays need the network 'internet', not {network!r}")
    wanted = tuple(addresses) or _ADDRESSES[network][:1]
    # An IP version without an address would be bound on every interface, which loopback must not be.
    versions = {_is_ipv6(address) for address in wanted}
    spare = tuple(address for address in _ADDRESSES[network] if _is_ipv6(address) not in versions)
    try:
        return await _bind(network, key, wanted + spare, relays)
    except ConnectError:
        if not spare:
            raise
    # A machine without IPv6 can still have the rest.
    return await _bind(network, key, wanted, relays)


def check_endpoint(endpoint: Endpoint) -> Endpoint:
    """An endpoint that a caller has given.

    Raises:
        InvalidType: it is none.
    """
    if not isinstance(endpoint, Endpoint):
        raise InvalidType(f"endpoint must be an iroh Endpoint, not {type(endpoint).__name__}")
    return endpoint


def _check_texts(values: object, what: str) -> None:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidType(f"{what} must be several texts, not {type(values).__name__}")
    for value in values:
        if not isinstance(value, str):
            raise InvalidType(f"{what} must be texts, not {type(value).__name__}")


def _is_ipv6(address: str) -> bool:
    return address.startswith("[")


async def _bind(network: str, key: bytes | None, addresses: Sequence[str], relays: Sequence[str] | None) -> Endpoint:
    binding = asyncio.ensure_future(_builder(network, key, addresses, relays).bind())
    try:
        return await asyncio.shield(binding)
    except asyncio.CancelledError:
        # Cancelled itself, it would leave an endpoint that nobody can close.
        await _close(binding)
        raise
    except IrohError as error:
        raise ConnectError(f"cannot bind to {', '.join(addresses) or 'any address'}: {error.message()}") from error
    finally:
        # An endpoint stays bound until the last reference is gone, and a traceback would have one.
        del binding


async def _close(binding: asyncio.Future[Endpoint]) -> None:
    """Closes what is being bound, if it comes to that, however often this is cancelled as well."""
    while not binding.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait((binding,))
    try:
        with suppress(IrohError):
            await binding.result().close()
    finally:
        del binding


def _builder(
    network: str, key: bytes | None, addresses: Sequence[str], relays: Sequence[str] | None
) -> EndpointBuilder:
    builder = EndpointBuilder()  # type: ignore[no-untyped-call]
    if network == "internet":
        builder.apply_n0()
    else:
        builder.apply_minimal()
    try:
        if network != "internet":
            builder.relay_mode(RelayMode.disabled())
        elif relays is not None:
            builder.relay_mode(RelayMode.custom_from_urls(list(relays)))
        if key is not None:
            builder.secret_key(key)
        for address in addresses:
            builder.bind_addr(address)
    except IrohError as error:
        raise InvalidArgument(f"an address, relay or key cannot be used: {error.message()}") from error
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"an address or relay cannot be used: {error.object!r} is not text") from error
    builder.alpns(list(ALPNS))
    return builder


def load_or_create_key(path: str | os.PathLike[str]) -> bytes:
    """The secret key in a file: 64 hex digits. A missing file is made, readable by its owner alone.

    Raises:
        InvalidType: ``path`` is none.
        InvalidArgument: the file holds no key, or others can read it.
        OSError: the file cannot be read or made.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidType(f"key_file must be a path, not {type(path).__name__}")
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return _create_key(file)
    if os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise InvalidArgument(f"others can read the secret key in {file}: run chmod 600 on it")
    try:
        key = bytes.fromhex(data.decode().strip())
    except ValueError as error:
        raise InvalidArgument(f"{file} holds no secret key (64 hex digits)") from error
    if len(key) != KEY_SIZE:
        raise InvalidArgument(f"{file} holds {len(key)} bytes, not a secret key of {KEY_SIZE}")
    return key


def _create_key(file: Path) -> bytes:
    key = SecretKey.generate().to_bytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    # Never readable by others, not even for a moment; and never over a key that came meanwhile.
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(key.hex() + "\n")
    return bytes(key)

"""The transport over a connection of the `iroh` package: its native driver, or else the package's own calls."""

from __future__ import annotations

from iroh import Connection

from . import iroh_callbacks
from .driver import driver
from .iroh_base import IrohTransport
from .iroh_native import NativeTransport
from .iroh_package import PackageTransport

__all__ = ["IrohTransport", "iroh_transport"]

iroh_callbacks.install(driver.module)


def iroh_transport(
    connection: Connection, bi_streams: int | None = None, uni_streams: int | None = None
) -> IrohTransport:
    """The fastest transport there is for a connection, which is its own from here on.

    Must be called while a loop runs: the transport belongs to that loop, and watches for the
    connection's end.

    Args:
        connection: the connection.
        bi_streams, uni_streams: how many streams of each kind the peer may have open; 1,024 unless given.
    """
    iroh_callbacks.forget_abandoned()
    if driver.module is not None:
        return NativeTransport(connection, driver.module, bi_streams, uni_streams)
    return PackageTransport(connection, bi_streams, uni_streams)

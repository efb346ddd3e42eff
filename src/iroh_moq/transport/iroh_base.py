"""What both transports over an iroh connection share: who is at the other end, limits, statistics, the end."""

from __future__ import annotations

from abc import abstractmethod

from iroh import Connection, EndpointId, IrohError

from ..errors import SessionError
from .base import ConnectionLost, PathStats, Transport, TransportError, TransportStats
from .iroh_errors import session_error, transport_error

__all__ = ["IrohTransport"]

_MAX_STREAMS = 1024
"""Streams a peer may have open of each kind, where nothing else is said; the package's default of 100, which holds
until the handshake is over, starves many tracks."""


def _credit(streams: int) -> int:
    """The limit with which so many streams can be open at any time.

    The QUIC library tells a peer of streams that have ended only once they are over an eighth of the limit. A
    peer that keeps nearly all others open, and has used up the rest, would wait for ever.
    """
    return streams + streams // 7 + 1


class IrohTransport(Transport):
    """One iroh connection."""

    def __init__(self, connection: Connection, bi_streams: int | None = None, uni_streams: int | None = None) -> None:
        self._connection = connection
        self._remote = connection.remote_id()
        self._alpn = connection.alpn()
        self._close_error: SessionError | None = None
        self._uni_streams = 0
        self.allow_uni_streams(uni_streams or _MAX_STREAMS)
        connection.set_max_concurrent_bi_streams(_credit(bi_streams or _MAX_STREAMS))

    @property
    def remote_id(self) -> EndpointId:
        return self._remote

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def alpn(self) -> bytes:
        return self._alpn

    @property
    def max_datagram_size(self) -> int:
        return self._connection.max_datagram_size() or 0

    def allow_uni_streams(self, more: int) -> None:
        self._uni_streams += more
        self._connection.set_max_concurrent_uni_streams(_credit(self._uni_streams))

    @property
    def close_error(self) -> SessionError | None:
        return self._close_error

    def close(self, code: int, reason: str) -> None:
        self._end(SessionError(code, reason, local=True))

    def give_up(self, reason: str) -> None:
        self._end(SessionError(None, reason))

    def _end(self, error: SessionError) -> None:
        if self._close_error is None:
            self._close_error = error
            self._close_connection(error.code or 0, error.reason.encode())

    @abstractmethod
    def _close_connection(self, code: int, reason: bytes) -> None:
        """Closes it, with what the peer sees."""

    def stats(self) -> TransportStats:
        totals = self._connection.stats()
        return TransportStats(
            sent_bytes=totals.udp_tx_bytes,
            received_bytes=totals.udp_rx_bytes,
            sent_packets=totals.udp_tx_datagrams,
            received_packets=totals.udp_rx_datagrams,
            lost_packets=totals.lost_packets,
            paths=tuple(
                PathStats(
                    remote=path.remote_addr,
                    selected=path.is_selected,
                    relayed=path.is_relay,
                    # The package counts whole milliseconds; a path of less than one is not instant.
                    rtt=max(path.rtt_ms, 0.5) / 1000,
                    congestion_window=path.stats.cwnd,
                    mtu=path.stats.current_mtu,
                    lost_packets=path.stats.lost_packets,
                    sent_packets=path.stats.udp_tx_datagrams,
                )
                for path in self._connection.paths()
            ),
        )

    def _lost(self, text: str) -> None:
        """The connection has ended, in the library's words; the first that are heard count."""
        if self._close_error is None:
            self._close_error = session_error(text)

    def _error_of(self, text: str) -> TransportError:
        """What a failed call means."""
        result = transport_error(text, self._close_error)
        if isinstance(result, ConnectionLost) and self._close_error is None:
            self._close_error = result.error
        return result

    def _error(self, error: IrohError) -> TransportError:
        return self._error_of(error.message())

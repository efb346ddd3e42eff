"""Metrics for Prometheus. Needs the extra: ``pip install 'iroh-moq[prometheus]'``.

    from prometheus_client import REGISTRY
    REGISTRY.register(Collector(moq))

or, for a program that serves none yet, ``with serve(moq, port=9090): ...``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from .metrics import Metrics
from .moq import Moq
from .sources import INSTRUMENTS, Instrument, Sources

__all__ = ["Collector", "serve"]

_ENDPOINT = "endpoint"


class Collector(Sources):
    """The `Metrics` of one or several `Moq`, each with its endpoint's id under the label ``endpoint``.

    Names are those of the fields after ``iroh_moq_``, with what Prometheus wants behind them:
    ``iroh_moq_sessions``, ``iroh_moq_bytes_sent_total``, ``iroh_moq_connect_time_seconds_bucket``.
    A `Moq` that was shut down keeps its last numbers, until `remove`.
    """

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for, on any thread."""
        metrics = self.metrics()
        for instrument in INSTRUMENTS:
            if instrument.kind == "histogram":
                yield _histogram(instrument, metrics)
            else:
                yield _numbers(instrument, metrics)


def _numbers(instrument: Instrument, metrics: dict[str, Metrics]) -> Metric:
    family = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    labels = [_ENDPOINT, instrument.label] if instrument.label else [_ENDPOINT]
    result = family(f"iroh_moq_{instrument.name}", instrument.help, labels=labels)
    for endpoint, picture in metrics.items():
        for about, number in instrument.samples(picture):
            result.add_metric([endpoint, *about.values()], number)
    return result


def _histogram(instrument: Instrument, metrics: dict[str, Metrics]) -> Metric:
    result = HistogramMetricFamily(f"iroh_moq_{instrument.name}_seconds", instrument.help, labels=[_ENDPOINT])
    for endpoint, picture in metrics.items():
        histogram = instrument.histogram(picture)
        bounds = [*map(str, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
        result.add_metric([endpoint], buckets, histogram.sum)
    return result


@contextmanager
def serve(*moqs: Moq, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Serves the metrics over HTTP, on a thread of its own, while the block runs.

    Whoever reaches the address can read them: ids of endpoints and numbers, no names.

    Args:
        moqs: whose metrics.
        address: where to listen; this machine alone, without it.
        port: 0 for any that is free.

    Returns:
        The port, to the block.

    Raises:
        InvalidType: one of them is no `Moq`.
        OSError: nobody can listen there.
    """
    registry = CollectorRegistry()
    registry.register(Collector(*moqs))
    server, thread = start_http_server(port, address, registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

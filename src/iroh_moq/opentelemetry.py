"""Metrics for OpenTelemetry. Needs the extra: ``pip install 'iroh-moq[opentelemetry]'``.

    instruments = Instruments(moq)

The instruments are observable: nothing happens until a reader asks, and nothing at all without an
SDK. OpenTelemetry has no observable histogram, so one becomes two counters: ``.count``, and
``.sum`` in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter

from .moq import Moq
from .sources import INSTRUMENTS, Instrument, Sources
from .version import __version__

__all__ = ["Instruments"]

_ENDPOINT = "endpoint"

_Observe = Callable[[CallbackOptions], Iterable[Observation]]


class Instruments(Sources):
    """The `Metrics` of one or several `Moq`, each with its endpoint's id as the attribute ``endpoint``.

    Names are those of the fields after ``iroh_moq.``, such as ``iroh_moq.bytes_sent``. Instruments
    cannot be taken back in OpenTelemetry, so make one of these, and `add` and `remove`.

    Args:
        moqs: whose metrics.
        meter_provider: the global one, without it.

    Raises:
        InvalidType: one of them is no `Moq`.
    """

    def __init__(self, *moqs: Moq, meter_provider: MeterProvider | None = None) -> None:
        super().__init__(*moqs)
        meter = get_meter("iroh_moq", __version__, meter_provider)
        for instrument in INSTRUMENTS:
            self._create(meter, instrument)

    def _create(self, meter: Meter, instrument: Instrument) -> None:
        name, text = f"iroh_moq.{instrument.name}", instrument.help
        numbers: _Observe = partial(self._numbers, instrument)
        if instrument.kind == "gauge":
            meter.create_observable_gauge(name, [numbers], description=text)
        elif instrument.kind == "counter":
            meter.create_observable_counter(name, [numbers], description=text)
        else:
            count: _Observe = partial(self._histogram, instrument, "count")
            seconds: _Observe = partial(self._histogram, instrument, "sum")
            meter.create_observable_counter(f"{name}.count", [count], description=text)
            meter.create_observable_counter(f"{name}.sum", [seconds], unit="s", description=text)

    def _numbers(self, instrument: Instrument, _options: CallbackOptions) -> Iterable[Observation]:
        for endpoint, metrics in self.metrics().items():
            for about, number in instrument.samples(metrics):
                yield Observation(number, {_ENDPOINT: endpoint, **about})

    def _histogram(self, instrument: Instrument, what: str, _options: CallbackOptions) -> Iterable[Observation]:
        for endpoint, metrics in self.metrics().items():
            yield Observation(getattr(instrument.histogram(metrics), what), {_ENDPOINT: endpoint})

"""The text of ``/metrics``, written by prometheus-client."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from session_service.metrics.catalogue import Family
from session_service.metrics.numbers import Measurement, Numbers, Series


def expose(numbers: Numbers, measurements: Iterable[Measurement], accept: str) -> tuple[bytes, str]:
    """Return the text, and its content type: OpenMetrics if ``accept`` asks for that.

    An ``accept`` that cannot be read, e.g. ``text/plain; version=x``, gets the default.
    """
    registry = CollectorRegistry()
    registry.register(_Snapshot(numbers, measurements))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # prometheus-client compares a version that is no number
        encode, content_type = choose_encoder("")
    return encode(registry), content_type


class _Snapshot(Collector):
    def __init__(self, numbers: Numbers, measurements: Iterable[Measurement]) -> None:
        self._numbers = numbers
        self._measurements = measurements

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registering does not collect them."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each family once."""
        for family, series in self._numbers.families():
            yield _metric(family, series)
        gauges: dict[Family, list[Series]] = {}
        for family, value, labels in self._measurements:
            gauges.setdefault(family, []).append(Series(labels, [value]))
        for family, series in gauges.items():
            yield _metric(family, series)


def _metric(family: Family, series: list[Series]) -> Metric:
    name, text, labels = family.name, family.help, family.labels
    if family.kind == "histogram":
        bounds = [*map(str, family.bounds), "+Inf"]
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for each in series:
            *buckets, total = each.numbers
            counts = list(zip(bounds, accumulate(buckets), strict=True))
            histogram.add_metric(list(each.labels), counts, total)
        return histogram
    of_kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = of_kind(name, text, labels=labels)
    for each in series:
        metric.add_metric(list(each.labels), each.numbers[0])
    return metric

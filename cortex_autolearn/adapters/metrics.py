"""Numbers as Prometheus reads them: the only door to prometheus_client, imported when they are first asked for.

Which numbers there are, and where they come from, is the service's business. The registry is our own and is made anew
for every look: what it holds is what was just gathered, and nothing else in the process can add to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

PREFIX: Final = "cortex_autolearn_"

Kind = Literal["gauge", "counter", "histogram", "info"]


class Spread(NamedTuple):
    """How values are spread: for each upper bound how many are at most that, how many there are, and their sum."""

    buckets: Mapping[float, int]
    total: int
    sum: float


class Family(NamedTuple):
    """A metric by its name (without prefix, and without ``_total`` or ``_info``), kind, meaning and labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One value of a family; ``labels`` in the family's order."""

    family: Family
    labels: tuple[str, ...]
    value: float | Spread


def render(families: Sequence[Family], samples: Iterable[Sample]) -> tuple[bytes, str]:
    """Return all families with their samples as text, with those of the process, and the text's content type.

    Raises:
        ValueError: a sample's labels are not its family's, or its family is not among them.
    """
    # Some 30 ms and 2 MB, for those only who ask.
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    found: dict[Family, list[Sample]] = {family: [] for family in families}
    for sample in samples:
        if sample.family not in found or len(sample.labels) != len(sample.family.labels):
            raise ValueError(f"no such sample: {sample.family.name}{sample.labels}")
        found[sample.family].append(sample)

    class Gathered(Collector):  # prometheus_client asks for one by inheritance
        def collect(self) -> Iterator[Metric]:
            return (_metric(family, of_family) for family, of_family in found.items())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Gathered())
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _metric(family: Family, samples: list[Sample]) -> Metric:
    from prometheus_client.metrics_core import (  # noqa: PLC0415 - as above
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    name = PREFIX + family.name
    match family.kind:
        case "info":
            info = InfoMetricFamily(name, family.help)
            for sample in samples:
                info.add_metric([], dict(zip(family.labels, sample.labels, strict=True)))
            return info
        case "histogram":
            histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
            for sample in samples:
                assert isinstance(sample.value, Spread)
                bounds = [(f"{bound:g}", float(count)) for bound, count in sorted(sample.value.buckets.items())]
                histogram.add_metric(sample.labels, [*bounds, ("+Inf", float(sample.value.total))], sample.value.sum)
            return histogram
        case "counter" | "gauge":
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            numbers: CounterMetricFamily | GaugeMetricFamily = kind(name, family.help, labels=family.labels)
            for sample in samples:
                assert isinstance(sample.value, int | float)
                numbers.add_metric(sample.labels, float(sample.value))
            return numbers

"""The catalogue of a sink's metrics: every name once, with its meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from streamer.sink.store import OUTCOMES, Position
from streamer.worker.metrics import NAMESPACE

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
Place = tuple[str, int]
"""visitors or users, and a partition."""


class _Positions(Collector):
    """Where each partition stands. The counts are the store's own: they outlive the process."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.positions: dict[Place, Position] = {}
        self.lags: dict[Place, int] = {}
        self._now = now

    def collect(self) -> Iterable[Metric]:
        records = CounterMetricFamily(
            f"{NAMESPACE}_sink_records",
            "Records that were read, by what came of it",
            labels=["view", "outcome"],
        )
        views = sorted({view for view, _ in self.positions})
        for view in views:
            for outcome in OUTCOMES:
                of_view = [p.counts[outcome] for (name, _), p in self.positions.items() if name == view]
                records.add_metric([view, outcome], sum(of_view))
        yield records
        for name, meaning, of in (
            ("sink_lag_records", "Records that are not in the store yet", self.lags.__getitem__),
            ("sink_rebuilding", "1: the partition is being read from its first record", self._is_rebuilding),
            ("sink_age_seconds", "Since all records of the partition were in the store", self._age),
        ):
            family = GaugeMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=["view", "partition"])
            for view, partition in self.positions:
                family.add_metric([view, str(partition)], of((view, partition)))
            yield family

    def _is_rebuilding(self, place: Place) -> float:
        return float(self.positions[place].until is not None)

    def _age(self, place: Place) -> float:
        return max(self._now() - self.positions[place].at_end_ms / 1000, 0.0)


class SinkMetrics:
    """Prometheus metrics of a sink, in a registry of its own."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: seconds since 1970."""
        self.registry = CollectorRegistry()
        self._positions = _Positions(now)
        self.registry.register(self._positions)
        ProcessCollector(registry=self.registry)
        self._writes = Histogram(
            "sink_write_seconds",
            "From records to the store's answer, waits included while it was away",
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=_SECONDS,
        )

    def stands(self, view: str, partition: int, position: Position, lag: int) -> None:
        """Note where a partition stands, and how many records the store lacks."""
        self._positions.positions[view, partition] = position
        self._positions.lags[view, partition] = lag

    def writing(self) -> AbstractContextManager[object]:
        """Time a round trip to the store."""
        return self._writes.time()

    def totals(self) -> dict[str, int]:
        """Records by outcome, of all partitions."""
        positions = self._positions.positions.values()
        return {name: sum(position.counts[name] for position in positions) for name in ("read", *OUTCOMES)}

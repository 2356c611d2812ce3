"""The catalogue of the service's metrics: every name once, with its meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from streamer.serving.lookup_log import LookupLog
from streamer.serving.records import RecordView
from streamer.worker.metrics import NAMESPACE

if TYPE_CHECKING:
    from streamer.serving.neighbours import FollowedNeighbours

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class _Views(Collector):
    """Asks the views when it is asked."""

    def __init__(self, views: Mapping[str, RecordView]) -> None:
        self._views = views

    def collect(self) -> Iterable[Metric]:
        def gauge(name: str, meaning: str, of: Callable[[RecordView], float]) -> GaugeMetricFamily:
            family = GaugeMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=["view"])
            for view_name, view in self._views.items():
                family.add_metric([view_name], of(view))
            return family

        return (
            gauge("view_records", "Records in memory", len),
            gauge("view_erased", "Erased keys that are remembered", lambda view: len(view.erased)),
            gauge("view_ready", "1: the topic was read to its end", lambda view: view.is_ready),
            gauge("view_age_seconds", "Since brokers last answered for every partition", _age),
        )


class _Neighbours(Collector):
    """Asks the indexes when it is asked."""

    def __init__(self, neighbours: Mapping[str, FollowedNeighbours]) -> None:
        self._neighbours = neighbours

    def collect(self) -> Iterable[Metric]:
        def gauge(name: str, meaning: str, of: Callable[[FollowedNeighbours], float]) -> GaugeMetricFamily:
            family = GaugeMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=["view"])
            for view_name, each in self._neighbours.items():
                family.add_metric([view_name], of(each))
            return family

        return (
            gauge("neighbour_vectors", "Vectors in the indexes of who is similar", len),
            gauge("neighbour_bytes", "Memory of these indexes", lambda each: each.memory_bytes),
            gauge("neighbour_waiting", "Changed records that aren't indexed yet", lambda each: each.waiting),
        )


class _Log(Collector):
    """Asks the log of look-ups when it is asked."""

    def __init__(self, log: LookupLog) -> None:
        self._log = log

    def collect(self) -> Iterable[Metric]:
        logged = CounterMetricFamily(
            f"{NAMESPACE}_lookups_logged", "Look-ups for the log, by what became of them", labels=["outcome"]
        )
        logged.add_metric(["written"], self._log.written)
        logged.add_metric(["dropped"], self._log.dropped)
        return (logged,)


def _age(view: RecordView) -> float:
    return view.age_s if view.is_ready else 0.0


class ServingMetrics:
    """Prometheus metrics of the service, in a registry of its own."""

    def __init__(
        self,
        views: Mapping[str, RecordView],
        neighbours: Mapping[str, FollowedNeighbours],
        log: LookupLog | None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Views(views))
        self.registry.register(_Neighbours(neighbours))
        if log is not None:
            self.registry.register(_Log(log))
        ProcessCollector(registry=self.registry)
        lookups = Counter(
            "lookups",
            "Ids that were looked up, by what came of it",
            ("view", "outcome"),
            namespace=NAMESPACE,
            registry=self.registry,
        )
        requests = Histogram(
            "lookup_request_seconds",
            "From a request's head to its answer, without the network",
            ("view", "kind"),
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=_SECONDS,
        )
        # To look a child up takes longer than to count.
        self._lookups_of = cache(lookups.labels)
        self._requests_of = cache(requests.labels)

    def looked_up(self, view: str, outcome: str) -> None:
        """Count an id, or a request that was refused before its ids were looked at."""
        self._lookups_of(view, outcome).inc()

    def answered(self, view: str, kind: str, seconds: float) -> None:
        """Note how long a request took; `kind`: one, batch or similar."""
        self._requests_of(view, kind).observe(seconds)

"""The catalogue of a worker's metrics: every name once, with its meaning.

What is known of a partition is read from its shard when somebody asks; what happens at a commit is counted
as it happens.
"""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from streamer.worker.shard import Committed, Shard
from streamer.worker.stages.stage_shard import StageCommitted

NAMESPACE = "streamer"
REPARTITION = "repartition"
"""The stage whose events are records of the source."""
ENDS = ("received", "closed", "late", "dead_lettered", "duplicates", "filtered")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

PARTITION_GAUGES = {
    "source_position": "Offset of the next click to process",
    "consumer_lag": "Records of the source that are not processed yet",
    "watermark_seconds": "Watermark, in event time",
    "watermark_lag_seconds": "Arrival clock minus watermark",
    "open_sessions": "Open sessions",
    "open_clicks": "Clicks in open sessions",
    "held_sessions": "Closed sessions that a late click may revise",
}
PARTITION_COUNTERS = {
    "clicks": "Clicks by where they ended, since the partition's first; survives restarts",
    "clicks_lost": "Offsets that the source dropped before they were read",
    "sessions_revised": "Final records whose place another takes, since the partition's first",
    "clock_behind": "Records that arrived before a moment that had been declared idle",
}


class PartitionState(NamedTuple):
    """What the per-partition metrics are read from."""

    shard: Shard
    lag: int


class StageLevels(NamedTuple):
    """Where another stage of this worker than that of the sessions stands, by partition of its source."""

    name: str
    lag: Mapping[int, int]
    keys: Mapping[int, int]
    sessions: Mapping[int, Mapping[str, int]]
    """Final sessions by what became of them."""
    unrecovered: int
    """Assigned partitions whose state is not in memory yet."""


class _Stages(Collector):
    """Asks the other stages where they stand."""

    def __init__(self) -> None:
        self.levels: Callable[[], Iterable[StageLevels]] = tuple

    def collect(self) -> Iterable[Metric]:
        def gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=labels)

        lag = gauge("stage_lag", "Records of the stage's source not processed yet", "stage", "partition")
        keys = gauge("stage_keys", "Visitors, or customers, with state", "stage", "partition")
        waiting = gauge("stage_unrecovered_partitions", "Partitions without their state in memory", "stage")
        sessions = gauge("attributed_sessions", "Final sessions by attribution", "partition", "attribution")
        for stage in self.levels():
            waiting.add_metric([stage.name], stage.unrecovered)
            for family, values in ((lag, stage.lag), (keys, stage.keys)):
                for number, value in sorted(values.items()):
                    family.add_metric([stage.name, str(number)], value)
            for number, counts in sorted(stage.sessions.items()):
                for attribution, count in counts.items():
                    sessions.add_metric([str(number), attribution], count)
        return lag, keys, waiting, sessions


class _Partitions(Collector):
    """Reads the shards when asked; a partition that has moved on is simply not there any more."""

    def __init__(self) -> None:
        self.states: Callable[[], Mapping[int, PartitionState]] = dict
        self.unrecovered: Callable[[], Mapping[int, int | None]] = dict

    def collect(self) -> Iterable[Metric]:
        gauges = {name: _gauge(name, meaning) for name, meaning in PARTITION_GAUGES.items()}
        counters = {
            name: CounterMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=_labels(name))
            for name, meaning in PARTITION_COUNTERS.items()
        }
        for number, state in sorted(self.states().items()):
            for name, value in _levels(state):
                gauges[name].add_metric([str(number)], value)
            for name, more_labels, value in _counts(state.shard):
                counters[name].add_metric([str(number), *more_labels], value)
        unrecovered = self.unrecovered()
        for number, lag in sorted(unrecovered.items()):
            if lag is not None:
                gauges["consumer_lag"].add_metric([str(number)], lag)
        waiting = GaugeMetricFamily(
            f"{NAMESPACE}_unrecovered_partitions",
            "Assigned partitions whose open sessions are not in memory yet",
            value=len(unrecovered),
        )
        return [*gauges.values(), waiting, *counters.values()]


def _gauge(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", meaning, labels=_labels(name))


def _labels(name: str) -> tuple[str, ...]:
    return ("partition", "end") if name == "clicks" else ("partition",)


def _levels(state: PartitionState) -> Iterator[tuple[str, float]]:
    partition = state.shard.partition
    clock = partition.sessionizer.clock
    yield "source_position", partition.position
    yield "consumer_lag", state.lag
    yield "open_sessions", partition.sessionizer.open_count
    yield "open_clicks", partition.counters.open()
    yield "held_sessions", partition.sessionizer.held_count
    if clock.raised_at:
        yield "watermark_seconds", clock.watermark / 1000
        yield "watermark_lag_seconds", (clock.now - clock.watermark) / 1000


def _counts(shard: Shard) -> Iterator[tuple[str, list[str], float]]:
    counters = shard.partition.counters
    for end in ENDS:
        yield "clicks", [end], getattr(counters, end)
    yield "clicks_lost", [], counters.lost
    yield "sessions_revised", [], counters.revised
    yield "clock_behind", [], shard.partition.clock_behind


class Metrics:
    """Prometheus metrics of one worker process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._partitions = _Partitions()
        self.registry.register(self._partitions)
        self._stages = _Stages()
        self.registry.register(self._stages)
        ProcessCollector(registry=self.registry)
        self.sessions = self._counter("sessions_closed", "Closed and published sessions", "reason")
        self.early = self._counter("provisional_records", "Records of sessions that were still open")
        self.dead = self._counter("dead_letters", "Dead letters", "reason")
        self.failed_commits = self._counter("commits_failed", "Failed transactions; the shard is read back")
        self.shadow_failed = self._counter("shadow_failures", "Sessions the shadow bundle couldn't score")
        self.score = self._histogram("score_seconds", "Scoring of the sessions of one commit")
        self.commit = self._histogram("commit_seconds", "One transaction, from its begin to its commit")
        self.recovery = self._histogram("recovery_seconds", "Taking over shards, from fencing to claim")
        self.stage_commit = Histogram(
            "stage_commit_seconds",
            "One transaction of another stage than that of the sessions",
            ("stage",),
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.repartitioned = self._counter(
            "repartitioned_records",
            "Records that came without their visitor as key, by where they ended",
            "end",
        )
        self.identity_events = self._counter("identity_events", "What the identity stages did", "event")
        self.spans = self._counter(
            "trace_spans", "Spans that have ended, and those that a collector got or did not", "outcome"
        )
        self.malformed_contexts = self._counter(
            "trace_contexts_malformed", "Clicks whose traceparent header is none"
        )
        self.registry_requests = self._counter("registry_requests", "Schemas asked for", "outcome")
        self.registry_waiting = Gauge(
            "registry_waiting_seconds",
            "How long a click has waited for a schema registry that is away",
            namespace=NAMESPACE,
            registry=self.registry,
        )
        self.unread_partitions = Gauge(
            "unread_partitions",
            "Partitions that were added to the clicks topic and that nobody reads yet",
            namespace=NAMESPACE,
            registry=self.registry,
        )
        self.commit_interval = Gauge(
            "commit_interval_seconds",
            "Effective commit interval",
            namespace=NAMESPACE,
            registry=self.registry,
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(name, meaning, namespace=NAMESPACE, registry=self.registry, buckets=_SECONDS)

    def watch(
        self,
        states: Callable[[], Mapping[int, PartitionState]],
        unrecovered: Callable[[], Mapping[int, int | None]],
    ) -> None:
        """Read the per-partition metrics from what these give: of open shards, and of assigned partitions
        without one the lag where it is known."""
        self._partitions.states = states
        self._partitions.unrecovered = unrecovered

    def registry_requested(self, outcome: str) -> None:
        """Note what came of a request for a schema."""
        self.registry_requests.labels(outcome).inc()

    def watch_lookup(self, waiting_s: Callable[[], float]) -> None:
        """Read from this how long a click has waited for its schema."""
        self.registry_waiting.set_function(waiting_s)

    def watch_stages(self, levels: Callable[[], Iterable[StageLevels]]) -> None:
        """Read the metrics of the other stages from what this gives."""
        self._stages.levels = levels

    def stage_committed(self, stage: str, committed: StageCommitted) -> None:
        """Note what a commit of another stage than that of the sessions made durable."""
        self.stage_commit.labels(stage).observe(committed.commit_s)
        counter = self.repartitioned if stage == REPARTITION else self.identity_events
        for event, count in committed.events.items():
            counter.labels(event).inc(count)
        self._count_dead(committed.dead)

    def committed(self, committed: Committed) -> None:
        """Note what a commit made durable."""
        closed = Counted(session.close_reason for session in committed.sessions if session.is_final)
        for close_reason, count in closed.items():
            self.sessions.labels(close_reason).inc(count)
        self.early.inc(len(committed.sessions) - closed.total())
        self._count_dead(committed.dead)
        if committed.sessions:
            self.score.observe(committed.score_s)
        self.commit.observe(committed.commit_s)

    def published(self) -> int:
        """Closed sessions that this process has published."""
        samples = (sample for metric in self.sessions.collect() for sample in metric.samples)
        return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))

    def _count_dead(self, reasons: Iterable[str]) -> None:
        for reason, count in Counted(reasons).items():
            self.dead.labels(reason).inc(count)

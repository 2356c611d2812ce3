"""The catalogue of a worker's metrics: every name once, with its meaning."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer.worker.shard import Committed, Shard

_NAMESPACE = "streamer"
_ENDS = ("received", "closed", "late", "dead_lettered", "duplicates", "filtered")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Prometheus metrics of one worker process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.position = self._gauge("source_position", "Offset of the next click to process")
        self.watermark = self._gauge("watermark_seconds", "Watermark, event time")
        self.watermark_lag = self._gauge("watermark_lag_seconds", "Arrival clock minus watermark")
        self.open_sessions = self._gauge("open_sessions", "Open sessions")
        self.clicks = self._gauge(
            "clicks", "Clicks by where they ended, since the partition's first; survives restarts", "end"
        )
        self.lost = self._gauge("clicks_lost", "Offsets that the source dropped before they were read")
        self.clock_behind = self._gauge(
            "clock_behind", "Records that arrived before a moment declared silent"
        )
        self.sessions = self._counter("sessions_closed", "Closed and published sessions")
        self.dead = self._counter("dead_letters", "Dead letters")
        self.score = self._histogram("score_seconds", "Scoring of the sessions of one commit")
        self.commit = self._histogram("commit_seconds", "One transaction, from its begin to its commit")
        self.recovery = self._histogram("recovery_seconds", "Taking over shards, from fencing to claim")
        self.commit_interval = Gauge(
            "commit_interval_seconds",
            "Effective commit interval",
            namespace=_NAMESPACE,
            registry=self.registry,
        )

    def _gauge(self, name: str, meaning: str, *more_labels: str) -> Gauge:
        labels = ("partition", *more_labels)
        return Gauge(name, meaning, labels, namespace=_NAMESPACE, registry=self.registry)

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(name, meaning, ("reason",), namespace=_NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(name, meaning, namespace=_NAMESPACE, registry=self.registry, buckets=_SECONDS)

    def processed(self, shard: Shard) -> None:
        """Note where a partition stands."""
        partition, label = shard.partition, str(shard.number)
        clock, accounts = partition.sessionizer.clock, partition.accounts
        self.position.labels(label).set(partition.position)
        if clock.raised_at:
            self.watermark.labels(label).set(clock.watermark / 1000)
            self.watermark_lag.labels(label).set((clock.now - clock.watermark) / 1000)
        self.clock_behind.labels(label).set(partition.clock_behind)
        self.lost.labels(label).set(accounts.lost)
        for end in _ENDS:
            self.clicks.labels(label, end).set(getattr(accounts, end))
        self.clicks.labels(label, "open").set(accounts.open())

    def committed(self, shard: Shard, committed: Committed) -> None:
        """Note what a commit made durable."""
        self.open_sessions.labels(str(shard.number)).set(shard.partition.sessionizer.open_count)
        for session in committed.sessions:
            self.sessions.labels(session.close_reason).inc()
        for reason in committed.dead:
            self.dead.labels(reason).inc()
        if committed.sessions:
            self.score.observe(committed.score_s)
        self.commit.observe(committed.commit_s)

    def dropped(self, number: int) -> None:
        """Forget the gauges of a partition that is not this worker's any more."""
        label = str(number)
        gauges = (self.position, self.watermark, self.watermark_lag, self.open_sessions)
        for gauge in (*gauges, self.lost, self.clock_behind):
            with contextlib.suppress(KeyError):
                gauge.remove(label)
        for end in (*_ENDS, "open"):
            with contextlib.suppress(KeyError):
                self.clicks.remove(label, end)

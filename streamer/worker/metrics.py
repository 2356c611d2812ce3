"""The catalogue of a worker's metrics: every name once, with its meaning."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer.worker.shard import Committed, Shard

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Prometheus metrics of one worker process, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        kwargs = {"namespace": "streamer", "registry": self.registry}
        by_partition = {"labelnames": ["partition"], **kwargs}
        self.position = Gauge("source_position", "Offset of the next click to process", **by_partition)
        self.watermark = Gauge("watermark_seconds", "Watermark, event time", **by_partition)
        self.watermark_lag = Gauge(
            "watermark_lag_seconds", "Arrival clock minus watermark", **by_partition
        )
        self.open_sessions = Gauge("open_sessions", "Open sessions", **by_partition)
        self.clicks = Gauge(
            "clicks",
            "Clicks by where they ended, since the partition's first; survives restarts",
            labelnames=["partition", "end"],
            **kwargs,
        )
        self.lost = Gauge(
            "clicks_lost", "Offsets that the source had dropped before they were read", **by_partition
        )
        self.clock_behind = Gauge(
            "clock_behind", "Records that arrived before a moment declared silent", **by_partition
        )
        self.sessions = Counter(
            "sessions_closed", "Closed and published sessions", labelnames=["reason"], **kwargs
        )
        self.dead = Counter("dead_letters", "Dead letters", labelnames=["reason"], **kwargs)
        self.score = Histogram(
            "score_seconds", "Scoring of the sessions of one commit", buckets=_SECONDS, **kwargs
        )
        self.commit = Histogram(
            "commit_seconds", "One transaction, from its begin to its commit", buckets=_SECONDS, **kwargs
        )
        self.commit_interval = Gauge("commit_interval_seconds", "Effective commit interval", **kwargs)
        self.recovery = Histogram(
            "recovery_seconds", "Taking over shards, from fencing to claim", buckets=_SECONDS, **kwargs
        )

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
        for end in ("received", "closed", "late", "dead_lettered", "duplicates", "filtered"):
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

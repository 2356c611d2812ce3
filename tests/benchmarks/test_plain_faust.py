"""Plain Faust comes to the same sessions, so that it may stand beside the worker."""

from __future__ import annotations

from benchmarks.backlog import Backlog
from benchmarks.throughput import PLAIN_FAUST, Bench
from streamer.kafka.embedded import EmbeddedKafka


def test_plain_faust_publishes_every_session_once(kafka: EmbeddedKafka) -> None:
    bench = Bench(Backlog(kafka, 1000, visitors=50, prefix="plain-"))
    assert bench.run(PLAIN_FAUST, bench.backlog.full).cpu_s > 0

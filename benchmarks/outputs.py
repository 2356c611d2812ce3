"""What a closed session adds to the output topics: embedding, intents and the visitor's latest of both."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from aiokafka.structs import TopicPartition

from benchmarks.backlog import Backlog
from benchmarks.installation import OUTPUTS, PARTITIONS
from benchmarks.throughput import Bench
from benchmarks.traffic import appended
from streamer.kafka.embedded import EmbeddedKafka


@dataclass(frozen=True)
class Outputs:
    sessions: int
    bytes_per_session: float
    """Keys and values of all output topics."""


def measure(clicks: int) -> Outputs:
    """Of a worker that drains so many clicks."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        bench = Bench(Backlog(kafka, clicks))
        bench.run("with_model", bench.backlog.full)
        topics = [str(bench.last_settings[f"topics.{output}"]) for output in OUTPUTS]
        beginnings = {TopicPartition(topic, number): 0 for topic in topics for number in range(PARTITIONS)}
        sessions = len(bench.last_published)
        return Outputs(sessions, appended(bench.backlog.bootstrap, beginnings) / sessions)

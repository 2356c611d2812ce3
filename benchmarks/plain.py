"""Plain Faust beside the yardstick: CPU a click. Faust gets fewer clicks, for it takes so long for each."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.backlog import Backlog
from benchmarks.pairs import Comparison, compare
from benchmarks.throughput import LOOP, PLAIN_FAUST, Bench
from streamer.kafka.embedded import EmbeddedKafka

CLICKS_PER_VISITOR = 40


def measure(few: int, many: int, rounds: int) -> dict[str, Comparison]:
    """`few` clicks for Faust, `many` for the yardstick, whose run would be too short to measure otherwise."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        short = Bench(Backlog(kafka, few, visitors=few // CLICKS_PER_VISITOR + 100, prefix="few-"))
        long = Bench(Backlog(kafka, many, prefix="many-"))
        faust_idle = short.run(PLAIN_FAUST, short.backlog.empty)
        loop_idle = long.run(LOOP, long.backlog.empty)
        pairs = [
            (
                long.run(LOOP, long.backlog.full).less(loop_idle),
                short.run(PLAIN_FAUST, short.backlog.full).less(faust_idle),
            )
            for _ in range(rounds)
        ]
    return {PLAIN_FAUST: compare(pairs)}

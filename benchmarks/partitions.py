"""What more partitions cost a worker: CPU at a steady 2,000 clicks/s, commits, and taking all of them over.

Every partition commits by itself, so the cost grows with commits a second: partitions divided by the
effective interval, which the worker stretches to 8 ms a partition. `ms_per_commit` is that slope, from the
fewest to the most partitions that kept up; `predicted_cpu` holds it against all of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.capacity import effective_interval_s
from benchmarks.clicks import clicks
from benchmarks.installation import broker_cpu_s, installed
from benchmarks.live_worker import LiveWorker, live
from benchmarks.pacing import append_steadily
from streamer.kafka.embedded import EmbeddedKafka
from streamer.settings import Settings

COUNTS = (4, 64, 256)
PER_S = 2000
VISITORS = 5000
WARM_UP_S = 3.0
KEPT_UP = 0.75
"""Share of the commits that are due: each comes an interval after the one before has ended."""


@dataclass(frozen=True)
class Steady:
    """CPU is seconds a second."""

    cpu: float
    broker_cpu: float
    commits_per_s: float
    commit_ms: float
    """Wall, on average."""
    take_over_s: float
    rss_mb: float


@dataclass(frozen=True)
class Partitions:
    steady: dict[int, Steady]
    ms_per_commit: float | None
    """CPU that one commit more takes; None where the machine was too busy for as many commits as there are
    to be, so that the line means nothing."""
    kept_up: list[int]
    """Numbers of partitions with nearly as many commits as there are to be."""
    base_cpu: float | None
    """Of the clicks themselves."""
    predicted_cpu: dict[int, float]


def measure(seconds: float) -> Partitions:
    """Each number of partitions in turn."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        return fitted({count: _steady(kafka, count, seconds) for count in COUNTS})


def fitted(steady: Mapping[int, Steady]) -> Partitions:
    """A straight line of CPU over commits through the fewest and the most partitions that kept up."""
    kept_up = [n for n, each in steady.items() if each.commits_per_s >= KEPT_UP * expected_commits(n)]
    if len(kept_up) < 2:
        return Partitions(dict(steady), None, kept_up, None, {})
    fewest, most = steady[min(kept_up)], steady[max(kept_up)]
    slope = (most.cpu - fewest.cpu) / (most.commits_per_s - fewest.commits_per_s)
    base = fewest.cpu - slope * fewest.commits_per_s
    predicted = {count: base + slope * each.commits_per_s for count, each in steady.items()}
    return Partitions(dict(steady), slope * 1000, kept_up, base, predicted)


def expected_commits(partitions: int) -> float:
    """A second, of a worker that keeps up at the default interval."""
    return partitions / effective_interval_s(Settings().commit.interval_ms / 1000, partitions)


def _steady(kafka: EmbeddedKafka, partitions: int, seconds: float) -> Steady:
    app_id = f"steady-{partitions}"
    overrides = installed(kafka.bootstrap, app_id, clicks_of(app_id), partitions)
    count = int(PER_S * (seconds + WARM_UP_S))
    with live(overrides) as worker:
        worker.event("shards_open", 120)
        take_over_s = worker.metric("streamer_recovery_seconds_sum")
        found = asyncio.run(_watched(kafka, worker, app_id, partitions, count, take_over_s))
        worker.stop()
    says = f"{found.cpu:.3f} CPU, {found.commits_per_s:.0f} commits/s"
    print(f"{partitions} partitions: {says}", file=sys.stderr)
    return found


async def _watched(
    kafka: EmbeddedKafka, worker: LiveWorker, app_id: str, partitions: int, count: int, take_over_s: float
) -> Steady:
    topic = clicks_of(app_id)
    some = islice(clicks(count, VISITORS), count)
    appending = asyncio.create_task(append_steadily(kafka.bootstrap, topic, some, PER_S, partitions))
    await asyncio.sleep(WARM_UP_S)
    before = await asyncio.to_thread(_look, kafka, worker)
    await appending
    after = await asyncio.to_thread(_look, kafka, worker)
    spent = {name: after[name] - before[name] for name in before}
    return Steady(
        cpu=spent["cpu_s"] / spent["at"],
        broker_cpu=spent["broker_s"] / spent["at"],
        commits_per_s=spent["commits"] / spent["at"],
        commit_ms=spent["commit_s"] / max(spent["commits"], 1) * 1000,
        take_over_s=take_over_s,
        rss_mb=worker.beats[-1]["rss_mb"],
    )


def _look(kafka: EmbeddedKafka, worker: LiveWorker) -> dict[str, float]:
    return {
        "at": time.monotonic(),
        "cpu_s": worker.metric("process_cpu_seconds_total"),
        "commits": worker.metric("streamer_commit_seconds_count"),
        "commit_s": worker.metric("streamer_commit_seconds_sum"),
        "broker_s": broker_cpu_s(kafka),
    }


def clicks_of(app_id: str) -> str:
    """Its clicks topic."""
    return f"{app_id}.clicks"

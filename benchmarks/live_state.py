"""A million open sessions in a real worker: memory, longest stalls, and taking them over after a kill.

The worker reads the clicks while they are appended, then goes on at a steady rate with all sessions open, is
killed (SIGKILL), and a second one with the same name takes its partitions over. It has to come to exactly as
many open sessions. A bare reader of the same changelog, in between, says what reading alone takes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from aiokafka.structs import TopicPartition

from benchmarks.backlog import committed_reader
from benchmarks.installation import PARTITIONS, installed
from benchmarks.live_worker import LiveWorker, is_idle, live
from benchmarks.open_sessions import Crowd
from benchmarks.pacing import append_steadily
from benchmarks.traffic import appended, ends
from streamer.kafka.embedded import EmbeddedKafka

APP = "crowd"
CLICKS = "crowd.clicks"
SETTINGS = {"app__instance_id": "one", "watermark__idle_after_s": 0}
"""Idleness closes nothing: where the worker is slower than the loader, the time between would be one."""
STEADY_PER_S = 2000
LOOK_S = 0.5
"""Seldom: the worker answers from its loop."""


class WrongStateError(Exception):
    """Sessions were lost in a take-over, or made up."""


@dataclass(frozen=True)
class LiveState:
    """Stalls are of the event loop, in ms: CPU at a stretch, and wall time on this machine."""

    open_sessions: int
    rss_mb: float
    most_mb: float
    catching_up_stall_cpu_ms: float
    """While reading as fast as it goes, four fifths of the sessions and more being open."""
    steady_stall_cpu_ms: float
    """At 2,000 clicks/s with all of them open, closing 250 and opening 250 sessions a second."""
    steady_stall_wall_ms: float
    steady_cpu: float
    """CPU seconds a second."""
    input_bytes: float
    """A click."""
    recovery_s: float
    """From the start of the second process until it has all partitions."""
    take_over_s: float
    """Of that, from fencing the first worker to the claim."""
    recovered_rss_mb: float
    changelog_mb: float
    bare_read_s: float
    """Reading the changelog by aiokafka, doing nothing with it."""
    recovery_vs_bare_read: float


def measure(open_sessions: int, steady_s: float) -> LiveState:
    """Once: it takes minutes."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        overrides = installed(kafka.bootstrap, APP, CLICKS, **SETTINGS)
        crowd = Crowd(open_sessions)
        with live(overrides) as worker:
            caught_up = _fill(kafka.bootstrap, worker, open_sessions, crowd.warm_up)
            before = ends(kafka.bootstrap, [CLICKS])
            steady = _steady(kafka.bootstrap, worker, crowd, steady_s)
            clicks = appended(kafka.bootstrap, before)
            sent = steady_s * STEADY_PER_S
            count = worker.metric("streamer_open_sessions")
            worker.kill()
        size_mb, bare_s = asyncio.run(_bare_read(kafka.bootstrap, f"{APP}-sessions-changelog"))
        with live(overrides) as second:
            opened_at, event = second.event("shards_open", 120)
            if event["open_sessions"] != count:
                raise WrongStateError(
                    f"took over {event['open_sessions']} open sessions, expected {count:.0f}"
                )
            take_over_s = second.metric("streamer_recovery_seconds_sum")
            second.wait(lambda: bool(second.beats_since(opened_at)), 10, "beat")
            recovered_mb = second.beats[-1]["rss_mb"]
        recovery_s = opened_at - second.started_at
    return LiveState(
        open_sessions=int(count),
        rss_mb=steady[-1]["rss_mb"],
        most_mb=steady[-1]["most_mb"],
        catching_up_stall_cpu_ms=most(caught_up, "stall_cpu_ms"),
        steady_stall_cpu_ms=most(steady, "stall_cpu_ms"),
        steady_stall_wall_ms=most(steady, "stall_ms"),
        steady_cpu=(steady[-1]["cpu_s"] - steady[0]["cpu_s"]) / (steady[-1]["at"] - steady[0]["at"]),
        input_bytes=clicks / sent,
        recovery_s=recovery_s,
        take_over_s=take_over_s,
        recovered_rss_mb=recovered_mb,
        changelog_mb=size_mb,
        bare_read_s=bare_s,
        recovery_vs_bare_read=take_over_s / bare_s,
    )


def most(beats: Iterable[Mapping[str, float]], name: str) -> float:
    """The highest of a figure."""
    return max(beat[name] for beat in beats)


def _fill(bootstrap: str, worker: LiveWorker, open_sessions: int, count: int) -> list[dict[str, float]]:
    """Append the clicks and wait for the worker; returns its beats with most of the sessions open."""
    command = [sys.executable, "-m", "benchmarks.open_sessions", bootstrap, CLICKS, str(open_sessions), "0"]
    with subprocess.Popen([*command, str(count)]):
        worker.event("shards_open")
        most_open = 0.8 * open_sessions
        worker.wait(lambda: worker.metric("streamer_open_sessions") > most_open, 500, "catch up", LOOK_S)
        since = time.time()
    worker.wait(lambda: is_idle(worker), 300, "catch up")
    return worker.beats_since(since)


def _steady(bootstrap: str, worker: LiveWorker, crowd: Crowd, seconds: float) -> list[dict[str, float]]:
    since = time.time()
    count = int(seconds * STEADY_PER_S)
    clicks = ((key, value) for key, _, value in islice(crowd.clicks(crowd.warm_up), count))
    asyncio.run(append_steadily(bootstrap, CLICKS, clicks, STEADY_PER_S))
    worker.wait(lambda: is_idle(worker), 60, "keep up")
    return worker.beats_since(since)


async def _bare_read(bootstrap: str, topic: str) -> tuple[float, float]:
    """Megabytes and seconds."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = committed_reader(bootstrap, max_partition_fetch_bytes=8 * 1024 * 1024)
    await consumer.start()
    began = time.monotonic()
    consumer.assign(partitions)
    ends, size = await consumer.end_offsets(partitions), 0
    while any([await consumer.position(each) < ends[each] for each in partitions]):
        batches = await consumer.getmany(timeout_ms=200)
        size += sum(len(record.value) for records in batches.values() for record in records)
    spent = time.monotonic() - began
    await consumer.stop()
    return size / 2**20, spent

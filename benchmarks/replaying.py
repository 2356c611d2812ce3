"""Replaying clicks from the topic and from a file, beside the worker that read them live.

All three score every session and make its records; the worker publishes them exactly once, a replay without
output takes digests of them. What each takes for no clicks is taken off.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.backlog import Backlog
from benchmarks.clicks import SENTINELS, clicks
from benchmarks.installation import PARTITIONS
from benchmarks.pairs import Run, Spread, ratios, spread
from benchmarks.spent import cpu_s
from benchmarks.start_up import MAIN
from benchmarks.throughput import Bench, WrongSessions
from streamer.kafka.embedded import EmbeddedKafka

LIVE = "with_model"


@dataclass(frozen=True)
class Replayed:
    """Clicks a CPU second."""

    per_core_s: Spread
    live_per_core_s: Spread
    vs_live: Spread


def measure(count: int, rounds: int) -> dict[str, Replayed]:
    """Live, topic, file, in turn."""
    with tempfile.TemporaryDirectory() as name, EmbeddedKafka(Path(name) / "kafka") as kafka:
        folder = Path(name)
        bench = Bench(Backlog(kafka, count))
        backlog = bench.backlog
        file, nothing = (_written(folder / f"{of}.jsonl", of) for of in (count, 1))
        full, empty = (
            _settings(backlog.worker(topic, f"replay-{topic}")) for topic in (backlog.full, backlog.empty)
        )
        topic_sessions = backlog.sessions + SENTINELS * PARTITIONS
        live_idle = bench.run(LIVE, backlog.empty)
        idle = {
            "topic": _run(empty, [], backlog.clicks, 0),
            "file": _run(full, [f"--source={nothing}"], count, 1),
        }
        pairs: dict[str, list[tuple[Run, Run]]] = {"topic": [], "file": []}
        for _ in range(rounds):
            live = bench.run(LIVE, backlog.full).less(live_idle)
            topic = _run(full, [], backlog.clicks, topic_sessions).less(idle["topic"])
            pairs["topic"].append((live, topic))
            of_file = _run(full, [f"--source={file}"], count, backlog.sessions).less(idle["file"])
            pairs["file"].append((live, of_file))
    return {source: replayed(runs) for source, runs in pairs.items()}


def replayed(pairs: Sequence[tuple[Run, Run]]) -> Replayed:
    """`pairs`: live and replay of each round."""
    return Replayed(
        spread(1e6 / replay.cpu_us for _, replay in pairs),
        spread(1e6 / live.cpu_us for live, _ in pairs),
        ratios((1 / live.cpu_us, 1 / replay.cpu_us) for live, replay in pairs),
    )


def _written(path: Path, count: int) -> Path:
    """The backlog's clicks as JSON lines."""
    with path.open("wb") as file:
        file.writelines(value + b"\n" for _, value in clicks(count))
    return path


def _settings(overrides: dict[str, object]) -> list[str]:
    return [f"--set={key}={value}" for key, value in overrides.items()]


def _run(settings: list[str], options: list[str], count: int, sessions: int) -> Run:
    """Raises WrongSessions if it doesn't come to so many."""
    command = [*MAIN, *settings, "replay", "--from=earliest", "--json", *options]
    began_s, used_s = time.monotonic(), cpu_s()
    printed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    run = Run(cpu_s() - used_s, time.monotonic() - began_s, 0.0, count)
    found = orjson.loads(printed)["sessions"]["selected"]
    if found != sessions:
        raise WrongSessions(f"replay {' '.join(options)} gave {found} sessions of {sessions}")
    print(
        f"replay {' '.join(options) or 'topic'}: {run.cpu_us:.1f} us a click, start-up included",
        file=sys.stderr,
    )
    return run

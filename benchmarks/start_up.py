"""Start-up: the command line, and a worker with nothing to do, beside an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.backlog import Backlog
from benchmarks.live_worker import is_idle, live
from benchmarks.spent import cpu_s
from streamer.kafka.embedded import EmbeddedKafka

MAIN = [sys.executable, "-c", "from streamer.cli import main; main()"]


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds."""

    python_wall_s: float
    help_wall_s: float
    """`streamer --help`."""
    help_vs_python: float
    worker_wall_s: float
    """`streamer worker --drain` on an empty topic, from its start to its end."""
    worker_cpu_s: float
    restart_wall_s: float
    """A worker that was stopped with a few open sessions: until it has its partitions again."""


def measure(rounds: int) -> Figures:
    """Each in turn."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        backlog = Backlog(kafka, 1000, visitors=100)
        taken = [_round(backlog, number) for number in range(rounds)]
        restarts = _restarts(backlog, rounds)
    python, command, worker = zip(*taken, strict=True)
    ratios = [c[0] / p[0] for p, c in zip(python, command, strict=True)]
    return Figures(
        python_wall_s=_median(wall for wall, _ in python),
        help_wall_s=_median(wall for wall, _ in command),
        help_vs_python=_median(ratios),
        worker_wall_s=_median(wall for wall, _ in worker),
        worker_cpu_s=_median(cpu for _, cpu in worker),
        restart_wall_s=_median(restarts),
    )


def _round(backlog: Backlog, number: int) -> list[tuple[float, float]]:
    overrides = backlog.worker(backlog.empty, f"start-{number}")
    options = [f"--set={key}={value}" for key, value in overrides.items()]
    commands = [sys.executable, "-c", "pass"], [*MAIN, "--help"], [*MAIN, *options, "worker", "--drain"]
    return [_timed(list(command)) for command in commands]


def _restarts(backlog: Backlog, rounds: int) -> list[float]:
    overrides = backlog.worker(backlog.full, "restarted", app__instance_id="one")
    taken = []
    for number in range(rounds + 1):
        with live(overrides) as worker:
            opened_at, event = worker.event("shards_open")
            if number:
                assert event["open_sessions"] > 0
                taken.append(opened_at - worker.started_at)
            else:
                worker.wait(lambda: is_idle(worker), 30, "read the clicks")
            worker.stop()
    return taken


def _timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall_s, used_s = time.monotonic(), cpu_s()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - wall_s, cpu_s() - used_s


def _median(values: Iterable[float]) -> float:
    return round(median(values), 3)

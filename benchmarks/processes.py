"""How the rate grows with worker processes on one machine, the yardstick's beside it.

The rate is that at which the middle 80 % of the sessions were appended to the output, so start-up and the
uneven end are left out, of the yardstick alike. The broker waits three seconds for members before it hands
out partitions (its own default), so all processes begin at once. Broker and workers share the machine's
cores: where two processes and the broker want more than there are, no program can get twice the rate.
`bound` is what the CPU that was spent leaves possible, if one process never waits.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backlog import Backlog
from benchmarks.pairs import Run, Spread, ratios, spread
from benchmarks.throughput import LOOP, Bench
from streamer.kafka.embedded import EmbeddedKafka

PROCESSES = {LOOP: (2,), "with_model": (2, 4)}
"""How many of each program."""
WAITING = {"group.initial.rebalance.delay.ms": "3000"}
LEFT_OUT = 0.1
"""Of the sessions at either end."""


@dataclass(frozen=True)
class Scaling:
    """Several processes beside one."""

    rate_ratio: Spread
    cpu_ratio: Spread
    """CPU a click."""
    bound: Spread
    """The highest rate ratio that the cores allow a program of one thread that never waits."""
    sessions_per_s: Spread
    """With several."""


def measure(clicks: int, rounds: int) -> dict[str, Scaling]:
    """One process of a program and more in turn; named by how many there are of which program."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder), properties=WAITING) as kafka:
        bench = Bench(Backlog(kafka, clicks))
        start_up = {
            (name, count): bench.run(name, bench.backlog.empty, count)
            for name, counts in PROCESSES.items()
            for count in (1, *counts)
        }
        taken = defaultdict[str, list[tuple[PendingOutputs, PendingOutputs]]](list)
        for number, (name, counts) in itertools.product(range(rounds), PROCESSES.items()):
            one, *others = (_taken(bench, name, count, start_up[name, count]) for count in (1, *counts))
            for count, more in zip(counts, others, strict=True):
                taken[f"{count} {name}"].append((one, more))
                says = f"{count} {name}: {more.rate / one.rate:.2f} times"
                print(f"round {number + 1} of {rounds}: {says}", file=sys.stderr)
    return {name: scaling(pairs, os.cpu_count() or 1) for name, pairs in taken.items()}


@dataclass(frozen=True)
class PendingOutputs:
    """One run."""

    rate: float
    """Sessions a second."""
    run: Run


def _taken(bench: Bench, name: str, count: int, start_up: Run) -> PendingOutputs:
    run = bench.run(name, bench.backlog.full, count).less(start_up)
    return PendingOutputs(middle_rate(bench.last_published), run)


def middle_rate(appended: Sequence[int]) -> float:
    """Records a second between the first and the last tenth; `appended`: ms, rising."""
    first, last = int(len(appended) * LEFT_OUT), int(len(appended) * (1 - LEFT_OUT)) - 1
    return (last - first) / max(appended[last] - appended[first], 1) * 1000


def scaling(pairs: Sequence[tuple[PendingOutputs, PendingOutputs]], cores: int) -> Scaling:
    """`pairs`: with one process and with more, of each round."""
    return Scaling(
        rate_ratio=ratios((one.rate, more.rate) for one, more in pairs),
        cpu_ratio=ratios((one.run.cpu_us, more.run.cpu_us) for one, more in pairs),
        bound=spread(cores * one.run.cpu_s / (more.run.cpu_s + more.run.broker_cpu_s) for one, more in pairs),
        sessions_per_s=spread(more.rate for _, more in pairs),
    )

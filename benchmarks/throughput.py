"""CPU a click: the worker and parts of it, each in turn with the yardstick that it is compared with.

Every program reads the same backlog to its end in a process of its own. What the same program takes for an
empty topic is taken off, of the yardstick as of the others. A run that doesn't give every session once isn't
measured but an error.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import orjson

from benchmarks.backlog import PARTITIONS, Backlog
from benchmarks.clicks import SENTINELS
from benchmarks.pairs import Comparison, Run, compare
from benchmarks.stages import STAGES
from streamer.kafka.embedded import EmbeddedKafka

LOOP, BARE, DELIVERY = "loop", "bare", "delivery"
YARDSTICKS = {**dict.fromkeys(STAGES, LOOP), DELIVERY: BARE}
"""`loop` sessionizes by hand; `bare` only reads and parses, by aiokafka; `delivery` does so through Faust."""


class WrongSessions(Exception):  # noqa: N818
    """A program lost sessions, or made some up."""


def measure(clicks: int, rounds: int, programs: Iterable[str]) -> dict[str, Comparison]:
    """Each program beside its yardstick, `rounds` times in turn."""
    chosen = list(programs)
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        bench = _Bench(Backlog(kafka, clicks))
        names = [*chosen, *dict.fromkeys(YARDSTICKS[name] for name in chosen)]
        start_up = {name: bench.run(name, "empty") for name in names}
        pairs: dict[str, list[tuple[Run, Run]]] = {name: [] for name in chosen}
        for number, name in itertools.product(range(rounds), chosen):
            yardstick, program = (
                bench.run(each, "clicks").less(start_up[each]) for each in (YARDSTICKS[name], name)
            )
            pairs[name].append((yardstick, program))
            says = f"{name} {program.cpu_us:.2f} us, {YARDSTICKS[name]} {yardstick.cpu_us:.2f} us a click"
            print(f"round {number + 1} of {rounds}: {says}", file=sys.stderr)
    return {name: compare(pairs[name]) for name in chosen}


class _Bench:
    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._numbers = itertools.count()

    def run(self, program: str, topic: str) -> Run:
        """One run, under a name of its own."""
        backlog, own = self._backlog, f"{program}-{next(self._numbers)}"
        overrides = backlog.overrides(topic, own)
        backlog.create(overrides)
        command = {
            LOOP: ["benchmarks.yardstick", backlog.bootstrap, topic, f"{own}.intents", own],
            BARE: ["benchmarks.delivery", "bare", backlog.bootstrap, topic],
            DELIVERY: ["benchmarks.delivery", "faust", backlog.bootstrap, topic],
        }.get(program) or ["benchmarks.stages", program, orjson.dumps(overrides).decode()]
        before_s = backlog.broker_cpu_s()
        printed = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, check=True).stdout
        broker_s = backlog.broker_cpu_s() - before_s
        if topic == "clicks" and program not in (BARE, DELIVERY):
            self._check(program, f"{own}.intents")
        spent = orjson.loads(printed.splitlines()[-1])
        return Run(spent["cpu_s"], spent["wall_s"], broker_s, backlog.clicks)

    def _check(self, program: str, topic: str) -> None:
        """Every session once. The worker, which drains, closes the last sentinel of each partition too."""
        closed = SENTINELS - (program == LOOP)
        expected = self._backlog.sessions + closed * PARTITIONS
        found = self._backlog.published(topic)
        if found != expected:
            raise WrongSessions(f"{program} gave {found} sessions of {expected}")

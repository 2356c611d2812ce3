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

from benchmarks.backlog import Backlog
from benchmarks.clicks import SENTINELS
from benchmarks.installation import PARTITIONS
from benchmarks.pairs import Comparison, Run, compare
from benchmarks.stages import STAGES
from streamer.kafka.embedded import EmbeddedKafka

LOOP, BARE, DELIVERY, PLAIN_FAUST = "loop", "bare", "delivery", "plain_faust"
UNDRAINED = (LOOP, PLAIN_FAUST)
YARDSTICKS = {**dict.fromkeys(STAGES, LOOP), DELIVERY: BARE}
"""`loop` sessionizes by hand; `bare` only reads and parses, by aiokafka; `delivery` does so through Faust."""


class WrongSessions(Exception):  # noqa: N818
    """A program lost sessions, or made some up."""


def measure(clicks: int, rounds: int, programs: Iterable[str]) -> dict[str, Comparison]:
    """Each program beside its yardstick, `rounds` times in turn."""
    chosen = list(programs)
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        bench = Bench(Backlog(kafka, clicks))
        names = [*chosen, *dict.fromkeys(YARDSTICKS[name] for name in chosen)]
        start_up = {name: bench.run(name, bench.backlog.empty) for name in names}
        pairs: dict[str, list[tuple[Run, Run]]] = {name: [] for name in chosen}
        for number, name in itertools.product(range(rounds), chosen):
            yardstick, program = (
                bench.run(each, bench.backlog.full).less(start_up[each]) for each in (YARDSTICKS[name], name)
            )
            pairs[name].append((yardstick, program))
            says = f"{name} {program.cpu_us:.2f} us, {YARDSTICKS[name]} {yardstick.cpu_us:.2f} us a click"
            print(f"round {number + 1} of {rounds}: {says}", file=sys.stderr)
    return {name: compare(pairs[name]) for name in chosen}


class Bench:
    """Runs programs over one backlog."""

    def __init__(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self.last_published: list[int] = []
        """When the last run's sessions were appended to its output (ms UTC), rising."""
        self.last_settings: dict[str, object] = {}
        """The last run's, dotted."""
        self._numbers = itertools.count()

    def run(self, program: str, topic: str, processes: int | None = None, **more: object) -> Run:
        """One run over the backlog's full or empty topic, in a process of its own.

        In several if so many are asked for, start-up included, of one too. `more`: settings of a worker.
        """
        backlog = self.backlog
        overrides = self.last_settings = backlog.worker(topic, f"{program}-{next(self._numbers)}", **more)
        command = _command(program, backlog.bootstrap, overrides)
        if processes is not None:
            command.append(str(processes))
        before_s = backlog.broker_cpu_s()
        printed = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE, check=True).stdout
        broker_s = backlog.broker_cpu_s() - before_s
        if topic == backlog.full and program not in (BARE, DELIVERY):
            self.last_published = self.check(program, str(overrides["topics.intents"]))
        spent = orjson.loads(printed.splitlines()[-1])
        return Run(spent["cpu_s"], spent["wall_s"], broker_s, backlog.clicks)

    def check(self, program: str, topic: str) -> list[int]:
        """Every session once. The worker, which drains, closes the last sentinel of each partition too."""
        closed = SENTINELS - (program in UNDRAINED)
        expected = self.backlog.sessions + closed * PARTITIONS
        found = self.backlog.published(topic)
        if len(found) != expected:
            raise WrongSessions(f"{program} gave {len(found)} sessions of {expected}")
        return found


def _command(program: str, bootstrap: str, overrides: dict[str, object]) -> list[str]:
    """Module and arguments."""
    topic, output, group = (str(overrides[key]) for key in ("topics.clicks", "topics.intents", "app.id"))
    if program == LOOP:
        return ["benchmarks.yardstick", bootstrap, topic, output, group]
    if program == PLAIN_FAUST:
        return ["benchmarks.plain_faust", bootstrap, topic, output, group]
    if program in (BARE, DELIVERY):
        return ["benchmarks.delivery", program, bootstrap, topic]
    return ["benchmarks.stages", program, orjson.dumps(overrides).decode()]

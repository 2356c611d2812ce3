"""A million open sessions in the core alone: memory, and the cost of a click beside that with ten thousand.

Decoder, partition and sessionizer, without broker, changelog and model. Both states are in one process;
blocks of clicks go to the large and to the small one in turn, each click joining, opening and closing
sessions as on a steady day. Memory is taken before there is a small one.

Run as a program: `python -m benchmarks.core_state OPEN FEW ROUNDS`; prints one JSON object.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import orjson

from benchmarks.clicks import Arrival
from benchmarks.heartbeat import memory_mb
from benchmarks.open_sessions import Crowd
from benchmarks.pairs import Spread, ratios, spread
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition
from streamer.rules_from_settings import session_rules
from streamer.settings import Settings
from streamer.worker.memory import settle_memory

PORTION = 1000
"""Clicks between two commits."""
BLOCK = 40_000
"""Clicks of a round."""


@dataclass(frozen=True)
class CoreState:
    open_sessions: int
    rss_mb: float
    bytes_per_session: float
    """What the process grew by, a session."""
    us_per_click: Spread
    """With that many open."""
    vs_few: Spread
    """To that with `few` open."""
    few: int


def forget(partition: Partition) -> None:
    """A commit that writes nothing."""
    partition.sessionizer.forget_changes()


class Feed:
    """A partition and the crowd that clicks in it; after each portion of clicks comes a commit."""

    def __init__(
        self, open_sessions: int, commit: Callable[[Partition], None] = forget, portion: int = PORTION
    ) -> None:
        self._commit = commit
        self._portion = portion
        self.partition = Partition("clicks", 0, Sessionizer(session_rules(Settings())), ClickDecoder().decode)
        crowd = Crowd(open_sessions)
        self._clicks = crowd.clicks()
        self._offset = 0
        self.take_in(crowd.warm_up)

    def take_in(self, count: int) -> float:
        """So many clicks more; returns what they took, in CPU seconds, making them left out."""
        spent = 0.0
        for _ in range(0, count, self._portion):
            portion = list(self._records(self._portion))
            began = time.thread_time()
            self._process(portion)
            spent += time.thread_time() - began
        return spent

    def _records(self, count: int) -> Iterator[Arrival]:
        for key, at, value in islice(self._clicks, count):
            yield Arrival(self._offset, at + 1000, key, value)
            self._offset += 1

    def _process(self, portion: list[Arrival]) -> None:
        done = 0
        while done < len(portion):
            done = self.partition.process(portion, done)
            self.partition.take()
            self.partition.resume_closing()
        self._commit(self.partition)


def measure(open_sessions: int, rounds: int) -> CoreState:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.core_state", str(open_sessions), "10000", str(rounds)]
    found = orjson.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    of = {name: Spread(**value) if isinstance(value, dict) else value for name, value in found.items()}
    return CoreState(**of)


def _measure(open_sessions: int, few: int, rounds: int) -> CoreState:
    settle_memory()
    before_mb, _ = memory_mb()
    large = Feed(open_sessions)
    after_mb, _ = memory_mb()
    count = large.partition.sessionizer.open_count
    small = Feed(few)
    pairs = [(small.take_in(BLOCK), large.take_in(BLOCK)) for _ in range(rounds)]
    return CoreState(
        open_sessions=count,
        rss_mb=after_mb,
        bytes_per_session=(after_mb - before_mb) * 2**20 / count,
        us_per_click=spread(of_large / BLOCK * 1e6 for _, of_large in pairs),
        vs_few=ratios(pairs),
        few=small.partition.sessionizer.open_count,
    )


if __name__ == "__main__":
    print(orjson.dumps(_measure(*map(int, sys.argv[1:4]))).decode())

"""`python -m benchmarks.early`: what provisional records of open sessions cost, and how early they are right.

Simulated visitors of a bank, whom the shipped model has never seen, go through the worker's own pipeline:
decode, sessions, scoring, writing records; without broker and changelog. Every interval is paired with none
(0) in each round, in turn, so that a busy machine slows all of them alike. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import NamedTuple

import orjson

from benchmarks.clicks import Arrival
from streamer.core.sessionizer import Sessionizer
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.scorer import Scored, ScoreError, Scorer
from streamer.models.simulator import SimulatorConfig, simulate
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition
from streamer.pipeline.records import RecordWriter
from streamer.rules_from_settings import session_rules
from streamer.schemas.click import Session
from streamer.settings import Settings

SEED = 77_002
"""Of the simulator; the shipped model was trained with another."""
PORTION = 1000
"""Clicks a commit: of a partition that is busy, as one has to be where this costs anything."""
DELAY_MS = 2000
"""Clicks arrive up to this much after their event time."""


class Published(NamedTuple):
    """What readers care for in a record. `top_intent` is None where the model abstained."""

    session_id: str
    supersedes: str | None
    closed_at: int
    ended_at: int
    is_final: bool
    top_intent: str | None


class Cost(NamedTuple):
    """CPU of a round beside that of the same round without provisional records."""

    share: float
    seconds: float


@dataclass(frozen=True)
class Figures:
    """Shares are within 0..1. "Named" sessions are those whose final record names an intent."""

    early_every_s: int
    sessions: int
    provisional_per_session: float
    extra_cpu: float
    """Beside a pipeline without provisional records, median over the rounds."""
    extra_us_per_record: float
    """The same, a provisional record."""
    with_provisional: float
    """Sessions that had a provisional record."""
    first_is_right: float
    """Named sessions with a provisional record, whose first one named the final intent."""
    first_is_wrong: float
    """... whose first one named another; the model abstained in the rest."""
    some_is_right: float
    """... of whose provisional records any named the final intent."""
    gained_s: float
    """Median over these of the time from the first right record to the final one."""
    while_browsing: float
    """Named sessions whose intent was out before the visitor's last click."""


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.early", description=__doc__)
    parser.add_argument("--visitors", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, nargs="+", default=[30, 60, 120], help="early_every_s")
    options = parser.parse_args()
    found = measure(arrivals(options.visitors), options.every, options.rounds)
    for each in found:
        print("  ".join(f"{name} {value:.3g}" for name, value in asdict(each).items()))
    print(orjson.dumps([asdict(each) for each in found]).decode())


def arrivals(visitors: int) -> list[Arrival]:
    """Two days of clicks, in order of arrival."""
    chance = random.Random(SEED)
    simulated = simulate(SimulatorConfig(seed=SEED, visitors=visitors, period_days=2.0))
    clicks = sorted(
        (click["timestamp"] + chance.randrange(DELAY_MS), click["visitor_id"].encode(), orjson.dumps(click))
        for click in simulated.clicks()
    )
    return [Arrival(offset, *click) for offset, click in enumerate(clicks)]


def measure(log: Sequence[Arrival], every_s: Sequence[int], rounds: int) -> list[Figures]:
    """Figures of each interval."""
    pipeline = Pipeline()
    published = {every: pipeline.run(log, every) for every in (0, *every_s)}
    costs: dict[int, list[Cost]] = {every: [] for every in every_s}
    for _ in range(rounds):
        plain = pipeline.cpu_s(log, 0)
        for every in every_s:
            again = pipeline.cpu_s(log, every)
            costs[every].append(Cost(again / plain - 1, again - plain))
    return [figures(every, published[every], costs[every]) for every in every_s]


class Pipeline:
    """Clicks in, records of the output topics out."""

    def __init__(self, *, reasons: bool = False) -> None:
        settings = Settings()
        self._rules = session_rules(settings)
        bundle = load_bundle(default_bundle())
        self._scorer = Scorer(bundle, reasons=reasons)
        self._writer = RecordWriter(bundle, self._rules.version)

    def cpu_s(self, log: Sequence[Arrival], early_every_s: int) -> float:
        began = time.process_time()
        self.run(log, early_every_s)
        return time.process_time() - began

    def run(self, log: Sequence[Arrival], early_every_s: int) -> list[Published]:
        """Everything that comes of the log, people's sessions only."""
        sessionizer = Sessionizer(self._rules, early_every_ms=1000 * early_every_s)
        partition = Partition("clicks", 0, sessionizer, ClickDecoder("json").decode)
        found: list[Published] = []
        for start in range(0, len(log), PORTION):
            portion = log[start : start + PORTION]
            done = 0
            while done < len(portion):
                done = partition.process(portion, done)
                found += self._publish(partition)
        while not partition.drain():
            found += self._publish(partition)
        return found + self._publish(partition)

    def _publish(self, partition: Partition) -> list[Published]:
        sessions = partition.take().sessions
        partition.resume_closing()
        return [each for each in map(self._written, sessions, self._scorer.score(sessions)) if each]

    def _written(self, session: Session, scored: Scored | ScoreError) -> Published | None:
        if isinstance(scored, ScoreError):
            raise RuntimeError(scored.reason)
        self._writer.write(session, scored)
        if session.is_bot or session.close_reason == "drain":
            return None
        return Published(
            session.session_id,
            session.supersedes,
            session.closed_at,
            session.ended_at,
            session.is_final,
            scored.top_intent,
        )


def figures(every_s: int, records: Sequence[Published], costs: Sequence[Cost]) -> Figures:
    """What readers of these records had of the provisional ones."""
    finals = [record for record in records if record.is_final]
    before = _provisional_of(records)
    chains = [(final, before.get(final.session_id, [])) for final in finals]
    named = [(final, early) for final, early in chains if early and final.top_intent]
    firsts = [(final.top_intent, early[0].top_intent) for final, early in named]
    right = [
        (final, next(e for e in early if e.top_intent == final.top_intent))
        for final, early in named
        if any(e.top_intent == final.top_intent for e in early)
    ]
    all_named = sum(final.top_intent is not None for final in finals)
    return Figures(
        every_s,
        len(finals),
        sum(len(early) for _, early in chains) / len(finals),
        median(cost.share for cost in costs),
        median(cost.seconds for cost in costs) * 1e6 / sum(not record.is_final for record in records),
        sum(bool(early) for _, early in chains) / len(finals),
        sum(first == top for top, first in firsts) / len(named),
        sum(first not in (top, None) for top, first in firsts) / len(named),
        len(right) / len(named),
        median(final.closed_at - early.closed_at for final, early in right) / 1000,
        sum(early.closed_at < final.ended_at for final, early in right) / all_named,
    )


def _provisional_of(records: Sequence[Published]) -> dict[str, list[Published]]:
    """session_id of a final record -> its provisional ones in order, also those under an id it had before."""
    heirs = {record.supersedes: record.session_id for record in records if record.supersedes}
    found: dict[str, list[Published]] = {}
    for record in records:
        if record.is_final:
            continue
        session_id = record.session_id
        while session_id in heirs:
            session_id = heirs[session_id]
        found.setdefault(session_id, []).append(record)
    return found


if __name__ == "__main__":
    main()

"""A log of one partition for tests of the replay: records with simulated arrival times, as plain values.

`live` runs it as a worker does: in batches, with ticks while it is silent, stopped and restored from bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import orjson

from streamer.core.rules import SessionRules
from streamer.core.session import OpenSession
from streamer.core.sessionizer import Sessionizer
from streamer.core.stored_state import encode_state, state_decoder
from streamer.core.watermark import PartitionClock
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition, PartitionState
from streamer.replay.partition_replay import PartitionReplay, ReplaySnapshot
from streamer.replay.plan import PartitionPlan, ReplayConfig
from streamer.replay.sources import LogRecord
from streamer.replay.time_range import TimeRange
from streamer.schemas.click import Session

TOPIC = "clicks"
BEGIN_MS = 1_795_046_400_000
WHOLE_PARTITION = PartitionPlan(0, 0, 0)


def hours_of_clicks(seed: int, visitors: int = 40, hours: float = 10.0) -> list[LogRecord]:
    """Visitors who come and go, with delays, duplicates, garbage, logouts and long idle times."""
    dice = random.Random(seed)
    span_ms = int(hours * 3_600_000)
    sent: list[tuple[int, bytes | None]] = []
    for visitor in range(visitors):
        at = BEGIN_MS + dice.randrange(span_ms)
        for _ in range(dice.randint(1, 3)):
            for _ in range(1 + int(dice.expovariate(0.25))):
                event = "logout" if dice.random() < 0.03 else "page_view"
                value = _click(f"v{visitor}", at, f"e{len(sent)}", event, dice)
                delay = dice.choice((50, 200, 1000, 30_000, 119_000, 119_000, 9_000_000))
                sent.append((at + dice.randrange(delay), value))
                if dice.random() < 0.05:
                    sent.append((at + dice.randrange(delay), value))
                at += int(dice.expovariate(1 / 120_000))
            at += 1_700_000 + dice.randrange(2_000_000)
    sent += [(BEGIN_MS + dice.randrange(span_ms), dice.choice((b"{", None, b'{"a":1}'))) for _ in range(9)]
    last_ms = max(arrival for arrival, _ in sent)
    sent += [(last_ms + n, _click(f"last{n}", last_ms, f"last{n}", "page_view", dice)) for n in range(5)]
    return as_log(sent)


def _click(visitor: str, at: int, event_id: str, event_type: str, dice: random.Random) -> bytes:
    page = dice.choice(("home", "loans", "cards", "savings"))
    click: dict[str, Any] = {
        "visitor_id": visitor,
        "timestamp": at,
        "event_id": event_id,
        "event_type": event_type,
        "page_type": page,
        "page_url": f"https://bank.example/{page}",
        "user_id": dice.choice((None, None, None, "u1")),
    }
    return orjson.dumps(click)


def as_log(sent: Iterable[tuple[int, bytes | None]]) -> list[LogRecord]:
    """Records of (arrival, value), in order of arrival."""
    ordered = sorted(sent, key=lambda each: each[0])
    return [LogRecord(offset, at, b"k", value) for offset, (at, value) in enumerate(ordered)]


class Live:
    """A worker's side of one partition, without Kafka. `dice` decides on batches, ticks and restarts."""

    def __init__(self, rules: SessionRules, dice: random.Random) -> None:
        self.rules = rules
        self.dice = dice
        self.sessions: list[Session] = []
        self._decode = ClickDecoder().decode
        self.partition = Partition(TOPIC, 0, Sessionizer(rules), self._decode)

    def run(self, log: Sequence[LogRecord], largest: int) -> Live:
        """Everything in the log; `largest` batch."""
        place = 0
        while place < len(log):
            batch = log[place : place + self.dice.randint(1, largest)]
            place += len(batch)
            index = 0
            while index < len(batch):
                index = self.partition.process(batch, index)
                self.take()
            following = log[place].timestamp if place < len(log) else batch[-1].timestamp
            if self.dice.random() < 0.3 and following > batch[-1].timestamp:
                self.tick(self.dice.randint(batch[-1].timestamp, following))
            if self.dice.random() < 0.1:
                self.restart()
        return self

    def tick(self, now_ms: int) -> None:
        self.partition.tick(now_ms)
        self.take()

    def drain(self) -> None:
        while not self.partition.drain():
            self.take()
        self.take()

    def restart(self) -> None:
        """As after a kill: from what a commit has written."""
        old = self.partition
        windows = old.sessionizer.stored_sessions()
        stored = encode_state((windows, old.sessionizer.clock, old.counters))
        kinds = tuple[list[OpenSession], PartitionClock, type(old.counters)]
        sessions, clock, counters = state_decoder(kinds).decode(stored)
        self.partition = Partition(
            TOPIC,
            0,
            Sessionizer(self.rules, clock=clock, sessions=sessions),
            self._decode,
            PartitionState(old.position, counters),
        )

    def take(self) -> None:
        self.sessions += self.partition.take().sessions
        while self.partition.sessionizer.has_due:
            self.partition.resume_closing()
            self.sessions += self.partition.take().sessions


def new_replay(
    rules: SessionRules, time_range: TimeRange, plan: PartitionPlan = WHOLE_PARTITION, **options: Any
) -> PartitionReplay:
    return PartitionReplay(ReplayConfig(TOPIC, rules, time_range), plan, ClickDecoder().decode, **options)


def replayed(
    log: Sequence[LogRecord],
    rules: SessionRules,
    time_range: TimeRange,
    dice: random.Random | None = None,
    plan: PartitionPlan = WHOLE_PARTITION,
    **options: Any,
) -> tuple[list[Session], PartitionReplay]:
    """A replay to its end; with `dice`, in random portions and stopped and restored in between."""
    replay = new_replay(rules, time_range, plan, **options)
    sessions: list[Session] = []
    place = 0
    while place < len(log):
        portion = log[place : place + (dice.randint(1, 50) if dice else len(log))]
        place += len(portion)
        sessions += replay.process(portion)
        if dice and dice.random() < 0.2:
            stored = encode_state(replay.snapshot())
            snapshot = state_decoder(ReplaySnapshot).decode(stored)
            replay = new_replay(rules, time_range, plan, **options, snapshot=snapshot)
    sessions += replay.drain() if time_range.to_ms is None else replay.idle(time_range.to_ms)
    return sessions, replay


def as_set(sessions: Iterable[Session]) -> list[bytes]:
    """Sessions as bytes, to the last field, in no order."""
    return sorted(msgspec.json.encode(session) for session in sessions)

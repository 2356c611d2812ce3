"""The core does to the last field what the plain rules say, whatever comes, however it is stopped."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.session import OpenSession
from streamer.core.sessionizer import Sessionizer
from streamer.core.stored_state import encode_state, state_decoder
from streamer.core.watermark import PartitionClock
from streamer.schemas.click import Click, Session
from tests.core.naive import Closed, NaivePartition, Record, Told

RULES = SessionRules(
    gap_ms=20,
    max_duration_ms=10_000,
    max_events=100,
    end_events=frozenset({"logout"}),
    out_of_orderness_ms=15,
    idle_after_ms=10,
    max_future_ms=12,
    min_timestamp_ms=1002,
)
ALL_RULES = {
    "no_caps": RULES,
    "caps": replace(RULES, max_duration_ms=45, max_events=6),
    "no_idle_closing": replace(RULES, idle_after_ms=0, max_duration_ms=45),
    "no_bound": replace(RULES, out_of_orderness_ms=0, gap_ms=5, max_events=4),
}
REVISING_RULES = {
    "revising": replace(RULES, revise_within_ms=25),
    "revising_with_caps": replace(RULES, max_duration_ms=45, max_events=6, revise_within_ms=25),
    "revising_without_idle_closing": replace(RULES, idle_after_ms=0, revise_within_ms=60),
    "revising_without_bound": replace(
        RULES, out_of_orderness_ms=0, gap_ms=5, max_events=4, revise_within_ms=10
    ),
}


def random_records(dice: random.Random, most: int) -> list[Record]:
    """Records of few visitors so close to each other in both times that every rule is met often."""
    records: list[Record] = []
    now = 1030
    waits = dice.choice(((0, 1), (0, 0, 1, 3, 8), (0, 0, 1, 3, 8, 21, 60)))
    ends = dice.choice((0, 0.1))
    for place in range(dice.randint(1, most)):
        now += dice.choice(waits)
        at, event_id, visitor = now + dice.randint(-50, 14), f"e{place}", dice.choice("aab")
        if records and dice.random() < 0.15:
            repeated = dice.choice(records)
            event_id, visitor = repeated.event_id, repeated.visitor
            at = dice.choice((repeated.at, repeated.at, at))
        arrival = now - dice.choice((0, 0, 0, 5))
        user = dice.choice((None, None, "u1", "u2"))
        records.append(
            Record(place, visitor, at, event_id, arrival, dice.random() < ends, user, dice.random() < 0.05)
        )
    return records


def with_pages(records: list[Record], dice: random.Random) -> list[Record | Told]:
    """The same on a few pages, among what tells how long those were read."""
    among: list[Record | Told] = []
    pages = (None, "/a", "/b")
    for record in records:
        dwell = dice.choice((None, None, None, 0, 7))
        among.append(record._replace(page=dice.choice(pages), dwell=dwell))
        for _ in range(dice.choice((0, 0, 1, 2))):
            at = record.at + dice.choice((0, 3, 15, dice.randint(-50, 50)))
            dwell = dice.choice((None, 0, 1, 5, 40))
            among.append(Told(record.visitor, at, record.arrival, dice.choice(pages), dwell))
    return among


class Stopped:
    """Runs records through the core; `dice` says where it is stopped and rebuilt from its own bytes,
    where timers tick, and how many sessions are taken at a time."""

    def __init__(self, rules: SessionRules, dice: random.Random | None = None) -> None:
        self.rules = rules
        self.dice = dice
        self.core = Sessionizer(rules)
        self.outcomes: list[str] = []
        self.sessions: list[Session] = []
        self.merged_duplicates = 0

    def run(self, records: Sequence[Record | Told]) -> Stopped:
        for offset, record in enumerate(records):
            if self.dice and record.arrival > self.core.clock.now and self.dice.random() < 0.3:
                self._step(self.dice.randint(self.core.clock.now, record.arrival))
            self._step(record.arrival)
            if isinstance(record, Told):
                told = Click(record.at, "", "", path=record.page, dwell_ms=record.dwell)
                self.core.tell_dwell(record.visitor, told)
                self._maybe_rebuild()
                continue
            kind = "logout" if record.end else "page_view"
            click = Click(record.at, record.event_id, kind, path=record.page, dwell_ms=record.dwell)
            outcome = self.core.add(record.visitor, click, offset, record.user, record.crawler)
            self.outcomes.append(outcome.name.lower())
            self._close_due()
        self.sessions += self.core.drain()
        self.merged_duplicates += self.core.merged_duplicates
        return self

    def _step(self, arrival: int) -> None:
        self.core.arrive(arrival)
        self._close_due()

    def _close_due(self) -> None:
        while self.core.has_due:
            self.sessions += self.core.close_due(self.dice.choice((1, 2, 100)) if self.dice else 100)
            self._maybe_rebuild()
        self._maybe_rebuild()

    def _maybe_rebuild(self) -> None:
        if self.dice is None or self.dice.random() < 0.6:
            return
        windows = self.core.stored_sessions()
        self.dice.shuffle(windows)
        state = encode_state((self.core.clock, windows))
        clock, windows = state_decoder(tuple[PartitionClock, list[OpenSession]]).decode(state)
        self.merged_duplicates += self.core.merged_duplicates
        self.core = Sessionizer(self.rules, clock=clock, sessions=windows)

    @property
    def closed(self) -> list[Closed]:
        return [
            Closed(
                session.visitor_id,
                session.started_at,
                session.ended_at,
                session.closed_at,
                session.close_reason,
                session.event_count,
                session.is_bot,
                session.user_id,
                tuple(click.event_id for click in session.clicks),
                session.session_id,
                session.is_final,
                session.revision,
                session.supersedes,
                tuple(click.dwell_ms for click in session.clicks),
            )
            for session in self.sessions
        ]


@pytest.mark.parametrize("rules", (ALL_RULES | REVISING_RULES).values(), ids=ALL_RULES | REVISING_RULES)
@pytest.mark.parametrize("stopped", [False, True], ids=["in_one_go", "stopped_and_restored"])
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_core_does_what_the_plain_rules_say(rules: SessionRules, stopped: bool, seed: int) -> None:
    dice = random.Random(seed)
    records = with_pages(random_records(dice, most=60), dice)
    naive = NaivePartition(rules).run(records)
    core = Stopped(rules, dice if stopped else None).run(records)
    assert core.outcomes == naive.outcomes
    assert core.closed == naive.closed
    assert core.merged_duplicates == naive.merged_duplicates
    assert core.core.clock.watermark == naive.watermark


@pytest.mark.parametrize("stopped", [False, True], ids=["in_one_go", "stopped_and_restored"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_core_does_what_the_plain_rules_say_in_sessions_of_hundreds_of_clicks(
    stopped: bool, seed: int
) -> None:
    dice = random.Random(seed)
    rules = replace(RULES, max_events=250, end_events=frozenset(), idle_after_ms=40)
    records = [
        record._replace(end=False, at=max(record.at, record.arrival - 25))
        for record in random_records(dice, most=700)
    ]
    naive = NaivePartition(rules).run(records)
    core = Stopped(rules, dice if stopped else None).run(records)
    assert core.outcomes == naive.outcomes
    assert core.closed == naive.closed

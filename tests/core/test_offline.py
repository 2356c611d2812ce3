"""Clicks of a whole log give the same sessions as record by record; where they ended is counted."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.offline import ArrivedClick, by_event_time, sessions_of
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome
from tests.core.partition import RULES, a_click
from tests.core.test_core_equals_naive import ALL_RULES, Stopped, random_records


@pytest.mark.parametrize("rules", ALL_RULES.values(), ids=ALL_RULES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_whole_log_gives_the_same_as_record_by_record(rules: SessionRules, seed: int) -> None:
    records = random_records(random.Random(seed), most=60)
    clicks = [
        ArrivedClick(
            record.visitor,
            a_click(record.at, record.event_id, "logout" if record.end else "page_view"),
            record.user,
            record.crawler,
            record.arrival,
        )
        for record in records
    ]
    outcomes: Counter[Outcome] = Counter()
    sessions = list(sessions_of(clicks, rules, outcomes, idle_closing=True))
    assert sessions == Stopped(rules).run(records).sessions
    assert outcomes.total() == len(records)
    assert outcomes[Outcome.JOINED] == sum(session.event_count for session in sessions)


def test_sessions_come_as_soon_as_they_close() -> None:
    taken = []

    def clicks():
        for at in (5000, 50_000):
            taken.append(at)
            yield ArrivedClick("ann", a_click(at, f"e{at}"), None, False, at)
        taken.append("end")

    sessions = sessions_of(clicks(), RULES)
    assert next(sessions).started_at == 5000
    assert taken == [5000, 50_000]


def test_without_arrival_times_a_click_arrives_at_the_latest_event_time_so_far() -> None:
    clicks = [("ann", a_click(at, str(at)), None, False) for at in (5000, 7000, 6000, 7000, 8000)]
    assert [click.arrival_ms for click in by_event_time(clicks)] == [5000, 7000, 7000, 7000, 8000]

"""Any order of arrival within the bound gives the oracle's sessions; every click is counted once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.digest import MultisetDigest
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.schemas.click import KEPT_CLICKS, Session
from tests.core.partition import a_click
from tests.core.test_core_equals_naive import ALL_RULES, random_records
from tests.oracle import Expected, expected_sessions

RULES = SessionRules(
    gap_ms=50,
    max_duration_ms=10**9,
    max_events=10**6,
    end_events=frozenset(),
    out_of_orderness_ms=40,
    idle_after_ms=25,
    max_future_ms=300,
    min_timestamp_ms=0,
)


class Sent(NamedTuple):
    """A click with what may happen to it on its way: a delay, and a copy with a delay of its own."""

    visitor: str
    at: int
    delay: int
    copy_delay: int | None


class Delivered(NamedTuple):
    visitor: str
    at: int
    event_id: str
    arrival: int

    @property
    def raw(self) -> dict[str, object]:
        """As the oracle reads it."""
        return {
            "visitor_id": self.visitor,
            "timestamp": self.at,
            "event_id": self.event_id,
            "event_type": "page_view",
        }


delays = st.integers(0, RULES.out_of_orderness_ms)
sent_clicks = st.lists(
    st.builds(Sent, st.sampled_from("abc"), st.integers(1000, 1600), delays, st.none() | delays),
    min_size=1,
    max_size=60,
)


def delivered(clicks: Sequence[Sent], shuffled: random.Random | None) -> list[Delivered]:
    """Clicks and copies in order of arrival; with `shuffled` their delays are dealt out anew."""
    log = []
    for number, click in enumerate(clicks):
        for delay in (click.delay, click.copy_delay):
            if delay is not None:
                delay = shuffled.randint(0, RULES.out_of_orderness_ms) if shuffled else delay
                log.append(Delivered(click.visitor, click.at, f"e{number}", click.at + delay))
    return sorted(log, key=lambda click: click.arrival)


def sessionized(log: Sequence[Delivered], *, idle_closing: bool) -> list[Session]:
    """All sessions of a log, none of whose clicks may be lost."""
    core = Sessionizer(RULES, idle_closing=idle_closing)
    closed: list[Session] = []
    for offset, click in enumerate(log):
        core.arrive(click.arrival)
        while core.has_due:
            closed += core.close_due(10)
        outcome = core.add(click.visitor, a_click(click.at, click.event_id), offset)
        assert outcome in (Outcome.JOINED, Outcome.DUPLICATE)
        while core.has_due:
            closed += core.close_due(10)
    closed += core.drain()
    assert core.merged_duplicates == 0
    return closed


def content_digest(sessions: Sequence[Session]) -> str:
    """Over everything that doesn't come from arrival times."""
    digest = MultisetDigest()
    digest.add(msgspec.json.encode(replace(each, closed_at=0)) for each in sessions)
    return digest.hexdigest()


def as_expected(session: Session) -> Expected:
    assert session.event_count <= KEPT_CLICKS
    return Expected(
        session.visitor_id,
        session.started_at,
        session.ended_at,
        session.event_count,
        tuple(click.event_id for click in session.clicks),
    )


@pytest.mark.parametrize("idle_closing", [False, True])
@settings(max_examples=200, deadline=None)
@given(clicks=sent_clicks)
def test_any_arrival_order_within_the_bound_gives_the_oracles_sessions(
    idle_closing: bool, clicks: list[Sent]
) -> None:
    log = delivered(clicks, None)
    sessions = sessionized(log, idle_closing=idle_closing)
    expected = expected_sessions([click.raw for click in log], RULES.gap_ms)
    assert sorted(map(as_expected, sessions)) == expected


@settings(max_examples=200, deadline=None)
@given(clicks=sent_clicks, seed=st.integers(0, 2**32))
def test_any_arrival_order_within_the_bound_gives_the_same_content_digest(
    clicks: list[Sent], seed: int
) -> None:
    one = sessionized(delivered(clicks, None), idle_closing=False)
    other = sessionized(delivered(clicks, random.Random(seed)), idle_closing=False)
    assert content_digest(one) == content_digest(other)


@pytest.mark.parametrize("rules", ALL_RULES.values(), ids=ALL_RULES)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_every_click_is_counted_once(rules: SessionRules, seed: int) -> None:
    dice = random.Random(seed)
    records = random_records(dice, most=80)
    core = Sessionizer(rules)
    ended = dict.fromkeys(Outcome, 0)
    closed = 0
    for taken, record in enumerate(records, start=1):
        core.arrive(record.arrival)
        while core.has_due:
            closed += sum(session.event_count for session in core.close_due(3))
        click = a_click(record.at, record.event_id, "logout" if record.end else "page_view")
        ended[core.add(record.visitor, click, taken)] += 1
        while core.has_due:
            closed += sum(session.event_count for session in core.close_due(3))
        assert core.open_events == sum(
            window.event_count for visitor in core.visitors() for window in core.open_sessions(visitor)
        )
        assert ended[Outcome.JOINED] == closed + core.open_events + core.merged_duplicates
    assert sum(ended.values()) == len(records)

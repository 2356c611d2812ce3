"""Real clickstreams, default rules: the core cuts them as the oracle does, one by one."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, TAIL_CLICKS, Click, Session
from tests.oracle import Expected, expected_sessions

DATA = Path(os.environ.get("CLICKS_DATA", "clicks-data-is-not-here"))
STREAMS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not (DATA / f"{name}.events.jsonl.gz").exists(), reason="no CLICKS_DATA"),
    )
    for name in ("shop1999", "trivago", "eshop2008")
]
NOW = 1_800_000_000_000
"""An arrival time long after all of these clicks, as when an old file is produced to a topic today."""


@cache
def raw_clicks(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.events.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


@cache
def expected(name: str) -> list[Expected]:
    return expected_sessions(raw_clicks(name))


def sessions_of(raw: Iterable[tuple[dict[str, Any], int]], idle_closing: bool = False) -> Iterator[Session]:
    core = Sessionizer(SessionRules(), idle_closing=idle_closing)
    for offset, (click, arrival) in enumerate(raw):
        core.arrive(arrival)
        while core.has_due:
            yield from core.close_due(500)
        kept = Click(click["timestamp"], click["event_id"], click["event_type"])
        assert core.add(click["visitor_id"], kept, offset) is Outcome.JOINED
        while core.has_due:
            yield from core.close_due(500)
    yield from core.drain()


def assert_equal_one_by_one(sessions: Iterable[Session], wanted: list[Expected]) -> None:
    by_start = sorted(sessions, key=lambda session: (session.visitor_id, session.started_at))
    assert len(by_start) == len(wanted)
    for session, each in zip(by_start, wanted, strict=True):
        ids = each.event_ids
        kept = ids if len(ids) <= KEPT_CLICKS else ids[:HEAD_CLICKS] + ids[-TAIL_CLICKS:]
        assert (session.visitor_id, session.started_at, session.ended_at, session.event_count) == each[:4]
        assert tuple(click.event_id for click in session.clicks) == kept


@pytest.mark.parametrize("name", STREAMS)
def test_clicks_that_arrive_as_they_happened_make_the_oracles_sessions(name: str) -> None:
    raw = ((click, click["timestamp"]) for click in raw_clicks(name))
    assert_equal_one_by_one(sessions_of(raw, idle_closing=True), expected(name))


@pytest.mark.parametrize("name", STREAMS)
def test_clicks_of_long_ago_that_arrive_today_make_the_oracles_sessions(name: str) -> None:
    raw = ((click, NOW + place // 50) for place, click in enumerate(raw_clicks(name)))
    assert_equal_one_by_one(sessions_of(raw, idle_closing=True), expected(name))


@pytest.mark.parametrize("name", [stream for stream in STREAMS if stream.values != ("shop1999",)])
def test_clicks_that_arrive_up_to_the_bound_late_in_any_order_make_the_oracles_sessions(name: str) -> None:
    dice, bound = random.Random(5), SessionRules().out_of_orderness_ms
    delayed = [(click, click["timestamp"] + dice.randint(0, bound)) for click in raw_clicks(name)]
    delayed.sort(key=lambda each: each[1])
    assert_equal_one_by_one(sessions_of(delayed, idle_closing=True), expected(name))

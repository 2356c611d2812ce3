"""A crowd keeps as many sessions open as it was asked for."""

from __future__ import annotations

from itertools import islice

import orjson

from benchmarks.core_state import BLOCK, Feed
from benchmarks.open_sessions import CLICKS, Crowd
from tests.oracle import expected_sessions


def test_as_many_sessions_as_asked_for_wait_with_all_their_clicks() -> None:
    feed = Feed(500)
    sessions = [feed.partition.sessionizer.open_sessions(v) for v in feed.partition.sessionizer.visitors()]
    assert all(len(of_visitor) == 1 for of_visitor in sessions)
    complete = sum(only.event_count == CLICKS for [only] in sessions)
    assert 490 <= complete <= 510
    assert len(sessions) < 1.15 * complete
    feed.take_in(BLOCK)
    assert abs(feed.partition.sessionizer.open_count - len(sessions)) <= 10
    counters = feed.partition.counters
    assert counters.late == counters.dead_lettered == counters.duplicates == 0


def test_every_visitor_has_one_session_of_eight_clicks_half_a_minute_apart() -> None:
    crowd = Crowd(200)
    clicks = [orjson.loads(value) for _, _, value in islice(crowd.clicks(), 2 * crowd.warm_up)]
    sessions = [session for session in expected_sessions(clicks) if session[3] == CLICKS]
    assert len(sessions) > 200
    assert all(200_000 <= ended_at - started_at <= 220_000 for _, started_at, ended_at, *_ in sessions)


def test_urls_and_queries_are_as_many_as_a_site_has() -> None:
    clicks = [orjson.loads(value) for _, _, value in islice(Crowd(100_000).clicks(), 200_000)]
    assert len({click["page_url"].partition("?")[0] for click in clicks}) > 20_000
    queries = [click["search_query"] for click in clicks if click["search_query"]]
    assert 0.28 < len(queries) / len(clicks) < 0.32
    assert len(set(queries)) > 0.9 * len(queries)
    assert len({click["event_id"] for click in clicks}) == len(clicks)


def test_a_crowd_goes_on_from_any_place() -> None:
    crowd = Crowd(100)
    whole = list(islice(crowd.clicks(), crowd.warm_up + 80))
    later = list(islice(crowd.clicks(crowd.warm_up), 80))
    assert later == list(islice(Crowd(100).clicks(crowd.warm_up), 80))
    assert later[0] in whole

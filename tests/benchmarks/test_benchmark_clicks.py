"""The day of clicks that programs are measured on."""

from __future__ import annotations

from itertools import islice

import orjson
import pytest

from benchmarks.clicks import DAY_MS, DAY_START_MS, GAP_MS, clicks, day, records, sentinels
from tests.oracle import expected_sessions


def test_a_day_knows_how_many_sessions_its_clicks_make() -> None:
    some = day(3000, visitors=100)
    parsed = [orjson.loads(value) for _, value in records(some)]
    assert len(parsed) == 3000
    assert some.sessions == len(expected_sessions(parsed, GAP_MS))
    assert 250 < some.sessions < 600


def test_a_short_day_is_the_beginning_of_a_long_one() -> None:
    short, long = day(1000, visitors=100), day(3000, visitors=100)
    assert (short.times == long.times[:1000]).all()


def test_the_key_is_the_visitor_and_the_size_that_of_real_clicks() -> None:
    key, value = next(clicks(10, visitors=100))
    assert orjson.loads(value)["visitor_id"].encode() == key
    assert 240 < len(value) < 300


def test_too_few_visitors_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least 5000"):
        day(5000, visitors=1)


def test_sentinels_come_later_than_any_session_of_the_day_can_end() -> None:
    first = next(islice((orjson.loads(value) for _, value in sentinels(2)), 1))
    assert first["timestamp"] > DAY_START_MS + DAY_MS + GAP_MS + 120_000

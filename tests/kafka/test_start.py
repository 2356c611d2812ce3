"""Where reading starts, as it is written on the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import UsageError
from streamer.kafka.start import Start, as_time, parse_start, parse_time

NEW_YEAR_2001_MS = 978_307_200_000
NOW_MS = NEW_YEAR_2001_MS + 1000


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("1970-01-01", 0),
        ("978307200000", NEW_YEAR_2001_MS),
        ("2001-01-01", NEW_YEAR_2001_MS),
        ("2001-01-01T00:00:00Z", NEW_YEAR_2001_MS),
        ("2001-01-01 00:00", NEW_YEAR_2001_MS),
        ("2001-01-01T01:00:00.250+01:00", NEW_YEAR_2001_MS + 250),
    ],
)
def test_start_is_a_word_or_a_time(text: str, start: Start) -> None:
    assert parse_start(text, NOW_MS) == start


@pytest.mark.parametrize(
    "text",
    [
        *("", "Earliest", "tomorrow", "-5", "2001-13-01", "٣"),
        *("2026", "202603", "20260301", "0", "1772323200", "9" * 16, "9" * 5000),
        *("1969-12-31T23:59:59.999Z", "0001-01-01", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"),
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    """A year, a date without hyphens, seconds aren't taken for milliseconds; to a broker -1 is the end."""
    with pytest.raises(UsageError, match=r"--from .*expected a time such as"):
        parse_start(text, NOW_MS)
    with pytest.raises(UsageError, match=r"--to .*expected a time such as"):
        parse_time(text, "--to")


def test_reading_begins_at_no_time_that_is_still_to_come() -> None:
    with pytest.raises(UsageError, match="--from 2001-01-02: lies in the future"):
        parse_start("2001-01-02", NOW_MS)
    assert parse_time("2001-01-02", "--to") == NEW_YEAR_2001_MS + 86_400_000


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_that_is_shown_can_be_asked_for(at_ms: int) -> None:
    assert parse_time(as_time(at_ms), "--from") == at_ms

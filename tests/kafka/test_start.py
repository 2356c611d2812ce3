"""Where reading starts, as it is written on the command line."""

from __future__ import annotations

import pytest

from streamer.errors import UsageError
from streamer.kafka.start import Start, parse_start

NEW_YEAR_2001_MS = 978_307_200_000


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("0", 0),
        ("978307200000", NEW_YEAR_2001_MS),
        ("2001-01-01", NEW_YEAR_2001_MS),
        ("2001-01-01T00:00:00Z", NEW_YEAR_2001_MS),
        ("2001-01-01 00:00", NEW_YEAR_2001_MS),
        ("2001-01-01T01:00:00.250+01:00", NEW_YEAR_2001_MS + 250),
    ],
)
def test_start_is_a_word_or_a_time(text: str, start: Start) -> None:
    assert parse_start(text) == start


@pytest.mark.parametrize("text", ["", "Earliest", "tomorrow", "-5", "2001-13-01", "٣"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"--from .*expected earliest, latest, a time"):
        parse_start(text)

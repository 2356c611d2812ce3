"""A file of clicks becomes the sessions that its lines make, and every line is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.pipeline.counters import ClickCounters
from streamer.replay.file_source import FileSessions, sessions_of_file
from streamer.settings import ClickSettings

T = 1_700_000_000_000
MINUTE = 60_000
RULES = SessionRules()


def line(at: int, **fields: Any) -> bytes:
    click = {"visitor_id": "ann", "timestamp": T + at, "event_type": "page_view", **fields}
    return json.dumps(click).encode() + b"\n"


def read(path: Path, *lines: bytes, rules: SessionRules = RULES) -> FileSessions:
    path.write_bytes(b"".join(lines))
    return sessions_of_file(path, rules)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clicks.jsonl"


def test_lines_become_sessions_as_the_core_cuts_them(path: Path) -> None:
    sessions, counters = read(
        path, line(0), line(30 * MINUTE), line(60 * MINUTE + 1), line(29 * MINUTE, visitor_id="bob")
    )
    assert [(s.visitor_id, s.started_at - T, s.ended_at - T, s.event_count) for s in sessions] == [
        ("bob", 29 * MINUTE, 29 * MINUTE, 1),
        ("ann", 0, 30 * MINUTE, 2),
        ("ann", 60 * MINUTE + 1, 60 * MINUTE + 1, 1),
    ]
    assert counters == ClickCounters(received=4, closed=4, sessions=3)


def test_gzipped_file_is_known_by_its_content(path: Path) -> None:
    plain, _ = read(path, line(0, event_id="a"), line(5, event_id="b"))
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert sessions_of_file(path, RULES).sessions == plain


def test_idleness_closes_nothing_for_a_file_has_no_arrival_times(path: Path) -> None:
    sessions, _ = read(path, line(0), line(29 * MINUTE, visitor_id="bob"), line(29 * MINUTE))
    assert [session.close_reason for session in sessions] == ["drain", "drain"]


def test_arrival_is_the_latest_event_time_so_far(path: Path) -> None:
    later = line(60 * MINUTE, visitor_id="bob")
    sessions, _ = read(path, line(0), later, line(40 * MINUTE, visitor_id="carl"))
    assert [session.closed_at - T for session in sessions] == [60 * MINUTE] * 3


def test_click_beyond_the_bound_whose_session_is_over_is_late(path: Path) -> None:
    sessions, counters = read(path, line(60 * MINUTE), line(0))
    assert len(sessions) == 1
    assert counters == ClickCounters(received=2, closed=1, sessions=1, late=1)


def test_sent_at_corrects_nothing_where_arrival_is_unknown(path: Path) -> None:
    [session], _ = read(path, line(0, sent_at=T + 99_000), line(1000))
    assert (session.started_at, session.ended_at) == (T, T + 1000)


def test_every_line_is_counted_whatever_is_in_it(path: Path) -> None:
    _, counters = read(
        path,
        line(0, event_id="x"),
        line(0, event_id="x"),
        line(1, consent=False),
        line(-T),
        b"not json\n",
        b'{"visitor_id": "ann"}\n',
        b"\n  \r\n",
        line(2).rstrip(),
    )
    assert counters == ClickCounters(
        received=7, closed=2, sessions=1, duplicates=1, filtered=1, dead_lettered=3
    )
    assert counters.open() == 0


def test_click_that_a_merge_finds_repeated_is_counted_as_duplicate(path: Path) -> None:
    clicks = [line(0, event_id="x"), line(31 * MINUTE, event_id="x"), line(15 * MINUTE)]
    rules = SessionRules(out_of_orderness_ms=60 * MINUTE)
    [session], counters = read(path, *clicks, rules=rules)
    assert session.event_count == 2
    assert counters == ClickCounters(received=3, closed=2, sessions=1, duplicates=1)


def test_click_without_event_id_is_named_by_its_place_as_in_a_replay(path: Path) -> None:
    [session], _ = read(path, line(0), b"\n", line(1), line(1))
    assert [click.event_id for click in session.clicks] == ["file-0-0", "file-0-1", "file-0-2"]


def test_line_beyond_the_allowed_size_is_refused(path: Path) -> None:
    path.write_bytes(line(0) + line(1, page_title="x" * 1000))
    counters = sessions_of_file(path, RULES, ClickSettings(max_bytes=500)).counters
    assert counters == ClickCounters(received=2, closed=1, sessions=1, dead_lettered=1)


def test_empty_file_has_no_sessions(path: Path) -> None:
    assert read(path) == ([], ClickCounters())


def test_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(UsageError, match=r"clicks\.jsonl: cannot be read \(No such file or directory\)"):
        sessions_of_file(path, RULES)


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-9], lambda packed: packed[:20] + b"?" + packed[21:]]
)
def test_damaged_gzip_file_is_said_to_be_damaged(path: Path, damage: Any) -> None:
    path.write_bytes(damage(gzip.compress(line(0) * 500)))
    with pytest.raises(UsageError, match=r"clicks\.jsonl: cannot be read \(damaged or cut off\)"):
        sessions_of_file(path, RULES)


def test_a_dumped_log_is_cut_by_its_arrival_times_partition_by_partition(path: Path) -> None:
    def record(number: int, offset: int, arrival: int, value: bytes) -> bytes:
        fields = {"partition": number, "offset": offset, "arrival": T + arrival, "value": value.decode()}
        return json.dumps(fields).encode() + b"\n"

    clicks = line(0, visitor_id="bob"), line(0), line(40 * MINUTE, visitor_id="carl")
    sessions, counters = read(
        path, record(1, 0, 0, clicks[0]), record(0, 0, 0, clicks[1]), record(0, 1, 40 * MINUTE, clicks[2])
    )
    assert [(s.visitor_id, s.close_reason) for s in sessions] == [
        ("ann", "idle"),
        ("carl", "drain"),
        ("bob", "drain"),
    ]
    assert counters == ClickCounters(received=3, closed=3, sessions=3)

"""A vendor's export in parquet is read as the JSON lines of the same events are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.replay.file_source import sessions_of_file
from streamer.rules_from_settings import session_rules
from streamer.settings import ClickSettings, load_settings
from tests.conftest import FreshSettings, RunStreamer
from tests.sources.events import GA4, NOON_MS
from tests.worker.live import committed, set_up

EVENTS = [
    {**GA4, "event_timestamp": (NOON_MS + 60_000 * number) * 1000, "user_pseudo_id": f"v{number % 2}"}
    for number in range(6)
]
"""INTEGER columns are numbers in parquet, and texts in BigQuery's JSON."""


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "events_20240307.parquet"
    pq.write_table(pa.Table.from_pylist(EVENTS), path)
    return path


def test_rows_become_the_sessions_that_lines_become(exported: Path, tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    lines.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    rules, ga4 = session_rules(load_settings(environ={})), ClickSettings(source="ga4")
    found, expected = (sessions_of_file(path, rules, ga4).sessions for path in (exported, lines))
    assert found == expected
    assert [session.event_count for session in found] == [3, 3]
    assert found[0].clicks[0].path == "/loans/mortgage"


def test_a_row_is_checked_as_a_line_is(exported: Path, run_streamer: RunStreamer) -> None:
    done = run_streamer("map", "--check", str(exported), "--source", "ga4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clicks"] == len(EVENTS)
    drafted = run_streamer("map", "--suggest", str(exported))
    assert 'visitor_id = "user_pseudo_id"' in drafted.stdout


def test_rows_are_produced_with_the_visitor_as_the_key(
    exported: Path, run_streamer: RunStreamer, fresh_settings: FreshSettings
) -> None:
    settings = fresh_settings()
    set_up(settings)
    done = run_streamer("produce", str(exported), "--source", "ga4", "--json", settings=settings)
    assert json.loads(done.stdout)["sent"] == len(EVENTS), done.stderr
    found: list[Any] = committed(settings, settings.topics.clicks).records
    by_time = sorted(found, key=lambda record: json.loads(record.value)["event_timestamp"])
    assert [record.key for record in by_time] == [b"v0", b"v1"] * 3
    assert json.loads(by_time[0].value)["event_params"] == EVENTS[0]["event_params"]


@pytest.mark.training
def test_a_bundle_is_trained_on_rows(exported: Path, run_streamer: RunStreamer) -> None:
    """Six clicks are too few to learn from; it gets as far as to know that."""
    out = str(exported.parent / "bundle")
    done = run_streamer("model", "train", str(exported), "--source", "ga4", "--out", out, timeout_s=120)
    assert "6 clicks: 6 in 2 sessions" in done.stderr

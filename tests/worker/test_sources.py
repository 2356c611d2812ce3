"""A worker on a topic with a vendor's events, and the same by a replay."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import orjson

from tests.conftest import FreshSettings, RunStreamer
from tests.sources.events import SEGMENT_PAGE
from tests.worker.live import Worker, committed, oracle, published, set_up, some_clicks


def test_events_of_segment_become_the_sessions_of_their_clicks(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    settings = fresh_settings({"clicks.source": "segment"})
    clicks = some_clicks(60, seed=5)
    events = [
        {
            **SEGMENT_PAGE,
            "anonymousId": click["visitor_id"],
            "messageId": click["event_id"],
            "originalTimestamp": "2019-01-01T00:00:00Z",
            "timestamp": as_text(click["timestamp"]),
        }
        for click in clicks
    ]
    identify = {**events[0], "type": "identify"}
    strange = {"type": "page", "event": "no one's"}
    sample = tmp_path / "events.jsonl"
    sample.write_bytes(b"\n".join(map(orjson.dumps, [*events, identify, strange])))
    set_up(settings)
    sent = run_streamer("produce", str(sample), "--json", settings=settings)
    assert json.loads(sent.stdout)["without_key"] == 1
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    dead = committed(settings, settings.topics.dlq)
    assert dead.headers("x-streamer-reason") == ["missing_field:visitor_id:segment"]
    verified = run_streamer("verify", "--json", settings=settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["sessions"]


def as_text(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat()

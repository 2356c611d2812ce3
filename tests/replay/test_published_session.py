"""`streamer explain SESSION_ID`: sessions that a real worker has published, found with their clicks."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import UsageError
from streamer.kafka.erase import erase
from streamer.models.bundle import default_bundle
from streamer.replay.published_session import SessionNotFoundError, find_record, replayed_session
from streamer.replay.time_range import TimeRange
from streamer.settings import Settings
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.conftest import _stop_workers  # noqa: F401, a fixture that works by being there
from tests.worker.live import Worker, as_messages, committed, send, set_up, some_clicks

ALWAYS = TimeRange()
COMPARED = ("session_id", "visitor_id", "started_at", "ended_at", "closed_at", "event_count", "close_reason")


def found(settings: Settings, session_id: str, published: TimeRange = ALWAYS) -> dict[str, Any]:
    async def both() -> Any:
        return await replayed_session(settings, await find_record(settings, session_id, published))

    session = asyncio.run(both())
    return {name: getattr(session, name) for name in COMPARED}


def test_a_published_session_is_found_with_its_clicks_and_explained(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    settings = fresh_settings({"topics.partitions": 2})
    set_up(settings)
    messages = as_messages(some_clicks(40, seed=5))
    # Two drains: only their records say that, and when, everything was closed.
    for part in (messages[: len(messages) // 2], messages[len(messages) // 2 :]):
        send(settings, part)
        assert Worker(settings, "--drain").end() == 0
    output = committed(settings, settings.topics.intents)
    records = dict(zip([each["session_id"] for each in output.decoded()], output.records, strict=True))
    published = {each["session_id"]: each for each in output.decoded()}
    reasons = {each["close_reason"]: session_id for session_id, each in published.items()}
    assert set(reasons) == {"gap", "drain"}
    for session_id in (*reasons.values(), *list(published)[:4]):
        record = published[session_id]
        assert found(settings, session_id) == {name: record[name] for name in COMPARED}

    session_id = reasons["gap"]
    at_ms = records[session_id].timestamp
    assert found(settings, session_id, TimeRange(at_ms, at_ms + 1))["session_id"] == session_id
    for other in (TimeRange(None, at_ms), TimeRange(at_ms + 60_000, None)):
        with pytest.raises(SessionNotFoundError, match="no record of session"):
            found(settings, session_id, other)
    with pytest.raises(UsageError, match="was cut under session rules"):
        found(fresh_settings({"topics.partitions": 2, "session.gap_s": 7}), session_id)

    result = run_streamer("explain", session_id, "--json", settings=settings)
    assert result.returncode == 0, result.stderr
    explained, record = json.loads(result.stdout), published[session_id]
    assert explained["top_intent"] == record["top_intent"]
    assert explained["abstain_reason"] == record["abstain_reason"]
    assert explained["explained"]["intent_id"] == record["intents"][0]["intent_id"]
    assert explained["explained"]["probability"] == record["intents"][0]["probability"]
    assert len(explained["clicks"]) == record["event_count"]

    other = Path(shutil.copytree(default_bundle(), tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"name": "other"}))
    refused = run_streamer("explain", session_id, "--bundle", str(other), settings=settings)
    assert refused.returncode == 2
    assert f"was labelled by {record['model_version']}, the bundle {other} is other@" in refused.stderr

    asyncio.run(erase(settings, [record["visitor_id"]], requested_at=0))
    gone = run_streamer("explain", session_id, settings=settings)
    assert gone.returncode == 1
    assert "retention or an erasure has deleted them" in gone.stderr


def test_an_unknown_session_and_a_broker_that_is_away_are_clear_messages(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings()
    set_up(settings)
    unknown = run_streamer("explain", "0" * 32, settings=settings)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert f"no record of session {'0' * 32} in {settings.topics.intents}" in unknown.stderr
    nowhere = {"kafka.bootstrap_servers": "127.0.0.1:1", "kafka.connect_timeout_s": 1}
    away = run_streamer("explain", "0" * 32, settings=fresh_settings(nowhere))
    assert (away.returncode, away.stdout) == (1, "")
    assert "127.0.0.1:1" in away.stderr

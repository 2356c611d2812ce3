"""A worker on a topic with a vendor's events, and the same by a replay."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from streamer.replay.rows import sessions_of_rows
from streamer.schemas.click import Click
from streamer.settings import Settings
from streamer.worker.changelog import SessionSnapshots, decode
from tests.conftest import FreshSettings, RunStreamer
from tests.sources.events import SEGMENT_PAGE
from tests.worker.live import (
    UNKEYED,
    Worker,
    as_messages,
    committed,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)


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


def test_heartbeats_of_matomo_change_what_sessions_say_and_a_replay_says_the_same(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    settings = fresh_settings(UNKEYED | {"clicks.source": "matomo"})
    clicks = some_clicks(40, seed=8)
    pages = [
        {
            "_id": click["visitor_id"],
            "url": click["page_url"],
            "cdt": as_text(click["timestamp"]),
            "pageId": click["event_id"],
        }
        for click in clicks
    ]
    beats = [
        {**page, "cdt": as_text(click["timestamp"] + 9000), "pageId": None, "ping": "1"}
        for click, page in zip(clicks, pages, strict=True)
    ]
    sample = tmp_path / "events.jsonl"
    sample.write_bytes(
        b"\n".join(orjson.dumps(each) for pair in zip(pages, beats, strict=True) for each in pair)
    )
    set_up(settings)
    run_streamer("produce", str(sample), settings=settings)
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    verified = run_streamer("verify", "--json", settings=settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    silent = tmp_path / "pages.jsonl"
    silent.write_bytes(b"\n".join(map(orjson.dumps, pages)))
    with_beats, without = [
        json.loads(run_streamer("replay", "--source", str(file), "--clicks", "matomo", "--json").stdout)
        for file in (sample, silent)
    ]
    assert with_beats["sessions"] == without["sessions"]
    assert with_beats["bundles"][0]["digests"] != without["bundles"][0]["digests"]


def test_cloudevents_in_binary_mode_become_the_sessions_of_their_clicks(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({"clicks.source": "cloudevents"})
    clicks = some_clicks(20, seed=6)
    set_up(settings)
    asyncio.run(send_in_binary_mode(settings, clicks))
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    verified = run_streamer("verify", "--json", settings=settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["sessions"]


async def send_in_binary_mode(settings: Settings, clicks: Sequence[dict[str, Any]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
        for click in clicks:
            attributes = {
                "specversion": "1.0",
                "id": click["event_id"],
                "source": "/web",
                "type": click["event_type"],
                "time": as_text(click["timestamp"]),
                "subject": click["visitor_id"],
            }
            headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
            data = {name: click[name] for name in ("page_type", "page_url")}
            key = click["visitor_id"].encode()
            await producer.send(settings.topics.clicks, orjson.dumps(data), key, headers=headers)
        await producer.flush()


def as_text(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat()


def test_what_is_kept_of_a_click_is_in_its_live_session_and_in_a_replay(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    keep = ["page_title", "utm_source", "properties.plan", "properties.size"]
    settings = fresh_settings({"clicks.keep": keep})
    clicks = [
        click
        | {
            "page_title": f" Rates \n of {click['event_id']}",
            "page_url": f"{click['page_url']}?utm_source=news+letter&utm_term=t",
            "properties": {"plan": "Gold", "size": number % 3, "age": "44"},
        }
        for number, click in enumerate(some_clicks(12, seed=8))
    ]
    expected = {
        click["event_id"]: {
            "page_title": f"Rates of {click['event_id']}",
            "properties.plan": "Gold",
            "properties.size": str(number % 3),
            "utm_source": "news letter",
        }
        for number, click in enumerate(clicks)
    }
    set_up(settings)
    send(settings, as_messages(clicks))
    worker = Worker(settings)
    wait_until(lambda: clicks[-1]["event_id"] in extras_of(live_sessions(settings)))
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    live = extras_of(live_sessions(settings))  # sessions that closed within a commit are in no state
    assert live == {event_id: expected[event_id] for event_id in live}
    worker = Worker(settings, "--drain")  # goes on from that state
    assert worker.end() == 0, worker.log
    verified = run_streamer("verify", "--json", settings=settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    out = tmp_path / "sessions.parquet"
    replayed = run_streamer("replay", "--out", str(out), settings=settings)
    assert replayed.returncode == 0, replayed.stderr
    assert extras_of([session.clicks for session in sessions_of_rows(out)]) == expected


def live_sessions(settings: Settings) -> list[list[Click]]:
    """The clicks of every session that a worker has written a state of."""
    entries = [decode(record.value) for record in committed(settings, settings.changelog).records]
    states = [entry for entry in entries if isinstance(entry, SessionSnapshots)]
    return [session.clicks() for state in states for session in state.sessions if session.event_count]


def extras_of(sessions: Sequence[Sequence[Click]]) -> dict[str, dict[str, str] | None]:
    """By event_id."""
    return {click.event_id: click.extras for clicks in sessions for click in clicks}

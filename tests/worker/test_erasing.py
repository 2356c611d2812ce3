"""Erasures and the limit on dead letters with a running worker and a real broker."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from streamer.kafka.erase import erase
from streamer.kafka.partitions import hash_of
from streamer.settings import Settings
from tests.conftest import FreshSettings
from tests.worker.live import (
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


def erase_now(settings: Settings, *visitors: str) -> None:
    asyncio.run(erase(settings, visitors, requested_at=0))


def latest(settings: Settings) -> dict[str, bytes | None]:
    """Visitor -> what a compacted topic keeps; None is a tombstone."""
    return {r.key.decode(): r.value for r in committed(settings, settings.topics.visitors).records}


def test_an_erased_visitor_goes_from_state_and_from_the_latest_intents(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    clicks = some_clicks(40, seed=21)
    half = len(clicks) // 2
    set_up(settings)
    send(settings, as_messages(clicks[:half]))
    worker = Worker(settings)
    wait_until(lambda: len(published(settings)) > 5)
    gone = {record[0] for record in published(settings)[:3]} | {clicks[half - 1]["visitor_id"]}
    erase_now(settings, *gone)
    wait_until(lambda: all(latest(settings).get(visitor, b"") is None for visitor in gone))
    worker.signal(signal.SIGKILL)
    worker.end()
    before = [session for session in published(settings) if session[0] in gone]
    erase_now(settings, "v-of-nobody")
    send(settings, as_messages([click for click in clicks[half:] if click["visitor_id"] not in gone]))
    assert Worker(settings, "--drain").end() == 0
    kept = [session for session in published(settings) if session[0] not in gone]
    assert kept == oracle([click for click in clicks if click["visitor_id"] not in gone])
    assert [session for session in published(settings) if session[0] in gone] == before


@pytest.mark.parametrize("killed_at", [None, "before_commit:6"])
def test_a_worker_that_was_away_drops_what_came_before_the_erasure_also_when_it_is_killed(
    fresh_settings: FreshSettings, killed_at: str | None
) -> None:
    settings = fresh_settings()
    clicks = some_clicks(20, seed=22)
    set_up(settings)
    send(settings, as_messages(clicks))
    erase_now(settings, "v1", "v2")
    if killed_at:
        assert Worker(settings, "--drain", armed=killed_at).end() == -signal.SIGKILL
    assert Worker(settings, "--drain").end() == 0
    assert published(settings) == oracle([c for c in clicks if c["visitor_id"] not in ("v1", "v2")])
    assert latest(settings)["v1"] is None
    time.sleep(0.05)
    send(settings, as_messages([{**clicks[-1], "visitor_id": "v1", "event_id": "again"}]))
    assert Worker(settings, "--drain").end() == 0
    assert [session[0] for session in published(settings)].count("v1") == 1


def test_a_run_of_dead_letters_beyond_the_limit_stops_the_worker_and_nothing_is_lost(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings({"dead_letters.max_run": 50})
    clicks = some_clicks(30, seed=23)
    set_up(settings)
    number = hash_of(b"bad") % settings.topics.partitions
    messages = as_messages(clicks)
    send(settings, [*messages[:100], *[(b"bad", b"{broken")] * 80, *messages[100:]])
    for _ in range(2):
        worker = Worker(settings)
        assert worker.end(60) == 1
        assert f"partition {number} offset" in worker.log
        assert "more than 50 records in a row are dead letters (dead_letters.max_run = 50)" in worker.log
        assert len(committed(settings, settings.topics.dlq).records) == 50
    more = settings.model_copy(
        update={"dead_letters": settings.dead_letters.model_copy(update={"max_run": 0})}
    )
    assert Worker(more, "--drain").end() == 0
    assert published(settings) == oracle(clicks)
    assert len(committed(settings, settings.topics.dlq).records) == 80

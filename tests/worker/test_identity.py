"""Customers' records from a running worker and a real broker, compared with the oracle of identity."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from streamer.kafka.erase import erase
from tests.conftest import FreshSettings
from tests.identity.live import ON, clicks_with_logins, differing_users, recent_clicks, say, users
from tests.worker.live import Worker, as_messages, committed, make_anew, published, send, set_up, wait_until
from tests.worker.live import oracle as expected_sessions


@pytest.mark.parametrize(
    "killed_at", [None, "stage_before_commit:2", "stage_between_outputs_and_marker:4", "stage_after_commit:3"]
)
def test_records_are_what_sessions_and_links_say(
    fresh_settings: FreshSettings, killed_at: str | None
) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    clicks = clicks_with_logins(30, seed=31)
    send(settings, as_messages(clicks))
    say(
        settings,
        {"visitor_id": "v1", "user_id": "c1", "action": "link", "confidence": 0.5, "source": "crm"},
        {"visitor_id": "v3", "user_id": "c1", "action": "link"},
        {"visitor_id": "v5", "user_id": "c5", "action": "link"},
        {"visitor_id": "v5", "user_id": "c5", "action": "unlink"},
        {"visitor_id": "v4", "user_id": "c9", "action": "link"},
    )
    if killed_at is not None:
        assert Worker(settings, "--drain", armed=killed_at).end() == -signal.SIGKILL
    assert Worker(settings, "--drain").end() == 0
    assert published(settings) == expected_sessions(clicks)
    assert differing_users(settings) == []
    assert "c5" not in users(settings)


def test_a_link_claims_and_an_unlink_takes_back_while_the_worker_runs(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    send(settings, as_messages(recent_clicks(6, seed=32)))
    assert Worker(settings, "--drain").end() == 0
    assert users(settings) == {}
    worker = Worker(settings)
    say(settings, {"visitor_id": "v1", "user_id": "c1", "action": "link", "confidence": 0.75})
    wait_until(lambda: "c1" in users(settings))
    assert users(settings)["c1"]["confidence"] == 0.75
    assert differing_users(settings) == []
    say(settings, {"visitor_id": "v1", "user_id": "c1", "action": "unlink"})
    wait_until(lambda: users(settings) == {})
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_an_erased_visitor_leaves_the_customers_record(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    send(settings, as_messages(recent_clicks(6, seed=33)))
    links = [{"visitor_id": visitor, "user_id": "c1", "action": "link"} for visitor in ("v1", "v2")]
    say(settings, *links, {"visitor_id": "v3", "user_id": "c3", "action": "link"})
    assert Worker(settings, "--drain").end() == 0
    assert users(settings)["c1"]["visitors"] == 2
    asyncio.run(erase(settings, ["v2", "v3"], requested_at=0))
    assert Worker(settings, "--drain").end() == 0
    assert users(settings).keys() == {"c1"}
    assert users(settings)["c1"]["visitors"] == 1
    assert differing_users(settings, "v2", "v3") == []


def test_a_link_that_is_none_is_a_dead_letter(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    say(settings, {"visitor_id": "v1", "user_id": "undefined", "action": "link"})
    assert Worker(settings, "--drain").end() == 0
    dead = committed(settings, settings.topics.dlq)
    assert dead.headers("x-streamer-reason") == ["no_user"] * settings.topics.partitions
    assert dead.headers("x-streamer-stage") == ["link"] * settings.topics.partitions


def test_a_customer_who_logs_in_has_a_record_before_the_session_ends(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    worker = Worker(settings)
    now = int(time.time() * 1000)
    clicks = [
        {"visitor_id": "v1", "timestamp": now + at, "event_id": f"e{at}", "event_type": "page_view"}
        for at in range(3)
    ]
    send(settings, as_messages([*clicks[:2], {**clicks[2], "event_type": "login", "user_id": "c1"}]))
    wait_until(lambda: "c1" in users(settings))
    record = users(settings)["c1"]
    assert not record["is_final"]
    assert (record["event_count"], record["attribution"], record["visitors"]) == (3, "login", 1)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert Worker(settings, "--drain").end() == 0
    assert users(settings)["c1"]["is_final"]
    assert users(settings)["c1"]["sessions"] == 1


def test_a_login_waits_for_no_commit_interval(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON | {"commit.interval_ms": 30_000})
    set_up(settings)
    worker = Worker(settings)
    now = int(time.time() * 1000)
    click = {"visitor_id": "v1", "timestamp": now, "event_type": "login", "user_id": "c1"}
    send(settings, as_messages([click]))
    wait_until(lambda: "c1" in users(settings), 20)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_stages_of_different_processes_give_what_one_process_gives(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    clicks = clicks_with_logins(30, seed=34)
    half = len(clicks) // 2
    send(settings, as_messages(clicks[:half]))
    say(settings, {"visitor_id": "v1", "user_id": "c1", "action": "link"})
    assert Worker(settings, "--stages", "clicks", "--drain").end() == 0
    assert users(settings) == {}
    of_clicks, of_identity = (Worker(settings, "--stages", stages) for stages in ("clicks", "identity"))
    of_identity.wait_for("shards_open")
    send(settings, as_messages(clicks[half:]))
    second = Worker(settings, "--stages", "identity")
    wait_until(lambda: "c0" in users(settings))
    second.wait_for("worker_starts")
    of_identity.signal(signal.SIGKILL)
    for worker in (of_clicks, second):
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.log
    assert Worker(settings, "--stages", "clicks", "--drain").end() == 0
    assert Worker(settings, "--stages", "identity", "--drain").end() == 0
    assert differing_users(settings) == []
    assert "c1" in users(settings)


def test_a_links_topic_that_was_made_anew_is_read_from_its_beginning(fresh_settings: FreshSettings) -> None:
    """Though it is longer by now than the state's position."""
    settings = fresh_settings(ON)
    set_up(settings)
    say(settings, {"visitor_id": "v0", "user_id": "c0", "action": "link"})
    assert Worker(settings, "--drain").end() == 0
    make_anew(settings, settings.topics.links)
    links = [{"visitor_id": f"v{n}", "user_id": f"c{n}", "action": "link"} for n in range(1, 4)]
    say(settings, *links)
    clicks = [click for click in recent_clicks(4, seed=6) if click["visitor_id"] != "v0"]
    send(settings, as_messages(clicks))
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert '"side_input_made_anew"' in worker.log
    assert sorted(users(settings)) == ["c1", "c2", "c3"]


def test_a_source_of_a_stage_that_was_made_anew_is_refused(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings(ON)
    set_up(settings)
    send(settings, as_messages(recent_clicks(4, seed=7)))
    assert Worker(settings, "--drain").end() == 0
    make_anew(settings, settings.topics.visitors)
    send(settings, as_messages(recent_clicks(40, seed=8)))
    worker = Worker(settings, "--drain")
    assert worker.end() == 1, worker.log
    assert f"topic {settings.topics.visitors} was deleted and created again" in worker.last_words

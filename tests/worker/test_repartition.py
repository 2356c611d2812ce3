"""Clicks that aren't keyed by visitor, through a running worker and a real broker."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from streamer.kafka.ports import free_ports
from streamer.pipeline.dead_letters import TOPIC_HEADER
from streamer.replay.digests import Kind, OutputDigests, hashes_of
from streamer.schemas import codec
from streamer.settings import Settings
from tests.conftest import FreshSettings, RunStreamer, names_of_its_own
from tests.worker.live import (
    UNKEYED,
    Worker,
    as_messages,
    as_unkeyed,
    ask,
    committed,
    metric,
    moved_to_now,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)

NOBODYS = b'{"timestamp": 1, "event_type": "page_view"}'
PASSED = "streamer_repartitioned_records_total"


def send_unkeyed(settings: Settings, clicks: Sequence[dict[str, Any]], seed: int) -> None:
    """The last one now."""
    send(settings, as_unkeyed(clicks, random.Random(seed), moved_to_now(clicks)))


def content(settings: Settings) -> dict[str, dict[str, Any]]:
    """The content digest of what was published, by kind of output."""
    digests = OutputDigests()
    kinds: dict[Kind, str] = {"embeddings": settings.topics.embeddings, "intents": settings.topics.intents}
    for kind, topic in kinds.items():
        for record in committed(settings, topic).records:
            digests.add_hashes(kind, hashes_of(kind, codec.body(record.value)))
    return {kind: {**of, "record": ""} for kind, of in digests.as_dict().items()}


@pytest.mark.parametrize("killed_at", [None, "stage_before_commit:5"])
def test_sessions_are_those_of_clicks_that_come_by_visitor(
    fresh_settings: FreshSettings, killed_at: str | None
) -> None:
    """The topic has CreateTime, as Kafka's default is."""
    clicks = some_clicks(60, seed=71)
    settings = fresh_settings(UNKEYED)
    by_visitor = fresh_settings(UNKEYED | names_of_its_own() | {"clicks.keyed": True})
    set_up(settings)
    send_unkeyed(settings, clicks, seed=71)
    send(settings, [(b"k", NOBODYS)] * 3)
    if killed_at is not None:
        killed = Worker(settings, armed=killed_at)
        assert killed.end() != 0
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    dead = committed(settings, settings.topics.dlq)
    assert [(record.key, record.value) for record in dead.records] == [(b"k", NOBODYS)] * 3
    assert dead.headers(TOPIC_HEADER) == [settings.topics.clicks] * 3
    if killed_at is None:
        set_up(by_visitor)
        send(by_visitor, as_messages(clicks))
        worker = Worker(by_visitor, "--drain")
        assert worker.end() == 0, worker.log
        assert content(settings) == content(by_visitor)


def test_workers_share_the_partitions_and_a_replay_gives_what_they_gave(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    port = free_ports(2)[0]
    settings = fresh_settings(UNKEYED | {"worker.metrics_port": port, "topics.partitions": 3})
    clicks = some_clicks(60, seed=72)
    before, after = clicks[: len(clicks) // 2], clicks[len(clicks) // 2 :]
    set_up(settings)
    worker = Worker(settings)
    send_unkeyed(settings, before, seed=72)
    wait_until(lambda: metric(port, PASSED, end="passed") == len(before) and ask(port, "/readyz")[0] == 200)
    assert metric(port, "streamer_stage_lag", stage="repartition") == 0
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    send_unkeyed(settings, after, seed=73)
    worker = Worker(settings, "--drain", "--processes", "2")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    verified = run_streamer("verify", settings=settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = run_streamer("doctor", settings=settings).stdout
    assert "written by visitor, as clicks.keyed = false says" in found
    assert f"group {settings.app.id}-repartition is 0 records behind" in found


def test_an_erasure_waits_until_what_has_arrived_is_written_by_visitor(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings(UNKEYED)
    set_up(settings)
    send(settings, [(None, value) for _, value in as_messages(some_clicks(3, seed=74))])
    refused = run_streamer("erase", "--visitor", "v1", "--timeout", "0", settings=settings)
    assert refused.returncode == 1
    assert "are not written by visitor yet" in refused.stderr
    assert not committed(settings, settings.topics.erasures).records

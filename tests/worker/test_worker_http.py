"""A running worker's health and metrics, as an orchestrator and a scraper ask for them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from streamer.kafka.ports import free_ports
from streamer.settings import Settings
from tests.client.records import a_message
from tests.conftest import FreshSettings
from tests.worker.live import (
    START_MS,
    Worker,
    as_messages,
    ask,
    metric,
    send,
    set_up,
    some_clicks,
    wait_until,
)
from tests.worker.test_identity import say

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_a_worker_tells_its_health_and_its_metrics(fresh_settings: FreshSettings) -> None:
    (port,) = free_ports(1)
    settings = fresh_settings({"worker.metrics_port": port})
    clicks = some_clicks(60, seed=21)
    set_up(settings)
    send(settings, [*as_messages(clicks), (b"k", b"no click")])
    worker = Worker(settings)
    wait_until(lambda: ask(port, "/readyz")[0] == 200)
    assert json.loads(ask(port, "/livez")[1]) == {"ok": True, "reasons": []}
    wait_until(lambda: metric(port, "streamer_clicks_total", end="received") == len(clicks) + 1)
    families = {f.name: f for f in text_string_to_metric_families(ask(port, "/metrics")[1])}
    assert metric(port, "streamer_consumer_lag") == 0
    assert metric(port, "streamer_clicks_total", end="dead_lettered") == 1
    ends = {s.labels["end"] for s in families["streamer_clicks"].samples}
    assert "open" not in ends  # it may fall, and a counter may not
    parts = sum(metric(port, "streamer_clicks_total", end=end) for end in ends - {"received"})
    assert parts + metric(port, "streamer_open_clicks") == len(clicks) + 1
    documented = DOCS.read_text()
    ours = [n for n in families if n.startswith("streamer_") and not n.endswith("_created")]
    assert [name for name in ours if f"`{name}" not in documented] == []
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log


def test_a_worker_tells_whose_sessions_they_are(fresh_settings: FreshSettings) -> None:
    (port,) = free_ports(1)
    settings = fresh_settings(
        {
            "worker.metrics_port": port,
            "topics.partitions": 1,
            "identity.enabled": True,
            "emit.on_login": False,
        }
    )
    set_up(settings)
    users = {"ann": "a", "bob": "null", "kiosk": "b"}
    hours = [
        ("ann", 0),
        ("bob", 0),
        ("cy", 0),
        ("kiosk", 0),
        ("last", 5),
    ]  # the last is still open at the end
    send(settings, as_messages([visit(visitor, hour, users.get(visitor)) for visitor, hour in hours]))
    say(settings, link("ann", "a", "link"), link("cy", "c", "link"), link("kiosk", "undefined", "link"))
    worker = Worker(settings)

    def sessions(attribution: str) -> float:
        return metric(port, "streamer_attributed_sessions", attribution=attribution)

    def events(event: str) -> float:
        return metric(port, "streamer_identity_events_total", event=event)

    wait_until(lambda: events("user_written") == 3)
    assert [sessions(way) for way in ("login", "link", "anonymous", "bots")] == [2, 1, 1, 0]
    assert (events("login_refused"), events("link_refused"), events("session_withdrawn")) == (1, 1, 0)
    assert events("link_taken") == 2
    assert metric(port, "streamer_dead_letters_total", reason="no_user") == 1
    assert metric(port, "streamer_stage_keys", stage="users") == 3
    say(settings, link("cy", "c", "unlink"))
    wait_until(lambda: events("user_removed") == 1)
    assert (events("session_withdrawn"), sessions("link"), sessions("anonymous")) == (1, 0, 2)
    for stage in ("attribution", "users"):
        wait_until(lambda stage=stage: metric(port, "streamer_stage_lag", stage=stage) == 0)
        assert metric(port, "streamer_stage_unrecovered_partitions", stage=stage) == 0
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log


def visit(visitor: str, hour: int, user: str | None) -> dict[str, Any]:
    return {
        "visitor_id": visitor,
        "timestamp": START_MS + hour * 3_600_000,
        "event_type": "page_view",
        "event_id": f"{visitor}-{hour}",
        "user_id": user,
    }


def link(visitor: str, user: str, action: str) -> dict[str, Any]:
    return {"visitor_id": visitor, "user_id": user, "action": action}


def test_partitions_that_wait_to_be_taken_over_have_a_lag_and_can_stall(
    fresh_settings: FreshSettings,
) -> None:
    (port,) = free_ports(1)
    settings = fresh_settings(
        {"worker.metrics_port": port, "worker.stalled_after_s": 4, "identity.enabled": True}
        | {"worker.ready_max_lag": 0}
    )
    clicks = some_clicks(20, seed=22)
    set_up(settings)
    send(settings, as_messages(clicks))
    Worker(settings, armed="after_fencing:timeout")
    wait_until(lambda: metric(port, "streamer_consumer_lag") == len(clicks))
    assert metric(port, "streamer_unrecovered_partitions") == settings.topics.partitions
    to_visitors = settings.topics.model_copy(update={"clicks": settings.topics.visitors})
    send(settings.model_copy(update={"topics": to_visitors}), [a_message("v1"), a_message("v2")])
    wait_until(lambda: metric(port, "streamer_stage_lag", stage="attribution") == 2)
    assert metric(port, "streamer_stage_unrecovered_partitions") == 2 * settings.topics.partitions
    assert "stage attribution: records behind" in ask(port, "/readyz")[1]
    wait_until(lambda: "stage attribution: no batch finished" in ask(port, "/livez")[1])
    assert ask(port, "/livez")[0] == 503
    assert f"{len(clicks)} records behind" in ask(port, "/livez")[1]


def test_a_transaction_that_somebody_leaves_open_is_named_and_is_no_reason_to_restart(
    fresh_settings: FreshSettings,
) -> None:
    (port,) = free_ports(1)
    settings = fresh_settings(
        {"worker.metrics_port": port, "worker.stalled_after_s": 2, "topics.partitions": 1}
    )
    set_up(settings)
    send(settings, as_messages(some_clicks(3, seed=23)))
    worker = Worker(settings)
    with open_transaction(settings, as_messages(some_clicks(1, seed=24))):
        send(settings, as_messages(some_clicks(3, seed=25)))
        wait_until(lambda: "a producer of clicks has had a transaction open" in ask(port, "/readyz")[1])
        worker.wait_for("held_up_by_an_open_transaction")
        assert metric(port, "streamer_consumer_lag") > 0
        assert ask(port, "/livez")[0] == 200
    wait_until(lambda: metric(port, "streamer_consumer_lag") == 0)
    wait_until(lambda: ask(port, "/readyz")[0] == 200)
    assert worker.log.count("held_up_by_an_open_transaction") == 1


@contextmanager
def open_transaction(settings: Settings, messages: Sequence[tuple[bytes, bytes]]) -> Iterator[None]:
    """Messages in a transaction that is open within, and then aborted."""
    with asyncio.Runner() as runner:
        producer = runner.run(_begun(settings, messages))
        try:
            yield
        finally:
            runner.run(producer.abort_transaction())
            runner.run(producer.stop())


async def _begun(settings: Settings, messages: Sequence[tuple[bytes, bytes]]) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id=f"etl-{settings.app.id}"
    )
    await producer.start()
    await producer.begin_transaction()
    for key, value in messages:
        await producer.send_and_wait(settings.topics.clicks, value, key=key)
    return producer


def test_a_taken_port_costs_the_health_checks_not_the_work(fresh_settings: FreshSettings) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        settings = fresh_settings({"worker.metrics_port": taken.getsockname()[1]})
        set_up(settings)
        worker = Worker(settings, "--drain")
        assert worker.end() == 0, worker.log
        assert "no_health_server" in worker.log

"""A running worker's health and metrics, as an orchestrator and a scraper ask for them."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from streamer.kafka.ports import free_ports
from tests.conftest import FreshSettings
from tests.worker.live import Worker, as_messages, ask, metric, send, set_up, some_clicks, wait_until

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
    parts = sum(metric(port, "streamer_clicks_total", end=end) for end in ends - {"received"})
    assert parts == len(clicks) + 1
    documented = DOCS.read_text()
    ours = [n for n in families if n.startswith("streamer_") and not n.endswith("_created")]
    assert [name for name in ours if f"`{name}" not in documented] == []
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log


def test_a_taken_port_costs_the_health_checks_not_the_work(fresh_settings: FreshSettings) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        settings = fresh_settings({"worker.metrics_port": taken.getsockname()[1]})
        set_up(settings)
        worker = Worker(settings, "--drain")
        assert worker.end() == 0, worker.log
        assert "no_health_server" in worker.log

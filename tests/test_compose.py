"""The compose file without containers: its commands and its environment, against the local Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.ports import free_ports
from streamer.kafka.topics import declared_topics
from streamer.settings import Settings
from tests import forks
from tests.conftest import RunStreamer

ROOT = Path(__file__).parent.parent
ADDRESSES = (
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "controller.quorum.voters",
    "log.dirs",
)
"""Properties that hold host names, ports and paths of a container."""


@pytest.fixture(scope="module")
def services() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.fixture(scope="module")
def compose_kafka(services: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker with the properties of the compose file, read as the image reads its environment."""
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in services["kafka"]["environment"].items()
    }
    own = {name: value for name, value in properties.items() if name not in ADDRESSES}
    with EmbeddedKafka(tmp_path_factory.mktemp("compose"), properties=own) as broker:
        yield broker


def environment(service: Any, broker: EmbeddedKafka) -> dict[str, str]:
    return {
        name: value.replace("kafka:9092", broker.bootstrap) for name, value in service["environment"].items()
    }


def test_topics_then_worker_and_look_ups_run_with_their_own_commands_and_settings(
    services: Any, compose_kafka: EmbeddedKafka, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    topics = services["topics"]
    done = run_streamer(*topics["command"], environ=environment(topics, compose_kafka))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(": created") == len(declared_topics(Settings()))

    of_worker, of_serve = free_ports(2)
    own = {"STREAMER_WORKER__METRICS_PORT": str(of_worker)}
    usual = services["worker"]["environment"]["STREAMER_WORKER__METRICS_PORT"]
    check = at_port(image_health_check(), usual, of_worker)
    run_until(services["worker"], compose_kafka, own, '"worker_started"', check, tmp_path)
    own = {"STREAMER_SERVE__PORT": str(of_serve), "STREAMER_SERVE__DRAIN_S": "0"}
    check = at_port(services["serve"]["healthcheck"]["test"], str(Settings().serve.port), of_serve)
    run_until(services["serve"], compose_kafka, own, '"ready"', check, tmp_path)


def image_health_check() -> list[str]:
    """The command of the Dockerfile, behind the word CMD."""
    (line,) = (
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("HEALTHCHECK")
    )
    return ["CMD", *json.loads(line.removeprefix("HEALTHCHECK CMD"))]


def at_port(check: list[str], usual: str, port: int) -> list[str]:
    """A health check by this Python, of another port than the one it has to name."""
    kind, python, *arguments = check
    assert (kind, python) == ("CMD", "python")
    assert f":{usual}/" in arguments[-1]
    return [sys.executable, *arguments[:-1], arguments[-1].replace(f":{usual}/", f":{port}/")]


def run_until(
    service: Any, broker: EmbeddedKafka, own: dict[str, str], event: str, check: list[str], folder: Path
) -> None:
    """Run a service until its log has this and it is healthy, end it, and see that it ends well."""
    assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode != 0
    process = subprocess.Popen(
        [sys.executable, "-c", forks.MAIN, *service["command"]],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | environment(service, broker) | own,
    )
    with process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if event in line:
                subprocess.run(check, check=True)
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, "".join(said)
    assert any(event in line for line in said)


def test_nothing_starts_before_what_it_needs(services: Any) -> None:
    assert services["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    assert services["worker"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    assert "healthcheck" in services["kafka"]


def test_broker_sends_containers_and_this_machine_to_addresses_of_their_own(services: Any) -> None:
    advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    containers = services["worker"]["environment"]["STREAMER_KAFKA__BOOTSTRAP_SERVERS"]
    [published] = services["kafka"]["ports"]
    assert f"INTERNAL://{containers}" in advertised
    assert f"CLIENT://{published.rpartition(':')[0]}" in advertised


def test_image_is_built_from_files_that_are_there_and_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert set(copied) == let_in
    assert all((ROOT / source).exists() for source in copied)

"""What three brokers make of the topics, and what is said when one of them is down."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.reach import refusals
from streamer.kafka.topics import create_topics, declared_topics
from streamer.operations.doctor import examine
from streamer.settings import Settings, load_settings
from tests.conftest import dotted, names_of_its_own
from tests.worker.live import alter_topic, drift_of, wait_until

OnCluster = Callable[..., Settings]


@pytest.fixture
def on_cluster(cluster: EmbeddedCluster) -> OnCluster:
    """Settings with topics of the test's own, created on the three brokers."""

    def create(**overrides: object) -> Settings:
        own = {"kafka.bootstrap_servers": cluster.bootstrap, "kafka.connect_timeout_s": 3}
        settings = load_settings(overrides=own | names_of_its_own() | dotted(overrides), environ={})
        asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
        return settings

    return create


def replicas_of(settings: Settings) -> set[tuple[int, int]]:
    """(replicas, in sync) of all partitions of the topics."""

    async def ask() -> set[tuple[int, int]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            topics = await admin.describe_topics([topic.name for topic in declared_topics(settings)])
        finally:
            await admin.close()
        return {(len(p["replicas"]), len(p["isr"])) for topic in topics for p in topic["partitions"]}

    return asyncio.run(ask())


def failures(settings: Settings) -> list[str]:
    """What the doctor fails, each with what to do."""
    findings = asyncio.run(examine(settings, lambda: 0))
    assert all(finding.todo for finding in findings if finding.state == "fail")
    return [finding.found for finding in findings if finding.state == "fail" and finding.check != "clock"]


@pytest.mark.parametrize(("replication", "replicas"), [("auto", 3), (1, 1), (2, 2), (-1, 3)])
def test_created_topics_have_the_replicas_that_are_set(
    on_cluster: OnCluster, replication: object, replicas: int
) -> None:
    settings = on_cluster(topics__replication=replication)
    assert replicas_of(settings) == {(replicas, replicas)}
    assert drift_of(settings) == []


def test_fewer_replicas_than_brokers_allow_are_drift(on_cluster: OnCluster) -> None:
    one = on_cluster(topics__replication=1)
    auto = one.model_copy(update={"topics": one.topics.model_copy(update={"replication": "auto"})})
    drift = drift_of(auto)
    assert {(each.what, each.found, each.expected) for each in drift} == {("number of replicas", "1", "3")}
    state = {auto.changelog, auto.attribution_changelog, auto.users_changelog}
    assert {each.topic for each in drift if each.consequence} == state


@pytest.mark.parametrize(
    ("config", "value"),
    [("retention_ms", "3600000"), ("cleanup_policy", "compact"), ("min_insync_replicas", "1")],
)
def test_doctor_fails_a_changelog_that_loses_state(on_cluster: OnCluster, config: str, value: str) -> None:
    settings = on_cluster()
    alter_topic(settings, settings.changelog, **{config: value})
    (said,) = [text for text in failures(settings) if f"is {value}" in text]
    assert said.startswith(f"{settings.changelog}: {config.replace('_', '.')}")
    assert "open sessions" in said


def test_a_broker_that_is_down_and_what_it_lacks_are_named(
    cluster: EmbeddedCluster, on_cluster: OnCluster
) -> None:
    settings = on_cluster()
    dead = cluster.brokers[1]
    address = dead.bootstrap
    dead.kill()
    try:
        wait_until(lambda: any(each.what == "broker 2" for each in drift_of(settings)), 30)
        said = failures(settings)
        while_down = on_cluster()
        lacking = replicas_of(while_down)
    finally:
        cluster.start()
    assert "cluster: broker 2 is down, expected up (its replicas fall behind)" in said
    assert any(text.startswith(f"no Kafka broker answers at {address}") for text in said)
    out_of_sync = f"{settings.changelog}: state of partitions 0, 1, 2, 3 is out of sync on broker 2"
    assert any(text.startswith(out_of_sync) for text in said)
    assert not any("number of replicas" in text for text in said)
    assert lacking == {(3, 2)}
    wait_until(lambda: drift_of(settings) == drift_of(while_down) == [], 30)


def test_a_frozen_broker_is_named_within_seconds(cluster: EmbeddedCluster, on_cluster: OnCluster) -> None:
    settings = on_cluster()
    frozen = cluster.brokers[2]
    frozen.signal(signal.SIGSTOP)
    try:
        [error] = asyncio.run(refusals(settings.kafka))
    finally:
        frozen.signal(signal.SIGCONT)
    assert f"no Kafka broker answers at {frozen.bootstrap} (no reply in time)" in str(error)

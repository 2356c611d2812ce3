"""A topic that isn't there is an error of every command, and none comes into being by asking for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from streamer.kafka.client import client_arguments
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import admin_client, create_topics, declared_topics
from streamer.settings import Settings, load_settings
from tests.conftest import RunStreamer, names_of_its_own


@pytest.fixture(scope="module")
def generous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker that makes a topic of any name that a client lets it make."""
    properties = {"auto.create.topics.enable": "true"}
    with EmbeddedKafka(tmp_path_factory.mktemp("generous"), properties=properties) as broker:
        yield broker


@pytest.fixture
def settings(generous: EmbeddedKafka) -> Settings:
    own = {"kafka.bootstrap_servers": generous.bootstrap, **names_of_its_own()}
    return load_settings(overrides=own, environ={})


def topics_of(settings: Settings) -> set[str]:
    async def listed() -> set[str]:
        async with admin_client(settings.kafka) as admin:
            return {str(name) for name in await admin.list_topics()}

    found = asyncio.run(listed())
    return found & {topic.name for topic in declared_topics(settings)}


@pytest.mark.parametrize(
    "command",
    [
        "worker --drain",
        "worker --processes 2",
        "produce -",
        "subscribe dlq --timeout 1",
        "dlq ls",
        "dlq replay --all",
        "erase --visitor v",
        "erase --visitor v --verify --dry-run",
        "replay --out -",
        "verify",
    ],
)
def test_a_command_that_needs_a_missing_topic_says_so(
    run_streamer: RunStreamer, settings: Settings, command: str
) -> None:
    done = run_streamer(*command.split(), settings=settings, stdin='{"visitor_id": "v"}\n')
    assert done.returncode == 1, done.stderr
    assert "there is no topic " in done.stderr
    assert "create it with 'streamer topics create'" in done.stderr
    assert topics_of(settings) == set()


@pytest.mark.parametrize("command", [("doctor",), ("topics", "check")])
def test_a_check_reports_it(run_streamer: RunStreamer, settings: Settings, command: tuple[str, ...]) -> None:
    done = run_streamer(*command, settings=settings)
    assert done.returncode == 1
    assert settings.topics.clicks in done.stdout + done.stderr
    assert topics_of(settings) == set()


def test_a_worker_needs_every_topic_that_it_will_write_to(
    run_streamer: RunStreamer, settings: Settings
) -> None:
    declared = declared_topics(settings)
    missing = {settings.topics.dlq, settings.topics.erasures, settings.changelog}
    asyncio.run(create_topics(settings.kafka, [topic for topic in declared if topic.name not in missing]))
    done = run_streamer("worker", settings=settings)
    assert done.returncode == 1
    told = done.stderr.partition("there is no topic ")[2].partition(" at ")[0]
    assert set(told.split(", ")) == missing


def test_no_client_makes_a_topic_by_asking(settings: Settings) -> None:
    async def ask() -> None:
        arguments = client_arguments(settings.kafka) | {"request_timeout_ms": 1000}
        consumer, producer = AIOKafkaConsumer(**arguments), AIOKafkaProducer(**arguments)
        await consumer.start()
        await producer.start()
        try:
            consumer.assign([TopicPartition(settings.topics.clicks, 0)])
            await consumer.getmany(timeout_ms=1000)
            with pytest.raises(UnknownTopicOrPartitionError):
                await producer.send_and_wait(settings.topics.intents, b"x")
        finally:
            await consumer.stop()
            await producer.stop()

    asyncio.run(ask())
    assert topics_of(settings) == set()

"""The topics that the product needs: declared here, created once, checked for drift.

All have as many partitions as the clicks topic, for an output is written to the partition number of
its source. All are LogAppendTime: the broker's clock is the product's arrival time, retention counts
from when a record was written, and a search by time finds a place in the log. Only what is declared
is compared; everything else is the cluster's own business, and nothing that exists is ever altered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from streamer.errors import StreamerError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments
from streamer.kafka.permissions import NotPermittedError, check_permissions
from streamer.kafka.reach import check_brokers
from streamer.settings import KafkaSettings, Settings

_MIB = 1024 * 1024
_DAY_MS = 24 * 60 * 60 * 1000
VISITOR_DAYS = 90
_LARGE_BYTES = 8 * _MIB
"""Room for a dead letter (a click with headers) and for the image of a session of many clicks."""
_CHANGELOG_SEGMENT_BYTES = 64 * _MIB
"""Trimming frees whole segments only."""
_VISIBLE_WITHIN_S = 15
_NO_ERROR, _NOT_PERMITTED, _EXISTS = 0, 29, 36


class TopicError(StreamerError):
    """A topic could not be created or looked at."""


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class Drift:
    """One difference between what is declared and what the cluster has."""

    topic: str
    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, expected {self.expected}"


def declared_topics(settings: Settings) -> list[Topic]:
    """The public topics, those of a shadow bundle if there is one, and the changelog of open sessions."""
    names = settings.topics
    create_time = settings.clicks.arrival == "create_time"
    clicks_bytes = max(_MIB, 2 * settings.clicks.max_bytes)
    large = {"max.message.bytes": str(max(_LARGE_BYTES, 2 * clicks_bytes))}
    configs = {
        names.clicks: {
            "max.message.bytes": str(clicks_bytes),
            **({"message.timestamp.type": "CreateTime"} if create_time else {}),
        },
        names.intents: {},
        names.embeddings: {},
        names.visitors: {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(VISITOR_DAYS * _DAY_MS),
        },
        names.late: large,
        names.dlq: large,
        **({names.shadow_intents: {}, names.shadow_embeddings: {}} if settings.model.shadow_bundle else {}),
        # Kept for ever: a replay has to know an erasure as long as the clicks that it covers are somewhere.
        names.erasures: {"cleanup.policy": "compact"},
        settings.changelog: {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "segment.bytes": str(_CHANGELOG_SEGMENT_BYTES),
            **large,
        },
    }
    everywhere = {"message.timestamp.type": "LogAppendTime"}
    if names.replication >= 3:
        everywhere["min.insync.replicas"] = "2"
    return [
        Topic(name, names.partitions, names.replication, everywhere | config)
        for name, config in configs.items()
    ]


async def create_topics(kafka: KafkaSettings, topics: list[Topic]) -> list[str]:
    """Creates what is missing and returns its names once the cluster shows them; leaves the rest alone.

    Raises `BrokerError`, `TopicError`, NotPermittedError.
    """
    from aiokafka.admin import NewTopic

    async with admin_client(kafka) as admin:
        existing = await _described(admin, topics)
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return []
        await check_permissions(kafka, [Acl("topic", topic.name, "Create") for topic in missing])
        wanted = [
            NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=dict(topic.config))
            for topic in missing
        ]
        response = await admin.create_topics(wanted)
        created = [name for name, code, text in response.topic_errors if _was_created(name, code, text)]
        await _wait_until_visible(admin, missing)
        return created


async def find_drift(kafka: KafkaSettings, topics: list[Topic]) -> list[Drift]:
    """Missing topics and declared properties that differ.

    Raises `BrokerError`, `TopicError`, NotPermittedError.
    """
    async with admin_client(kafka) as admin:
        await check_permissions(kafka, [Acl("topic", topic.name, "DescribeConfigs") for topic in topics])
        described = await _described(admin, topics)
        there = [topic for topic in topics if topic.name in described]
        configs = await _configs(admin, there) if there else {}
    drift = []
    for topic in topics:
        if topic.name not in described:
            drift.append(Drift(topic.name, "topic", "missing", "there"))
        else:
            drift += _compared(topic, described[topic.name], configs[topic.name])
    return drift


@dataclass(frozen=True)
class FoundTopic:
    name: str
    partitions: int
    max_message_bytes: int | None
    retention_ms: int | None
    """-1: for ever. These two are None for who may not read the topic's configuration."""


async def find_topic(kafka: KafkaSettings, name: str) -> FoundTopic:
    """What the cluster says of a topic. Raises `BrokerError`; `TopicError` if there is no such topic."""
    wanted = Topic(name, 0, 0, {"max.message.bytes": "", "retention.ms": ""})
    async with admin_client(kafka) as admin:
        described = await _described(admin, [wanted])
        if name not in described:
            raise TopicError(
                f"there is no topic {name} at {kafka.bootstrap_servers}: "
                "create it with 'streamer topics create', or check the topics settings"
            )
        try:
            found = (await _configs(admin, [wanted]))[name]
        except NotPermittedError:
            return FoundTopic(name, len(described[name]), None, None)
    return FoundTopic(name, len(described[name]), int(found["max.message.bytes"]), int(found["retention.ms"]))


@asynccontextmanager
async def admin_client(kafka: KafkaSettings) -> AsyncIterator[Any]:
    """A started aiokafka admin client; raises `BrokerError` with a clear reason instead of its own."""
    from aiokafka.admin import AIOKafkaAdminClient

    await check_brokers(kafka)
    admin = AIOKafkaAdminClient(**client_arguments(kafka))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _was_created(name: str, code: int, text: str | None) -> bool:
    if code not in (_NO_ERROR, _EXISTS):
        raise TopicError(f"the cluster refused to create {name}: {text or _error_name(code)}")
    return code == _NO_ERROR  # otherwise somebody else was quicker


async def _wait_until_visible(admin: Any, topics: list[Topic]) -> None:
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while len(await _described(admin, topics)) < len(topics):
        if time.monotonic() > deadline:
            raise TopicError(f"created topics are not visible after {_VISIBLE_WITHIN_S} s")
        await asyncio.sleep(0.05)


async def _described(admin: Any, topics: list[Topic]) -> dict[str, list[dict[str, Any]]]:
    """Topic -> its partitions. All topics are listed: asking by name can create a topic on some clusters."""
    names = {topic.name for topic in topics}
    return {
        found["topic"]: found["partitions"]
        for found in await admin.describe_topics()
        if found["topic"] in names and found["error_code"] == _NO_ERROR
    }


async def _configs(admin: Any, topics: list[Topic]) -> dict[str, dict[str, str]]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, dict.fromkeys(topic.config)) for topic in topics
    ]
    [response] = await admin.describe_configs(resources)
    configs = {}
    for code, text, _, name, entries in response.resources:
        if code != _NO_ERROR:
            kind = NotPermittedError if code == _NOT_PERMITTED else TopicError
            raise kind(f"can't read the configuration of {name}: {text or _error_name(code)}")
        configs[name] = {entry[0]: str(entry[1]) for entry in entries}
    return configs


def _compared(topic: Topic, partitions: list[dict[str, Any]], config: Mapping[str, str]) -> list[Drift]:
    drift = []
    if len(partitions) != topic.partitions:
        drift.append(Drift(topic.name, "number of partitions", str(len(partitions)), str(topic.partitions)))
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    if replicas != topic.replication:
        drift.append(Drift(topic.name, "number of replicas", str(replicas), str(topic.replication)))
    for key, expected in topic.config.items():
        found = config.get(key, "not set")
        if sorted(found.split(",")) != sorted(expected.split(",")):
            drift.append(Drift(topic.name, key, found, expected))
    return drift


def _error_name(code: int) -> str:
    from aiokafka.errors import for_code

    return str(for_code(code).__name__)

"""The topics that the product needs: declared here, created once, checked for drift.

All have as many partitions as the clicks topic, for an output is written to the partition number of
its source. All are LogAppendTime: the broker's clock is the product's arrival time, retention counts
from when a record was written, and a search by time finds a place in the log. Only what is declared
is compared, and whether its replicas are alive; everything else is the cluster's own business, and
nothing that exists is ever altered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from streamer.errors import StreamerError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments
from streamer.kafka.permissions import NotPermittedError, check_permissions
from streamer.kafka.reach import check_brokers
from streamer.settings import KafkaSettings, Replication, Settings

_MIB = 1024 * 1024
_DAY_MS = 24 * 60 * 60 * 1000
VISITOR_DAYS = 90
_LOOKUP_DAYS = 30
"""So long is known what was answered about whom, by those who have the key."""
_LARGE_BYTES = 8 * _MIB
"""Room for a dead letter (a click with headers) and for the image of a session of many clicks."""
_CHANGELOG_SEGMENT_BYTES = 64 * _MIB
"""Trimming frees whole segments only."""
_IDENTITY_LAG_DAYS = 7
"""How far behind an identity stage may be without missing a record."""
_AUTO_REPLICAS = 3
_BY_CLUSTER = -1
_TIMESTAMP_TYPE = "message.timestamp.type"
_MIN_IN_SYNC = "min.insync.replicas"
_INTERNAL_TOPICS = ("__consumer_offsets", "__transaction_state")
_NO_LEADER = -1
_VISIBLE_WITHIN_S = 15
_ALTER = "alter the topic or the settings"
_NO_ERROR, _NOT_PERMITTED, _EXISTS = 0, 29, 36


class TopicError(StreamerError):
    """A topic could not be created or looked at."""


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int
    replication: Replication
    config: Mapping[str, str]
    holds: str = ""
    """What is lost with its records, for it can't be read again from anywhere; empty: nothing."""

    is_source: bool = False
    """Whether it holds clicks: each other topic needs as many partitions, but for those by user."""
    keeps_partitions: bool = False
    """Whether another number of partitions than declared is fine: its keys are users, or it is others'."""

    def replicas(self, brokers: int) -> int:
        """How many it gets on so many brokers; -1: the cluster decides."""
        return min(_AUTO_REPLICAS, brokers) if self.replication == "auto" else self.replication

    def config_for(self, replicas: int) -> dict[str, str]:
        """Its configuration with so many replicas: all but one in sync are enough, two of three or more."""
        if replicas == _BY_CLUSTER:
            return dict(self.config)
        return {_MIN_IN_SYNC: str(min(2, max(1, replicas - 1))), **self.config}


@dataclass(frozen=True)
class Drift:
    """One difference between what is declared and what the cluster has."""

    topic: str
    what: str
    found: str
    expected: str
    consequence: str = ""
    """What goes wrong because of it; empty if nothing does."""
    todo: str = _ALTER

    def __str__(self) -> str:
        text = f"{self.topic}: {self.what} is {self.found}, expected {self.expected}"
        return f"{text} ({self.consequence})" if self.consequence else text


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
        **(_of_repartition(settings, clicks_bytes) if not settings.clicks.keyed else {}),
        names.intents: {},
        names.embeddings: {},
        names.visitors: {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(VISITOR_DAYS * _DAY_MS),
            # A visitor's sessions before the latest are still there for an identity stage that is behind.
            "min.compaction.lag.ms": str(_IDENTITY_LAG_DAYS * _DAY_MS),
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
        **(_of_identity(settings) if settings.identity.enabled else {}),
        **{name: {"retention.ms": str(_LOOKUP_DAYS * _DAY_MS)} for name in settings.of_lookups},
    }
    everywhere = {"message.timestamp.type": "LogAppendTime"}
    by_others = () if settings.clicks.keyed else (names.clicks,)  # whose times are no arrival clock
    holds = {
        settings.changelog: "open sessions",
        settings.attribution_changelog: "ties of visitors",
        settings.users_changelog: "sessions of customers",
    }
    return [
        Topic(
            name,
            names.partitions,
            names.replication,
            config if name in by_others else everywhere | config,
            holds.get(name, ""),
            name in (names.clicks, settings.session_source),
            name in (*settings.by_user, *settings.of_lookups, *by_others),
        )
        for name, config in configs.items()
    ]


def _of_repartition(settings: Settings, clicks_bytes: int) -> dict[str, dict[str, str]]:
    return {
        # Room for the key, and for the header with the first arrival, beside a click of the largest size.
        settings.clicks_by_visitor: {"cleanup.policy": "delete", "max.message.bytes": str(2 * clicks_bytes)},
        settings.repartition_changelog: {
            "cleanup.policy": "compact",
            "segment.bytes": str(_CHANGELOG_SEGMENT_BYTES),
        },
    }


def _of_identity(settings: Settings) -> dict[str, dict[str, str]]:
    identity, large = settings.identity, {"max.message.bytes": str(_LARGE_BYTES)}
    link_days = math.ceil(identity.lookback_days + identity.history_days)
    changelog = {"cleanup.policy": "compact", "segment.bytes": str(_CHANGELOG_SEGMENT_BYTES), **large}
    return {
        # A replay has to know the ties of every session that it reads.
        settings.topics.links: {"cleanup.policy": "delete", "retention.ms": str(link_days * _DAY_MS)},
        settings.topics.users: {"cleanup.policy": "compact", **large},
        settings.user_changes: {
            "cleanup.policy": "delete",
            "retention.ms": str(_IDENTITY_LAG_DAYS * _DAY_MS),
        },
        settings.attribution_changelog: changelog,
        settings.users_changelog: changelog,
    }


async def create_topics(kafka: KafkaSettings, topics: list[Topic]) -> list[str]:
    """Creates what is missing and returns its names once the cluster shows them; leaves the rest alone.

    Raises `BrokerError`, `TopicError`, NotPermittedError.
    """
    from aiokafka.admin import NewTopic

    async with admin_client(kafka) as admin:
        cluster = await _described(admin)
        missing = [topic for topic in topics if topic.name not in cluster.topics]
        if not missing:
            return []
        await check_permissions(kafka, [Acl("topic", topic.name, "Create") for topic in missing])
        replicas = [topic.replicas(len(cluster.known)) for topic in missing]
        wanted = [
            NewTopic(
                topic.name,
                topic.partitions,
                count,
                # aiokafka takes -1 only beside assignments; the cluster takes none for its own choice.
                replica_assignments={} if count == _BY_CLUSTER else None,
                topic_configs=topic.config_for(count),
            )
            for topic, count in zip(missing, replicas, strict=True)
        ]
        response = await admin.create_topics(wanted)
        created = [name for name, code, text in response.topic_errors if _was_created(name, code, text)]
        # One that somebody else created just now may have fewer partitions than declared.
        wanted_of = {topic.name: topic.partitions if topic.name in created else 1 for topic in missing}
        await _wait_until_visible(admin, wanted_of)
        return created


async def too_few_partitions(kafka: KafkaSettings, topics: list[Topic]) -> dict[str, tuple[int, int]]:
    """Those that have fewer than declared, by name: how many they have, and how many are declared.

    Raises `BrokerError`, `TopicError`; NotPermittedError if this client may not add the others.
    """
    async with admin_client(kafka) as admin:
        found = (await _described(admin)).topics
    missing = [topic.name for topic in topics if topic.name not in found]
    if missing:
        raise _no_topic(kafka, ", ".join(missing))
    fewer = [topic for topic in topics if len(found[topic.name]) < topic.partitions]
    await check_permissions(kafka, [Acl("topic", topic.name, "Alter") for topic in fewer])
    return {topic.name: (len(found[topic.name]), topic.partitions) for topic in fewer}


async def grow_topics(kafka: KafkaSettings, topics: list[Topic]) -> dict[str, tuple[int, int]]:
    """Adds partitions to topics that have fewer than declared, and returns once the cluster shows them.

    The result is the numbers of partitions before and after, by topic.

    Raises `BrokerError`, `TopicError`, NotPermittedError.
    """
    from aiokafka.admin import NewPartitions
    from aiokafka.errors import KafkaError

    fewer = await too_few_partitions(kafka, topics)
    async with admin_client(kafka) as admin:
        for name, (_, wanted) in fewer.items():
            try:
                await admin.create_partitions({name: NewPartitions(wanted)})
            except KafkaError as error:
                raise TopicError(f"the cluster refused to add partitions to {name}: {error}") from None
        await _wait_until_visible(admin, {name: wanted for name, (_, wanted) in fewer.items()})
    return fewer


async def find_drift(kafka: KafkaSettings, topics: list[Topic]) -> list[Drift]:
    """Missing topics, declared properties that differ, brokers that are down and replicas out of sync.

    Raises `BrokerError`, `TopicError`, NotPermittedError.
    """
    async with admin_client(kafka) as admin:
        await check_permissions(kafka, [Acl("topic", topic.name, "DescribeConfigs") for topic in topics])
        cluster = await _described(admin)
        there = [topic for topic in topics if topic.name in cluster.topics]
        configs = await _configs(admin, there) if there else {}
    needed = max((len(cluster.topics[topic.name]) for topic in there if topic.is_source), default=0)
    drift = list(_brokers_down(cluster, there))
    for topic in topics:
        if topic.name not in cluster.topics:
            drift.append(_missing(topic))
        else:
            drift += _compared(topic, cluster, configs[topic.name], needed)
            drift += _out_of_sync(topic.name, cluster)
    return drift


@dataclass(frozen=True)
class FoundTopic:
    name: str
    partitions: int
    max_message_bytes: int | None
    retention_ms: int | None
    """-1: for ever."""
    timestamp_type: str | None
    """`LogAppendTime` or `CreateTime`. This and the two before are None where the topic's configuration may
    not be read."""


async def find_topic(kafka: KafkaSettings, name: str) -> FoundTopic:
    """What the cluster says of a topic. Raises `BrokerError`; `TopicError` if there is no such topic."""
    wanted = Topic(name, 0, 0, dict.fromkeys(("max.message.bytes", "retention.ms", _TIMESTAMP_TYPE), ""))
    async with admin_client(kafka) as admin:
        described = (await _described(admin)).topics
        if name not in described:
            raise _no_topic(kafka, name)
        try:
            found = (await _configs(admin, [wanted]))[name]
        except NotPermittedError:
            return FoundTopic(name, len(described[name]), None, None, None)
    return FoundTopic(
        name,
        len(described[name]),
        int(found["max.message.bytes"]),
        int(found["retention.ms"]),
        found[_TIMESTAMP_TYPE],
    )


def _no_topic(kafka: KafkaSettings, names: str) -> TopicError:
    return TopicError(
        f"there is no topic {names} at {kafka.bootstrap_servers}: "
        "create it with 'streamer topics create', or check the topics settings"
    )


@asynccontextmanager
async def admin_client(kafka: KafkaSettings) -> AsyncIterator[Any]:
    """A started admin client; raises `BrokerError` with a clear reason instead of its own."""
    from streamer.kafka.aiokafka_overrides.admin import AdminClient

    await check_brokers(kafka)
    admin = AdminClient(**client_arguments(kafka))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _was_created(name: str, code: int, text: str | None) -> bool:
    if code not in (_NO_ERROR, _EXISTS):
        raise TopicError(f"the cluster refused to create {name}: {text or _error_name(code)}")
    return code == _NO_ERROR  # otherwise somebody else was quicker


async def _wait_until_visible(admin: Any, wanted: Mapping[str, int]) -> None:
    """Until every broker knows at least as many partitions of each topic."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while True:
        known = await admin.partitions_everywhere()
        unseen = [name for name, partitions in wanted.items() if known.get(name, 0) < partitions]
        if not unseen:
            return
        if time.monotonic() > deadline:
            raise TopicError(
                f"created partitions are not visible after {_VISIBLE_WITHIN_S} s: {', '.join(unseen)}"
            )
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class _Cluster:
    alive: frozenset[int]
    """Brokers by their `node.id`."""
    topics: Mapping[str, list[dict[str, Any]]]
    """The partitions of every topic that can be seen."""

    @property
    def known(self) -> frozenset[int]:
        """Brokers that are alive or have a replica: one that is down is a broker too."""
        return self.alive | self.holders(self.topics)

    def holders(self, topics: Iterable[str]) -> frozenset[int]:
        """Brokers that have a replica of these topics."""
        partitions = chain.from_iterable(self.topics.get(name, ()) for name in topics)
        return frozenset(broker for partition in partitions for broker in partition["replicas"])


async def _described(admin: Any) -> _Cluster:
    """All topics are listed: asking by name can create a topic on some clusters."""
    brokers = (await admin.describe_cluster())["brokers"]
    topics = await admin.describe_topics()
    return _Cluster(
        frozenset(broker["node_id"] for broker in brokers),
        {each["topic"]: each["partitions"] for each in topics if each["error_code"] == _NO_ERROR},
    )


async def _configs(admin: Any, topics: list[Topic]) -> dict[str, dict[str, str]]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, dict.fromkeys([*topic.config, _MIN_IN_SYNC]))
        for topic in topics
    ]
    [response] = await admin.describe_configs(resources)
    configs = {}
    for code, text, _, name, entries in response.resources:
        if code != _NO_ERROR:
            kind = NotPermittedError if code == _NOT_PERMITTED else TopicError
            raise kind(f"can't read the configuration of {name}: {text or _error_name(code)}")
        configs[name] = {entry[0]: str(entry[1]) for entry in entries}
    return configs


def _missing(topic: Topic) -> Drift:
    consequence, todo = "the worker can't run without it", "create it with 'streamer topics create'"
    return Drift(topic.name, "topic", "missing", "there", consequence, todo)


def _compared(topic: Topic, cluster: _Cluster, config: Mapping[str, str], needed: int) -> Iterator[Drift]:
    """`needed`: the partitions of the clicks topic, without as many of which nothing can be written to it."""
    partitions = cluster.topics[topic.name]
    if len(partitions) != topic.partitions and not topic.keeps_partitions:
        consequence = "the worker refuses to start" if len(partitions) < needed else ""
        found, expected = str(len(partitions)), str(topic.partitions)
        yield Drift(topic.name, "number of partitions", found, expected, consequence, _MORE_PARTITIONS)
    replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    wanted = topic.replicas(len(cluster.known))
    if wanted != _BY_CLUSTER and (replicas < wanted or (replicas > wanted and topic.replication != "auto")):
        yield _drift(topic, "number of replicas", str(replicas), str(wanted))
    for key, expected in topic.config_for(_BY_CLUSTER if wanted == _BY_CLUSTER else replicas).items():
        found = config.get(key, "not set")
        if sorted(found.split(",")) != sorted(expected.split(",")):
            yield _drift(topic, key, found, expected)


def _drift(topic: Topic, what: str, found: str, expected: str) -> Drift:
    consequence = _STOPS.get(what, "")
    if topic.holds and what in _LOSES_STATE:
        consequence = f"{topic.holds} {_LOSES_STATE[what]}"
    return Drift(topic.name, what, found, expected, consequence)


_MORE_PARTITIONS = "see 'More partitions' in docs/operations.md"
_STOPS = {
    "message.timestamp.type": "the worker refuses to go on",
    "cleanup.policy": "records are removed that are still needed",
}
_LOSES_STATE = {
    "cleanup.policy": "are lost",
    "retention.ms": "are lost",
    "retention.bytes": "are lost",
    "number of replicas": "are lost with a broker's disk",
    _MIN_IN_SYNC: "may be lost, or commits stop, with one broker",
}


def _brokers_down(cluster: _Cluster, topics: list[Topic]) -> Iterator[Drift]:
    """Brokers that have replicas of these topics or of Kafka's own, and are not there."""
    needed = cluster.holders([*(topic.name for topic in topics), *_INTERNAL_TOPICS])
    for broker in sorted(needed - cluster.alive):
        consequence, todo = "its replicas fall behind", "start it again, or give its replicas to others"
        yield Drift("cluster", f"broker {broker}", "down", "up", consequence, todo)


def _out_of_sync(topic: str, cluster: _Cluster) -> Iterator[Drift]:
    """Partitions without a leader, and those that have fallen behind on a broker."""
    behind: dict[str, list[int]] = {}
    for partition in cluster.topics[topic]:
        if partition["leader"] == _NO_LEADER:
            behind.setdefault("without a leader", []).append(partition["partition"])
        for broker in set(partition["replicas"]) - set(partition["isr"]):
            behind.setdefault(f"out of sync on broker {broker}", []).append(partition["partition"])
    for found, numbers in sorted(behind.items()):
        which = f"state of partitions {', '.join(map(str, sorted(numbers)))}"
        yield Drift(
            topic, which, found, "in sync", "one more failure may stop it", "look at the broker's log"
        )


def _error_name(code: int) -> str:
    from aiokafka.errors import for_code

    return str(for_code(code).__name__)

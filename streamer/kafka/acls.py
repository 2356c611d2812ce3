"""The permissions that each kind of client needs and no more: as data, and as commands for Kafka's own tool.

`worker`, `producer`, `consumer`, `server` (of look-ups and copies) and `viewer` (of the live page) run the
product; `linker` says who a visitor is; `replay` reads the log again; `admin` is whoever makes the topics,
looks after dead letters and erases visitors and customers. Read and Write include Describe.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from streamer.settings import Settings

Role = Literal["worker", "producer", "consumer", "server", "viewer", "linker", "replay", "admin"]
ROLES: tuple[Role, ...] = (
    "worker",
    "producer",
    "consumer",
    "server",
    "viewer",
    "linker",
    "replay",
    "admin",
)
Resource = Literal["topic", "group", "transactional-id"]


@dataclass(frozen=True)
class Acl:
    """One permission; `pattern` says whether `name` is the whole name or how it begins."""

    resource: Resource
    name: str
    operation: str
    """As Kafka's tool spells it: Read, Write, Create, Delete, Alter, Describe, DescribeConfigs."""
    pattern: Literal["literal", "prefixed"] = "literal"

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.pattern == 'prefixed' else ''}"


def acls_of(role: Role, settings: Settings) -> list[Acl]:
    """Everything that a client of this role needs with these settings."""
    return list(_OF_ROLE[role](settings))


def _worker(settings: Settings) -> Iterator[Acl]:
    topics = settings.topics
    yield from _topics("Read", topics.clicks, topics.erasures)
    yield from _topics("Write", *settings.outputs, settings.changelog)
    yield Acl("topic", settings.changelog, "Read")
    yield Acl("topic", settings.changelog, "Delete")  # of records: the changelog is trimmed
    yield Acl("group", settings.app.id, "Read")
    for operation in ("Read", "Write"):
        yield from _topics(operation, *settings.of_repartition)
    if settings.identity.enabled:
        links, *state = settings.of_identity
        yield from _topics("Read", topics.visitors, links, *state)
        yield from _topics("Write", *state)
    for group in settings.stage_sources:
        yield Acl("group", group, "Read")
    yield Acl("transactional-id", f"{settings.app.id}-", "Write", "prefixed")


def _producer(settings: Settings) -> Iterator[Acl]:
    yield Acl("topic", settings.topics.clicks, "Write")
    yield Acl("topic", settings.topics.clicks, "DescribeConfigs")  # how large a click may be


def _consumer(settings: Settings) -> Iterator[Acl]:
    yield from _topics("Read", *settings.outputs)


def _server(settings: Settings) -> Iterator[Acl]:
    yield from _topics("Read", *settings.looked_up.values())
    yield from _topics("Write", *settings.of_lookups)


def _viewer(settings: Settings) -> Iterator[Acl]:
    topics = settings.topics
    shown = (
        topics.intents,
        topics.visitors,
        *settings.by_user[:1],
        topics.late,
        topics.dlq,
        settings.changelog,
    )
    yield from _topics("Read", *shown)
    yield from _topics("Read", settings.session_source, topics.erasures)  # to say why a session got its label


def _linker(settings: Settings) -> Iterator[Acl]:
    yield from _topics("Write", *settings.of_identity[:1])


def _replay(settings: Settings) -> Iterator[Acl]:
    topics = settings.topics
    source = settings.session_source
    yield from _topics("Read", source, topics.erasures, *settings.outputs, settings.changelog)
    yield from _topics("Read", *settings.of_identity, *settings.of_lookups)
    of_groups = f"{settings.app.id}-replay-"  # topics and groups of `--group`, and producers of outputs
    for operation in ("Create", "Read", "Write", "Delete"):  # Delete: of records, that were replaced
        yield Acl("topic", of_groups, operation, "prefixed")
    yield Acl("group", of_groups, "Read", "prefixed")
    yield Acl("transactional-id", of_groups, "Write", "prefixed")


def _admin(settings: Settings) -> Iterator[Acl]:
    topics = settings.topics
    everything = (
        topics.clicks,
        *settings.of_repartition,
        *settings.outputs,
        topics.erasures,
        settings.changelog,
        *settings.of_identity,
        *settings.of_lookups,
    )
    for operation in ("Create", "Alter", "DescribeConfigs", "Read"):
        yield from _topics(operation, *everything)
    yield from _topics("Write", topics.erasures, topics.clicks, topics.dlq, *settings.of_identity[:1])
    yield Acl("transactional-id", f"{settings.app.id}-dlq-replay", "Write")
    if settings.identity.enabled:  # `topics grow` moves ties
        yield Acl("topic", settings.attribution_changelog, "Write")
        yield Acl("transactional-id", f"{settings.app.id}-attribution-", "Write", "prefixed")
    for group in (settings.app.id, *settings.stage_sources):
        yield Acl("group", group, "Describe")


def _topics(operation: str, *names: str) -> Iterator[Acl]:
    return (Acl("topic", name, operation) for name in names)


_OF_ROLE = {
    "worker": _worker,
    "producer": _producer,
    "consumer": _consumer,
    "server": _server,
    "viewer": _viewer,
    "linker": _linker,
    "replay": _replay,
    "admin": _admin,
}


def as_commands(acls: Iterable[Acl], principal: str, bootstrap: str) -> list[str]:
    """One `kafka-acls.sh` command for each resource."""
    by_resource: dict[tuple[str, str, str], list[str]] = {}
    for acl in acls:
        by_resource.setdefault((acl.resource, acl.name, acl.pattern), []).append(acl.operation)
    return [
        shlex.join(
            [
                *("kafka-acls.sh", "--bootstrap-server", bootstrap, "--command-config", "admin.properties"),
                *("--add", "--allow-principal", principal),
                *(word for operation in operations for word in ("--operation", operation)),
                *(f"--{resource}", name, "--resource-pattern-type", pattern),
            ]
        )
        for (resource, name, pattern), operations in by_resource.items()
    ]

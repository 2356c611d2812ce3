"""The registry's ids of the schemas of our outputs, in place of our own.

A schema that is registered already is left as it is, so that a client which may only read will do.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from streamer.kafka.aiokafka_overrides.packing import Message
from streamer.registry.client import (
    RegistryAwayError,
    RegistryClient,
    RegistryError,
    registry_client,
)
from streamer.registry.lookup import SchemaLookup
from streamer.schemas import codec
from streamer.settings import RegistrySettings, Settings

START_PATIENCE_S = 60.0
"""How long the start of a worker waits for a registry that is away."""
_PAUSE_S = 1.0


class RegistryIds(NamedTuple):
    """What a worker has of a registry."""

    lookup: SchemaLookup
    prefixes: Mapping[str, bytes]
    """By output topic, what its messages begin with; nothing without a registry."""


class Registered(NamedTuple):
    """Where the schema of an output is."""

    topic: str
    subject: str
    id: int | None
    """None: it isn't registered, and was not to be."""

    @property
    def prefix(self) -> bytes:
        """What messages begin with."""
        assert self.id is not None
        return self.id.to_bytes(codec.PREFIX_BYTES, "big")


def output_schemas(settings: Settings) -> dict[str, codec.SchemaName]:
    """By topic."""
    topics = settings.topics
    schemas: dict[str, codec.SchemaName] = {
        topics.embeddings: "session_embedding",
        topics.intents: "session_intent",
        topics.visitors: "visitor_intent",
        topics.users: "user_intent",
        topics.shadow_embeddings: "session_embedding",
        topics.shadow_intents: "session_intent",
    }
    return {topic: schemas[topic] for topic in settings.outputs if topic in schemas}


def subject_of(registry: RegistrySettings, topic: str, schema: codec.Record) -> str:
    """As Confluent's serializers call it with the strategy of the settings."""
    record = f"{schema['namespace']}.{schema['name']}"
    names = {"topic": f"{topic}-value", "record": record, "topic-record": f"{topic}-{record}"}
    return names[registry.subject_strategy]


async def registered_outputs(
    settings: Settings, *, register: bool, patience_s: float = 0
) -> list[Registered]:
    """All outputs; `register`: with what isn't there yet registered. Raises RegistryError."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            async with registry_client(settings.registry) as client:
                return [
                    await _registered(client, settings.registry, topic, name, register=register)
                    for topic, name in output_schemas(settings).items()
                ]
        except RegistryAwayError:
            if time.monotonic() + _PAUSE_S > deadline:
                raise
        await asyncio.sleep(_PAUSE_S)


async def output_prefixes(settings: Settings) -> dict[str, bytes]:
    """What messages of each output are to begin with; nothing without a registry. Raises RegistryError."""
    registry = settings.registry
    if registry.url is None:
        return {}
    found = await registered_outputs(settings, register=registry.auto_register, patience_s=START_PATIENCE_S)
    missing = [each.subject for each in found if each.id is None]
    if missing:
        raise RegistryError(
            f"the schema registry at {registry.url} lacks our schemas under {', '.join(missing)}: have "
            "'streamer topics create' run with registry.auto_register by somebody who may register them"
        )
    return {each.topic: each.prefix for each in found}


def prefixed(messages: Iterable[Message], topic: str, prefixes: Mapping[str, bytes]) -> Iterable[Message]:
    """Messages of a topic with its prefix, if there is one, in place of our own.

    What has no value stays so.
    """
    prefix = prefixes.get(topic)
    if prefix is None:
        return messages
    return (
        (key, None if value is None else prefix + value[codec.PREFIX_BYTES :], headers)
        for key, value, headers in messages
    )


async def _registered(
    client: RegistryClient,
    registry: RegistrySettings,
    topic: str,
    name: codec.SchemaName,
    *,
    register: bool,
) -> Registered:
    schema = codec.schema(name)
    subject, text = subject_of(registry, topic, schema), json.dumps(schema)
    found = await client.id_of(subject, text)
    if found is None and register:
        try:
            found = await client.register(subject, text)
        except RegistryAwayError:
            raise
        except RegistryError as error:
            raise RegistryError(
                f"the schema {name} can't be registered as {subject}: {error}. If another schema has that "
                "name, choose another registry.subject_strategy, or other topics"
            ) from None
    return Registered(topic, subject, found)

"""A session that live has published, with its clicks: the record from the intents topic, the clicks by a
replay of its partition around the moment at which it closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from streamer.errors import StreamerError, UsageError
from streamer.kafka.topics import find_topic
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.partition_replay import PartitionReplay
from streamer.replay.sources import replayed
from streamer.replay.time_range import TimeRange
from streamer.replay.topic_source import (
    TopicSource,
    as_live,
    ends_of,
    erased_visitors,
    records_of,
    topic_partitions,
)
from streamer.rules_from_settings import session_rules
from streamer.schemas import codec
from streamer.schemas.click import Session
from streamer.settings import Settings

_DRAIN = b"drain"


class SessionNotFoundError(StreamerError):
    """No such record, or its clicks are gone."""


@dataclass
class PublishedRecord:
    """What the intents topic has of a session."""

    record: Mapping[str, Any] = field(default_factory=dict)
    partition: int = 0
    drains_ms: dict[int, set[int]] = field(default_factory=dict)
    """By partition: when its worker closed everything that was open."""


async def find_record(settings: Settings, session_id: str, published: TimeRange) -> PublishedRecord:
    """The latest record of a session among those that were published in a range of append times.

    Raises SessionNotFoundError if there is none, or none of a closed session, and what reading topics does.
    """
    topic, lookup = settings.topics.intents, SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
    await find_topic(settings.kafka, topic)
    ends = await ends_of(settings, topic, published.to_ms or "latest")
    found = PublishedRecord()
    # Most records are others', and needn't be decoded to see that.
    wanted = (session_id.encode(), _DRAIN)
    async for each in records_of(settings, topic, ends, published.from_ms or "earliest"):
        if each.value is None or not any(text in each.value for text in wanted):
            continue
        record = codec.decode(await lookup.own(each.value))[1]
        if record["close_reason"] == "drain":
            found.drains_ms.setdefault(each.partition, set()).add(record["closed_at"])
        if record["session_id"] == session_id:
            found.record, found.partition = record, each.partition
    if not found.record:
        raise SessionNotFoundError(
            f"no record of session {session_id} in {topic}: expected the session_id of one that `streamer"
            " subscribe intents --json` shows, and a time range in which it was published"
        )
    if not found.record["is_final"]:
        raise SessionNotFoundError(
            f"session {session_id} was still open when it was published last: expected the session_id of a"
            " final record"
        )
    return found


async def replayed_session(settings: Settings, found: PublishedRecord) -> Session:
    """The session with its clicks. Raises SessionNotFoundError if not all of them are in the log, and
    UsageError if it was cut under other rules than those of the settings."""
    session_id, closed_at = found.record["session_id"], found.record["closed_at"]
    rules = session_rules(settings)
    if found.record["rules_version"] != rules.version:
        raise UsageError(
            f"session {session_id} was cut under session rules {found.record['rules_version']}, the settings"
            f" here give {rules.version}: expected the settings of the worker"
        )
    time_range = TimeRange(closed_at, closed_at + 1)
    plans = await topic_partitions(settings, time_range, rules)
    plan = next(each for each in plans if each.number == found.partition)
    drains = sorted(at for at in found.drains_ms.get(plan.number, ()) if at <= closed_at)
    plan = msgspec.structs.replace(plan, drains_ms=tuple(drains))
    config = replace(as_live(settings, rules, time_range), erased=await erased_visitors(settings))
    source = TopicSource(settings, {plan.number: plan})
    replay = PartitionReplay(config, plan, source.decode, whole=source.whole)
    closed: list[Session] = []
    async for portion in source.portions({plan.number: plan.start}):
        await replayed(source, replay, portion.records, closed)
        if portion.is_last:
            closed += replay.idle(closed_at + 1)
    for session in closed:
        if session.session_id == session_id:
            return session
    raise SessionNotFoundError(
        f"session {session_id} is in {settings.topics.intents}, but its clicks are not, or not all, in"
        f" {settings.session_source}: retention or an erasure has deleted them, or another app"
        " with the same outputs has read them elsewhere"
    )

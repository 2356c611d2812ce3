"""The stage before the sessions where clicks aren't keyed by visitor: each goes to its visitor's partition.

A click's value and headers go on as they came, in the order in which they came, with the visitor as the key.
What has no visitor ends here: as a dead letter, or, where it is no click or without consent, as filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from streamer.kafka.aiokafka_overrides.packing import Message
from streamer.kafka.client import ClientArguments
from streamer.kafka.partitions import by_murmur2
from streamer.kafka.start import Start
from streamer.kafka.topic_metadata import TopicMetadata
from streamer.native.record_fields import headers_of, value_of
from streamer.pipeline.dead_letter_limit import DeadLetterLimit, DeadLetterTally, TooManyDeadLetters
from streamer.pipeline.dead_letters import (
    ARRIVAL_HEADER,
    Header,
    cut_to_size,
    dead_letter_headers,
)
from streamer.pipeline.decode import Rejected
from streamer.pipeline.partition import LOG_APPEND_TIME, MAX_FORWARDED_BYTES
from streamer.registry.outputs import RegistryIds
from streamer.settings import Settings
from streamer.sources.visitors import ClickVisitors
from streamer.worker.kill_points import Reach
from streamer.worker.metrics import REPARTITION
from streamer.worker.stages.stage_shard import Output, StageConfig, StageOutputs

NO_SESSIONS = MappingProxyType[str, int]({})


class RepartitionProgress(msgspec.Struct, array_like=True):
    """What is known of a partition of the source beside the position."""

    received: int = 0
    """Records so far."""
    dead_letters: DeadLetterTally = DeadLetterTally()


def repartition_config(
    settings: Settings,
    arguments: ClientArguments,
    source: TopicMetadata,
    partitions: int,
    reach: Reach,
    registry: RegistryIds,
    start: Start,
) -> StageConfig:
    """`partitions`: those of the topic by visitor that are used. `start`: where to begin in what is new.

    Raises UsageError.
    """
    visitors = ClickVisitors(settings.clicks, registry.lookup.registered)
    return StageConfig(
        name=REPARTITION,
        source=source.name,
        side_inputs=(),
        changelog=settings.repartition_changelog,
        partitions=source.partitions,
        topic_ids={source.name: source.topic_id},
        settings=settings,
        arguments=arguments,
        reach=reach,
        registry=registry,
        create=lambda number, progress: LiveRepartition(number, partitions, settings, visitors, progress),
        start=start,
        has_keys=False,
        chunk_records=500,
        commit_at=8000,
        unhurried_s=0,  # sessions wait for it
    )


class LiveRepartition:
    """Clicks of one partition in; the same out, each to one of `targets` partitions, by its visitor."""

    hurries = False
    size = 0
    sessions = NO_SESSIONS

    def __init__(
        self,
        number: int,
        targets: int,
        settings: Settings,
        visitors: ClickVisitors,
        progress: bytes | None,
    ) -> None:
        before = RepartitionProgress()
        if progress is not None:
            before = msgspec.msgpack.decode(progress, type=RepartitionProgress)
        self._received = before.received
        self._dead_letters = before.dead_letters
        self._number = number
        self._targets = targets
        self._source = settings.topics.clicks
        self._target = settings.clicks_by_visitor
        self._dlq = settings.topics.dlq
        self._limit = DeadLetterLimit(**settings.dead_letters.model_dump())
        self._most_bytes = max(MAX_FORWARDED_BYTES, 2 * settings.clicks.max_bytes)
        self._most_headers = 2 * settings.clicks.max_bytes
        self._visitors = visitors
        self._passed: list[list[Message]] = [[] for _ in range(targets)]
        """By partition."""
        self._letters: list[Output] = []
        self._dead: list[str] = []
        """Their reasons."""
        self._filtered = 0

    @property
    def progress(self) -> RepartitionProgress:
        return RepartitionProgress(self._received, self._dead_letters)

    @property
    def has_pending(self) -> bool:
        return any(self._passed) or bool(self._letters or self._filtered)

    def process(self, record: Any) -> None:
        """Raises TooManyDeadLetters, where the record is left unread, and UnknownSchema."""
        value: bytes | None = value_of(record)
        headers: Sequence[Header] = headers_of(record)
        try:
            key = self._visitors.of(value, headers)
            if headers and _size(headers) > self._most_headers:
                raise Rejected("decode", "too_large")
        except Rejected as rejected:
            self._dead_letter(record, rejected.stage, rejected.reason)
        else:
            if key is None:
                self._filtered += 1
            else:
                if record.timestamp_type == LOG_APPEND_TIME and self._visitors.may_have_sent_at(value):
                    headers = _with_arrival(record, headers)
                self._passed[by_murmur2(key, self._targets)].append((key, value, headers))  # type: ignore[arg-type]
        self._received += 1

    def take_in(self, topic: str, records: list[Any], broker_ms: int) -> None:
        """There are no side inputs."""

    def restore(self, key: str, state: bytes | None) -> None:
        """There is no state but the progress."""

    def take(self) -> StageOutputs:
        passed, self._passed = self._passed, [[] for _ in range(self._targets)]
        letters, self._letters = self._letters, []
        dead, self._dead = self._dead, []
        filtered, self._filtered = self._filtered, 0
        count = sum(map(len, passed))
        events = {"passed": count, "filtered": filtered, "dead_lettered": len(dead)}
        batches = {(self._target, number): messages for number, messages in enumerate(passed) if messages}
        return StageOutputs(letters, {}, dead, events, batches)

    def _dead_letter(self, record: Any, stage: str, reason: str) -> None:
        tally = self._dead_letters.plus(self._received + 1, self._limit)
        excess = tally.excess(self._limit)
        if excess is not None:
            where = f"{self._source} partition {self._number} offset {record.offset}"
            raise TooManyDeadLetters(record.offset, f"{where} ({stage}: {reason}): {excess}")
        self._dead_letters = tally
        arrival = _arrival(record)
        headers = dead_letter_headers(self._source, self._number, record, stage, reason, arrival)
        letter = cut_to_size(record.key, record.value, headers, self._most_bytes)
        self._letters.append(Output(self._dlq, self._number % self._targets, letter))
        self._dead.append(reason)


def _arrival(record: Any) -> int | None:
    """When the record arrived, ms UTC; None where a producer says so."""
    return record.timestamp if record.timestamp_type == LOG_APPEND_TIME else None


def _with_arrival(record: Any, headers: Sequence[Header]) -> Sequence[Header]:
    """The headers, and among them when the click arrived before it came here."""
    if headers and ARRIVAL_HEADER in dict(headers):
        return headers
    return [*headers, (ARRIVAL_HEADER, b"%d" % record.timestamp)]


def _size(headers: Sequence[Header]) -> int:
    return sum(len(name) + len(content or b"") for name, content in headers)

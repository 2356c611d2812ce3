"""The clicks topic as the source of a replay: offsets by time, read with a consumer that joins no group."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streamer.core.rules import SessionRules
from streamer.errors import StreamerError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.aiokafka_overrides.fetched import leave_records_as_they_are
from streamer.kafka.client import client_arguments, committed_reader
from streamer.kafka.start import Start, offsets_at
from streamer.kafka.topics import TopicError, find_topic
from streamer.pipeline.erasures import erased_visitor
from streamer.pipeline.partition import LOG_APPEND_TIME, Decode
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.plan import PartitionPlan, ReplayConfig
from streamer.replay.sources import LogRecord, Portion
from streamer.replay.time_range import TimeRange
from streamer.settings import Settings
from streamer.sources import click_decoder, whole_value

PORTION = 2000
_POLL_MS = 200


class TopicSourceError(StreamerError):
    """The topic can't be read, or its timestamps aren't what the settings say."""


@asynccontextmanager
async def reading(settings: Settings, topic: str, portion: int = PORTION) -> AsyncIterator[Any]:
    """A started consumer of a topic's whole partitions; sees committed records only.

    Raises TopicSourceError.
    """
    consumer = committed_reader(
        client_arguments(settings.kafka),
        auto_offset_reset="none",
        max_poll_records=portion,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_wait_ms=100,
    )
    try:
        with only_ours():
            await consumer.start()
            yield consumer
    except KafkaError as error:
        where = f"{topic} at {settings.kafka.bootstrap_servers}"
        raise TopicSourceError(f"can't read {where}: {type(error).__name__}") from None
    finally:
        await consumer.stop()


def as_live(settings: Settings, rules: SessionRules, time_range: TimeRange) -> ReplayConfig:
    """With which a replay of the topic closes sessions as live does."""
    return ReplayConfig(
        settings.session_source,
        rules,
        time_range,
        idle_closing=settings.clicks.arrival == "log_append_time",
        early_every_ms=settings.emit.early_every_ms,
        at_login=settings.emits_at_login,
    )


async def topic_partitions(
    settings: Settings, time_range: TimeRange, rules: SessionRules
) -> list[PartitionPlan]:
    """Where to begin and to end in every partition. Raises BrokerError, TopicError, TopicSourceError."""
    topic = settings.session_source
    found = await find_topic(settings.kafka, topic)
    if settings.clicks.arrival == "log_append_time" and found.timestamp_type == "CreateTime":
        raise TopicSourceError(
            f"topic {topic} has message.timestamp.type=CreateTime, expected LogAppendTime: replay "
            "what a worker with clicks.keyed=false has written by visitor, or set clicks.arrival=create_time "
            "(idleness closes nothing then)"
        )
    tps = [TopicPartition(topic, number) for number in range(found.partitions)]
    async with reading(settings, topic) as consumer:
        begins = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)
        read_from_ms = time_range.read_from_ms(rules)
        starts = begins if read_from_ms is None else await _offsets(consumer, tps, read_from_ms, ends)
        if time_range.to_ms is not None:
            ends = await _ends_at(settings, consumer, tps, time_range.to_ms, ends)
    partitions = []
    for tp in tps:
        start, end = starts[tp], ends[tp]
        unread_until_ms = None
        if start > begins[tp] and read_from_ms is not None:
            unread_until_ms = read_from_ms - 1  # else the search by time had found an earlier record
        elif 0 < start < end:
            # None that was deleted arrived later than the first that is still there.
            first = await _first_arrived(settings, tp, start, end)
            unread_until_ms = None if first is None else int(first.timestamp)
        partitions.append(PartitionPlan(tp.partition, start, end, unread_until_ms))
    return partitions


async def erased_visitors(settings: Settings) -> dict[str, int]:
    """Visitor -> arrival time up to which their clicks have to go; all partitions of the topic have all."""
    topic = settings.topics.erasures
    ends = await ends_of(settings, topic)
    until: dict[str, int] = {}
    async for record in records_of(settings, topic, {0: ends[0]} if ends else {}):
        visitor_id = erased_visitor(record.value)
        if visitor_id is not None:
            until[visitor_id] = max(record.timestamp, until.get(visitor_id, 0))
    return until


async def ends_of(settings: Settings, topic: str, at: Start = "latest") -> dict[int, int]:
    """Where each partition of a topic ends, or was at a time; nothing if there is no such topic."""
    try:
        found = await find_topic(settings.kafka, topic)
    except TopicError:
        return {}
    async with reading(settings, topic) as consumer:
        tps = [TopicPartition(topic, number) for number in range(found.partitions)]
        return {tp.partition: offset for tp, offset in (await offsets_at(consumer, tps, at)).items()}


async def first_arrival(settings: Settings, topic: str) -> int | None:
    """When the first record arrived that is still there, ms UTC, if any was deleted before it; the latest
    such moment of the topic's partitions. None: nothing was deleted."""
    ends = await ends_of(settings, topic)
    async with reading(settings, topic) as consumer:
        tps = [TopicPartition(topic, number) for number in ends]
        begins = await consumer.beginning_offsets(tps)
    trimmed = {tp.partition: at for tp, at in begins.items() if at > 0}
    firsts: dict[int, int] = {}
    async for record in records_of(settings, topic, {number: ends[number] for number in trimmed}):
        firsts.setdefault(record.partition, record.timestamp)
    return max(firsts.values(), default=None)


async def records_of(
    settings: Settings, topic: str, ends: Mapping[int, int], start: Start = "earliest"
) -> AsyncIterator[Any]:
    """Committed records of a topic's partitions before their ends, each partition's in order."""
    tps = [TopicPartition(topic, number) for number in ends]
    if not tps:
        return
    async with reading(settings, topic) as consumer:
        begins = await offsets_at(consumer, tps, start)
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        left = set(tps)
        while left := {tp for tp in left if await consumer.position(tp) < ends[tp.partition]}:
            for tp, records in (await consumer.getmany(*left, timeout_ms=_POLL_MS)).items():
                for record in records:
                    if record.offset < ends[tp.partition]:
                        yield record


class TopicSource:
    """Reads the partitions of a plan."""

    def __init__(
        self, settings: Settings, partitions: dict[int, PartitionPlan], portion: int = PORTION
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._portion = portion
        self.lookup = SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
        self.whole = whole_value(settings.clicks, self.lookup.registered)
        self.decode: Decode = click_decoder(settings.clicks, registered=self.lookup.registered).decode

    async def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        topic = self._settings.session_source
        left = {number: at for number, at in positions.items() if at < self._partitions[number].end}
        for number in sorted(positions.keys() - left.keys()):
            yield Portion(number, is_last=True)
        if not left:
            return
        async with reading(self._settings, topic, self._portion) as consumer:
            leave_records_as_they_are(consumer)
            consumer.assign([TopicPartition(topic, number) for number in left])
            for number, at in left.items():
                consumer.seek(TopicPartition(topic, number), at)
            running = set(left)
            while running:
                for portion in await self._fetched(consumer, running):
                    yield portion
                for number in sorted(running):
                    tp = TopicPartition(topic, number)
                    # By position, not by the last record: transactions end with offsets that hold none.
                    if await consumer.position(tp) >= self._partitions[number].end:
                        running.discard(number)
                        consumer.pause(tp)
                        yield Portion(number, is_last=True)

    async def _fetched(self, consumer: Any, running: set[int]) -> list[Portion]:
        try:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
        except OffsetOutOfRangeError as error:
            gone = ", ".join(f"{tp.partition} at offset {at}" for tp, at in error.args[0].items())
            raise TopicSourceError(
                f"{self._settings.session_source}, partition {gone}: the records to read next were deleted "
                "meanwhile (retention). Start over, or with a later --from"
            ) from None
        portions = []
        for tp, records in fetched.items():
            if tp.partition in running:
                end = self._partitions[tp.partition].end
                kept = records if records[-1].offset < end else [r for r in records if r.offset < end]
                if kept and not _has_arrival(self._settings, kept[0]):  # then none has: they come by kind
                    kept = [_undated(record) for record in kept]
                portions.append(Portion(tp.partition, kept))
        return portions


async def _offsets(consumer: Any, tps: list[Any], at_ms: int, ends: dict[Any, int]) -> dict[Any, int]:
    """Offset of the first record that arrived at that time or later; the end where there is none."""
    found = await consumer.offsets_for_times(dict.fromkeys(tps, max(at_ms, 0)))
    return {tp: min(found[tp].offset, ends[tp]) if found[tp] is not None else ends[tp] for tp in tps}


async def _ends_at(
    settings: Settings, consumer: Any, tps: list[Any], to_ms: int, ends: dict[Any, int]
) -> dict[Any, int]:
    """As `_offsets`, which a record with CreateTime can't end early: a producer's clock may be anywhere."""
    now_ms = time.time() * 1000
    found = await consumer.offsets_for_times(dict.fromkeys(tps, max(to_ms, 0)))
    bounded = dict(ends)
    for tp in tps:
        if found[tp] is None:
            continue
        bounded[tp] = min(found[tp].offset, ends[tp])
        if found[tp].timestamp > now_ms:  # no broker's clock
            first = await _first_arrived(settings, tp, bounded[tp], ends[tp], to_ms)
            bounded[tp] = ends[tp] if first is None else int(first.offset)
    return bounded


async def _first_arrived(settings: Settings, tp: Any, start: int, end: int, from_ms: int = 0) -> Any | None:
    """The first record from offset `start` on that arrived at `from_ms` or later; None before `end`."""
    # With a consumer of its own: aiokafka's may hang when it is stopped after it was given other partitions.
    async with reading(settings, tp.topic) as consumer:
        consumer.assign([tp])
        consumer.seek(tp, start)
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    if record.offset < end and record.timestamp >= from_ms and _has_arrival(settings, record):
                        return record
    return None


def _undated(record: Any) -> LogRecord:
    """Without the producer's time, which must not be compared with a broker's."""
    return LogRecord(record.offset, 0, record.key, record.value, record.headers, record.timestamp_type)


def _has_arrival(settings: Settings, record: Any) -> bool:
    return settings.clicks.arrival == "create_time" or record.timestamp_type == LOG_APPEND_TIME

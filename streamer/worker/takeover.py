"""Taking shards over: fence the last owner, read the state back, check that the source still fits it.

The order is the guarantee: the producer's start fences the owner before and aborts its transaction, so
what the changelog holds after that is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamer.core.sessionizer import Sessionizer
from streamer.errors import StreamerError
from streamer.pipeline.dead_letter_limit import DeadLetterLimit
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import MAX_FORWARDED_BYTES, Partition
from streamer.settings import Settings
from streamer.worker.changelog import ChangelogError, Marker
from streamer.worker.erasure_feed import take_in_erasures
from streamer.worker.kill_points import KillPoint
from streamer.worker.log_reader import LogReader, group_offsets, partition_counts
from streamer.worker.recovery import Recovery
from streamer.worker.shard import Shard, ShardConfig

PRODUCER_BATCH_BYTES = 1024 * 1024
TRANSACTION_TIMEOUT_MS = 30_000

log = structlog.get_logger(__name__)


class RefusedError(StreamerError):
    """State and source don't fit together; going on would lose or double clicks."""


async def take_over(
    config: ShardConfig, numbers: Iterable[int], still_wanted: Callable[[int], bool]
) -> list[Shard]:
    """Shards of the given partitions, each with its claim committed.

    `still_wanted` is asked right before a partition's last owner is fenced. Raises RefusedError, and
    KafkaError if a broker fails meanwhile.
    """
    settings = config.settings
    admin = AIOKafkaAdminClient(**config.arguments)
    producers: dict[int, AIOKafkaProducer] = {}
    try:
        await admin.start()
        partitions = await _source_partitions(config, admin)
        for number in numbers:
            if still_wanted(number):
                producers[number] = await _fence(config, number)
                config.reach(KillPoint.AFTER_FENCING)
        async with LogReader(config.arguments) as reader:
            recoveries = await _recover(config, reader, producers)
            group = await group_offsets(admin, settings.app.id, settings.topics.clicks)
            bounds = await reader.bounds(settings.topics.clicks, producers)
            fresh = [number for number in producers if recoveries[number].marker is None]
            _refuse_forgotten(settings, fresh, group)
            starts = await reader.starts(settings.topics.clicks, fresh, config.options.start)
        unsettled = {n: m.erasures if (m := recoveries[n].marker) else 0 for n in producers}
        async with LogReader(config.arguments) as reader:
            erasures = await reader.rest(settings.topics.erasures, unsettled)
        shards = [
            _shard(config, producer, recoveries[number], number, partitions, bounds[number], starts)
            for number, producer in producers.items()
        ]
        for shard in shards:
            take_in_erasures(shard.partition, erasures[shard.number])
        await asyncio.gather(*(shard.commit(force=True) for shard in shards))
    except BaseException:
        await asyncio.gather(*(producer.stop() for producer in producers.values()), return_exceptions=True)
        raise
    finally:
        await admin.close()
    return shards


async def _source_partitions(config: ShardConfig, admin: AIOKafkaAdminClient) -> int:
    """Partitions of the source. Raises RefusedError if another topic has fewer."""
    settings = config.settings
    topics = settings.topics
    others = (*settings.outputs, topics.erasures, settings.changelog)
    counts = await partition_counts(admin, (topics.clicks, *others))
    for topic in others:
        if counts[topic] < counts[topics.clicks]:
            raise RefusedError(
                f"topic {topic} has {counts[topic]} partitions and {topics.clicks} has "
                f"{counts[topics.clicks]}: every topic needs as many as the clicks"
            )
    return counts[topics.clicks]


async def _fence(config: ShardConfig, number: int) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        **config.arguments,
        transactional_id=f"{config.settings.app.id}-{number}",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        max_batch_size=PRODUCER_BATCH_BYTES,
        max_request_size=max(8 * PRODUCER_BATCH_BYTES, 4 * config.settings.clicks.max_bytes),
    )
    await producer.start()  # it asks for a producer id, and that fences
    return producer


async def _recover(config: ShardConfig, reader: LogReader, numbers: Iterable[int]) -> dict[int, Recovery]:
    changelog = config.settings.changelog
    try:
        return await reader.recover(changelog, numbers, lambda: config.reach(KillPoint.DURING_RECOVERY))
    except ChangelogError as error:
        raise RefusedError(
            f"can't restore open sessions from {error}. Use the version of the worker that wrote it, or "
            "start over under another app.id"
        ) from None


def _refuse_forgotten(settings: Settings, fresh: list[int], group: dict[int, int]) -> None:
    for number in fresh:
        if number in group:
            raise RefusedError(
                f"{settings.changelog} has no state of partition {number}, but group {settings.app.id} has "
                f"read {settings.topics.clicks} up to offset {group[number]}: its open sessions are gone. "
                "Start over under another app.id, or delete the group to read again"
            )


def _shard(
    config: ShardConfig,
    producer: AIOKafkaProducer,
    recovery: Recovery,
    number: int,
    partitions: int,
    bounds: tuple[int, int],
    starts: dict[int, int],
) -> Shard:
    settings, marker = config.settings, recovery.marker
    topic = settings.topics.clicks
    partition = Partition(
        topic,
        number,
        Sessionizer(
            config.rules,
            idle_closing=settings.clicks.arrival == "log_append_time",
            early_every_ms=settings.emit.early_every_ms,
            clock=marker.clock if marker else None,
            sessions=recovery.sessions,
        ),
        config.decode,
        position=marker.position if marker else starts[number],
        counters=marker.counters if marker else None,
        erasures=Erasures(marker.erasures if marker else 0),
        limit=DeadLetterLimit(**settings.dead_letters.model_dump()),
        dead_letters=marker.dead_letters if marker else None,
        max_forwarded_bytes=max(MAX_FORWARDED_BYTES, 2 * settings.clicks.max_bytes),
    )
    if marker is not None:
        _check_rules(config, partition, marker)
        _check_source(settings, partition, marker, partitions, bounds)
    return Shard(
        partition,
        producer,
        recovery.state_log,
        config,
        epoch=marker.epoch + 1 if marker else 1,
        commit_number=marker.commit_number if marker else 0,
        partitions=partitions,
        drained=marker.drained if marker else 0,
    )


def _check_rules(config: ShardConfig, partition: Partition, marker: Marker) -> None:
    """Raises RefusedError where the state was made under other rules, unless they are accepted."""
    before, now = marker.rules_version, config.rules.version
    if before == now or config.options.accept_rules:
        return
    raise RefusedError(
        f"the state of {config.settings.app.id} in partition {partition.number} was made under session rules "
        f"{before}, these settings give {now} (session.*, watermark.*): restore the settings, or go on with "
        "'streamer worker --accept-rules', where open sessions go on under the new rules"
    )


def _check_source(
    settings: Settings, partition: Partition, marker: Marker, partitions: int, bounds: tuple[int, int]
) -> None:
    """Raises RefusedError where the source is not the one that the state was made from."""
    topic, number, app_id = partition.topic, partition.number, settings.app.id
    first, end = bounds
    if marker.partitions != partitions:
        raise RefusedError(
            f"topic {topic} has {partitions} partitions, the state of {app_id} was made with "
            f"{marker.partitions}: drain into a new app.id ('streamer worker --drain', then another app.id)"
        )
    if partition.position > end:
        raise RefusedError(
            f"the state of {app_id} is at offset {partition.position} of {topic} partition {number}, which "
            f"ends at {end}: the topic was made anew or lost records. Start over under another app.id"
        )
    if first > partition.position:
        lost = first - partition.position
        log.error("clicks_lost", topic=topic, partition=number, offsets=lost, from_offset=partition.position)
        partition.counters.lost += lost
        partition.position = first

"""Taking shards over: fence the last owner, read the state back, check that the source still fits it.

The order is the guarantee: the producer's start fences the owner before and aborts its transaction, so
what the changelog holds after that is final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog
from aiokafka import AIOKafkaProducer

from streamer.core.sessionizer import Sessionizer
from streamer.kafka.aiokafka_overrides.admin import AdminClient
from streamer.kafka.topic_metadata import ask
from streamer.pipeline.dead_letter_limit import DeadLetterLimit
from streamer.pipeline.erasures import Erasures
from streamer.pipeline.partition import MAX_FORWARDED_BYTES, Partition, PartitionPolicy, PartitionState
from streamer.sources import whole_value
from streamer.worker.changelog import ChangelogError, Marker
from streamer.worker.erasure_feed import take_in_erasures
from streamer.worker.fencing import claim, fence, in_time, stop_in_time
from streamer.worker.kill_points import KillPoint
from streamer.worker.log_reader import LogReader, group_offsets
from streamer.worker.open_shards import TakenOver
from streamer.worker.recovery import Recovery
from streamer.worker.refused import START_OVER, RefusedError
from streamer.worker.shard import Shard, ShardConfig
from streamer.worker.start_checks import (
    check_not_forgotten,
    check_rules,
    check_source,
    unreadable,
)

log = structlog.get_logger(__name__)


async def take_over(
    config: ShardConfig,
    numbers: Iterable[int],
    still_wanted: Callable[[int], bool],
    on_progress: Callable[[], None],
) -> TakenOver[Shard]:
    """Take partitions over together, with one client that reads for all.

    `still_wanted` is asked right before a partition's last owner is fenced; `on_progress` is called
    after each fetch of state. Raises RefusedError, and KafkaError if a broker fails that all of them need.
    """
    admin = AdminClient(**config.arguments)
    producers: dict[int, AIOKafkaProducer] = {}
    opened: list[Shard] = []
    try:
        await in_time(admin.start())
        await in_time(_check_source_topic(config, admin))
        app_id = config.settings.app.id
        names = {number: f"{app_id}-{number}" for number in numbers if still_wanted(number)}
        max_bytes = 4 * config.settings.clicks.max_bytes
        failed = await fence(config.arguments, names, max_bytes, config.reach, producers)
        if producers:
            opened = await claim(await _read_back(config, admin, producers, on_progress), failed)
    finally:
        await admin.close()
        claimed = {shard.number for shard in opened}
        await asyncio.gather(*(stop_in_time(p) for number, p in producers.items() if number not in claimed))
    return TakenOver(opened, failed)


async def _read_back(
    config: ShardConfig,
    admin: AdminClient,
    producers: Mapping[int, AIOKafkaProducer],
    on_progress: Callable[[], None],
) -> list[Shard]:
    """State as the last owners have left it, checked against the source; erasures on top."""
    settings = config.settings
    topics = settings.topics
    async with LogReader(config.arguments) as reader:
        reader.assign({settings.changelog: producers, topics.erasures: producers})
        recoveries = await _recover(config, reader, producers, on_progress)
        group = await group_offsets(admin, settings.app.id, settings.session_source)
        bounds = await reader.bounds(settings.session_source, producers)
        fresh = [number for number in producers if recoveries[number].marker is None]
        check_not_forgotten(settings, fresh, group)
        starts = await reader.starts(settings.session_source, fresh, config.options.start)
        markers = {number: recovery.marker for number, recovery in recoveries.items()}
        unsettled = {number: marker.erasures if marker else 0 for number, marker in markers.items()}
        erasures = await reader.rest(topics.erasures, unsettled)
    shards = [
        _shard(config, producer, recoveries[number], number, bounds[number], starts)
        for number, producer in producers.items()
    ]
    for shard in shards:
        take_in_erasures(shard.partition, erasures[shard.number])
    return shards


async def _check_source_topic(config: ShardConfig, admin: AdminClient) -> None:
    """Raises RefusedError if the clicks topic was made anew since the worker started."""
    name = config.settings.session_source
    found = await ask(admin._send_request, [name])
    check_source(config.settings.app.id, config.source.topics, name, found[name].topic_id)


async def _recover(
    config: ShardConfig, reader: LogReader, numbers: Iterable[int], on_progress: Callable[[], None]
) -> dict[int, Recovery]:
    def went_on() -> None:
        config.reach(KillPoint.DURING_RECOVERY)
        on_progress()

    try:
        return await reader.recover(config.settings.changelog, numbers, went_on)
    except ChangelogError as error:
        raise unreadable(error) from None


def _shard(
    config: ShardConfig,
    producer: AIOKafkaProducer,
    recovery: Recovery,
    number: int,
    bounds: tuple[int, int],
    starts: dict[int, int],
) -> Shard:
    settings, marker = config.settings, recovery.marker
    topic = settings.session_source
    partition = Partition(
        topic,
        number,
        Sessionizer(
            config.rules,
            idle_closing=settings.clicks.arrival == "log_append_time",
            early_every_ms=settings.emit.early_every_ms,
            at_login=settings.emits_at_login,
            clock=marker.clock if marker else None,
            sessions=recovery.sessions,
        ),
        config.decode,
        PartitionState(marker.position, marker.counters, Erasures(marker.erasures), marker.dead_letters)
        if marker
        else PartitionState(starts[number]),
        PartitionPolicy(
            limit=DeadLetterLimit(**settings.dead_letters.model_dump()),
            max_forwarded_bytes=max(MAX_FORWARDED_BYTES, 2 * settings.clicks.max_bytes),
            needs_arrival=settings.clicks.arrival == "log_append_time",
            whole=whole_value(settings.clicks, config.registry.lookup.registered),
            trace_context=config.tracing.contexts.of if config.tracing is not None else None,
        ),
    )
    if marker is not None:
        _check_fits(config, partition, marker, bounds)
    return Shard(partition, producer, recovery.state_log, config, marker)


def _check_fits(config: ShardConfig, partition: Partition, marker: Marker, bounds: tuple[int, int]) -> None:
    """Raises RefusedError where the source is not the one that the state was made from."""
    topic, number, app_id = partition.topic, partition.number, config.settings.app.id
    first, end = bounds
    source, options = config.source, config.options
    check_source(app_id, marker.topics, topic, source.topics.clicks_id)
    check_rules(app_id, marker.rules_version, config.rules.version, options)
    is_open = partition.sessionizer.open_count > 0
    if marker.partitions != source.partitions and is_open and options.drain is None:
        raise RefusedError(
            f"partition {number} of {topic} has open sessions of {marker.partitions} partitions, this worker "
            f"started with {source.partitions}: run 'streamer worker --drain', then start again"
        )
    if partition.position > end:
        raise RefusedError(
            f"the state of app.id {app_id} is at offset {partition.position} of {topic} partition {number}, "
            f"which ends at {end}, so the topic was made anew or lost records: {START_OVER}"
        )
    if first > partition.position:
        lost = first - partition.position
        log.error("clicks_lost", topic=topic, partition=number, offsets=lost, from_offset=partition.position)
        partition.counters.lost += lost
        partition.position = first

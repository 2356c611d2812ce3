"""Taking shards of an identity stage over: fence the last owner, then read the state back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from aiokafka import AIOKafkaProducer

from streamer.worker.fencing import claim, fence, stop_in_time
from streamer.worker.kill_points import KillPoint
from streamer.worker.log_reader import LogReader
from streamer.worker.open_shards import TakenOver
from streamer.worker.refused import START_OVER, RefusedError
from streamer.worker.stages.stage_marker import MARKER_KEY, StageMarker, read_marker, unreadable_state
from streamer.worker.stages.stage_shard import StageConfig, StageShard

log = structlog.get_logger(__name__)


async def take_over_stage(
    config: StageConfig,
    numbers: list[int],
    still_wanted: Callable[[int], bool],
    on_progress: Callable[[], None],
) -> TakenOver[StageShard]:
    """Take partitions over together. Raises RefusedError, and KafkaError if a broker fails all of them."""
    names = {number: f"{config.group}-{number}" for number in numbers if still_wanted(number)}
    max_bytes = 4 * config.settings.clicks.max_bytes
    producers: dict[int, AIOKafkaProducer] = {}
    opened: list[StageShard] = []
    try:
        failed = await fence(config.arguments, names, max_bytes, config.reach, producers)
        if producers:
            opened = await claim(await _read_back(config, producers, on_progress), failed)
    finally:
        claimed = {shard.number for shard in opened}
        await asyncio.gather(*(stop_in_time(p) for number, p in producers.items() if number not in claimed))
    return TakenOver(opened, failed)


async def _read_back(
    config: StageConfig, producers: dict[int, AIOKafkaProducer], on_progress: Callable[[], None]
) -> list[StageShard]:
    def went_on() -> None:
        config.reach(KillPoint.DURING_RECOVERY)
        on_progress()

    topics = (config.source, *config.side_inputs)
    async with LogReader(config.arguments) as reader:
        reader.assign({config.changelog: producers})
        if config.has_keys:
            latest = await reader.latest(config.changelog, producers, went_on)
        else:  # the marker is all there is
            markers = await reader.last_records(config.changelog, producers)
            latest = {number: {last.key: last.value} if last else {} for number, last in markers.items()}
        ends = {topic: await reader.bounds(topic, producers) for topic in topics}
        fresh = [number for number in producers if MARKER_KEY not in latest[number]]
        starts = await reader.starts(config.source, fresh, config.start)
    for number, start in starts.items():
        ends[config.source][number] = (start, ends[config.source][number][1])
    return [
        _shard(config, number, producer, latest[number], {topic: ends[topic][number] for topic in topics})
        for number, producer in producers.items()
    ]


def _is_new_side_input(config: StageConfig, topic: str, number: int, marker: StageMarker | None) -> bool:
    """Whether it was deleted and created again: then it is read from its beginning. Raises RefusedError where
    that was the source."""
    before, now = marker.topic_ids.get(topic) if marker else None, config.topic_ids.get(topic)
    if not before or not now or before == now:
        return False
    if topic == config.source:
        raise RefusedError(
            f"topic {topic} was deleted and created again (its id is {now}, the state of {config.group} was "
            f"made from {before}): {START_OVER}"
        )
    log.warning("side_input_made_anew", topic=topic, partition=number, stage=config.name)
    return True


def _shard(
    config: StageConfig,
    number: int,
    producer: AIOKafkaProducer,
    latest: dict[bytes, bytes | None],
    bounds: dict[str, tuple[int, int]],
) -> StageShard:
    marker = read_marker(config.changelog, number, latest.pop(MARKER_KEY, None))
    if marker is not None and config.has_keys and marker.partitions != config.partitions:
        raise RefusedError(
            f"topic {config.source} has {config.partitions} partitions, the state of {config.group} was made "
            f"with {marker.partitions}, so its visitors or users may be elsewhere: {START_OVER}"
        )
    stage = config.create(number, bytes(marker.progress) if marker else None)
    try:
        for key, state in latest.items():
            stage.restore(key.decode(), state)
    except (msgspec.MsgspecError, ValueError):
        raise unreadable_state(config.changelog, number, "a state in it is damaged") from None
    positions = {topic: first for topic, (first, _) in bounds.items()}
    for topic, position in marker.positions.items() if marker is not None else ():
        if topic not in bounds or _is_new_side_input(config, topic, number, marker):
            continue
        first, end = bounds[topic]
        if position > end:
            raise RefusedError(
                f"the state of {config.group} is at offset {position} of {topic} partition {number}, which "
                f"ends at {end}, so the topic was made anew or lost records: {START_OVER}"
            )
        if position < first and topic == config.source:
            log.error("records_lost", topic=topic, partition=number, offsets=first - position)
        positions[topic] = max(position, first)
    return StageShard(number, stage, producer, config, marker.epoch + 1 if marker else 1, positions)

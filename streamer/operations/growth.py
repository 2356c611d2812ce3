"""More partitions: every topic by visitor gets as many as declared, and ties move with the visitors.

The state of the attribution stage is by visitor, and a visitor's next session may come in another partition.
So the state is put into the new partitions in one transaction, while no worker runs. What goes by customer
stays as it is: customers have partitions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import GroupCoordinatorNotAvailableError

from streamer.errors import StreamerError
from streamer.identity.attribution import Progress
from streamer.identity.moving import Share, moved
from streamer.kafka.client import client_arguments
from streamer.kafka.group_members import all_members
from streamer.kafka.partitions import PLACINGS, Placing, placing_of
from streamer.kafka.topics import Topic, admin_client, declared_topics, grow_topics
from streamer.settings import Settings
from streamer.worker.fencing import PRODUCER_BATCH_BYTES, fence, stop_in_time
from streamer.worker.kill_points import pass_by
from streamer.worker.log_reader import LogReader, group_offsets
from streamer.worker.refused import MIGRATE, START_OVER
from streamer.worker.stages.stage_marker import (
    MARKER_KEY,
    STATE_VERSION,
    StageMarker,
    encode,
    newest_marker,
    read_marker,
    unreadable_state,
)

TRANSACTION_TIMEOUT_MS = 600_000
"""Kafka allows 15 minutes."""
SAMPLE = 1000
"""Offsets at the end of each partition of the visitors topic that show how producers choose partitions."""


class GrowthError(StreamerError):
    """The state can't be moved, or not yet. Nothing was changed."""


class Step(StrEnum):
    """What has been done, in this order; where it ends behind one of these, the same call goes on."""

    DRAINED = "every open session is closed and published"
    OTHERS_GROWN = "the topics that the app writes have their partitions"
    TIES_WRITTEN = "the ties are written to their new partitions"
    TIES_MOVED = "the ties have moved"
    CLICKS_GROWN = "the clicks have their partitions"


class Growth(NamedTuple):
    """What was done."""

    topics: dict[str, tuple[int, int]]
    """Partitions before and after, by topic."""
    visitors: int
    """Whose state was moved."""


class _Ties(NamedTuple):
    """The attribution state as it is, by partition, and how producers choose a visitor's partition."""

    shares: dict[int, Share]
    markers: dict[int, StageMarker]
    placing: Placing


async def grow(
    settings: Settings, on_step: Callable[[Step], None] = lambda _: None, *, leave_clicks: bool = False
) -> Growth:
    """Raises GrowthError, RefusedError, BrokerError, TopicError, NotPermittedError, KafkaError.

    The clicks get their partitions last, or, with `leave_clicks`, from somebody else after this. The same
    call goes on where it was ended half-way.
    """
    topics = growing_topics(settings)
    ties = await _ties(settings) if settings.identity.enabled else None
    grown = await grow_topics(settings.kafka, [topic for topic in topics if not topic.is_source])
    on_step(Step.OTHERS_GROWN)
    visitors = 0
    if ties is not None:
        visitors = await _move(settings, ties, on_step)
        on_step(Step.TIES_MOVED)
    if not leave_clicks:
        grown |= await grow_topics(settings.kafka, [topic for topic in topics if topic.is_source])
        on_step(Step.CLICKS_GROWN)
    return Growth(grown, visitors)


def growing_topics(settings: Settings) -> list[Topic]:
    """Those that are to have `topics.partitions`."""
    return [topic for topic in declared_topics(settings) if not topic.keeps_partitions]


async def members_of(settings: Settings) -> list[str]:
    """Of the groups that the app's workers are in."""
    async with admin_client(settings.kafka) as admin:
        try:
            return await all_members(admin, (settings.app.id, *settings.stage_sources))
        except GroupCoordinatorNotAvailableError:  # a cluster that never had a group
            return []


async def partitions_of_ties(settings: Settings) -> int | None:
    """That the visitors' ties are in; None: there are none yet. Raises RefusedError, KafkaError."""
    async with LogReader(client_arguments(settings.kafka)) as reader:
        changelog = settings.attribution_changelog
        marker = (await reader.newest(changelog, [0], newest_marker))[0]
    return None if marker is None else marker.partitions


async def _ties(settings: Settings) -> _Ties | None:
    """The state to move; None: there is none, or it has as many partitions already. Raises GrowthError if a
    worker runs, which may be about to make some."""
    topic, before = settings.attribution_changelog, await partitions_of_ties(settings)
    if before is not None and before >= settings.topics.partitions:
        return None
    if members := await members_of(settings):
        raise GrowthError(f"a worker of {settings.app.id} runs, {members[0]}: {MIGRATE}")
    if before is None:
        return None
    async with LogReader(client_arguments(settings.kafka)) as reader:
        shares, markers = {}, {}
        for number, values in (await reader.latest(topic, range(before))).items():
            marker = read_marker(topic, number, values.pop(MARKER_KEY, None))
            if marker is None:
                raise unreadable_state(topic, number, "it has no marker")
            markers[number] = marker
            progress = msgspec.msgpack.decode(marker.progress, type=Progress)
            states = {key.decode(): state for key, state in values.items() if state is not None}
            shares[number] = Share(progress, states)
        await _check_read(settings, reader, markers)
    return _Ties(shares, markers, await find_placing(settings, len(shares)))


async def _check_read(settings: Settings, reader: LogReader, markers: dict[int, StageMarker]) -> None:
    """Raises GrowthError if the stage has something left to read."""
    group, source = f"{settings.app.id}-attribution", settings.topics.visitors
    async with admin_client(settings.kafka) as admin:
        read = await group_offsets(admin, group, source)
    for topic in (source, settings.topics.links, settings.topics.erasures):
        for number, (first, end) in (await reader.bounds(topic, markers)).items():
            position = read.get(number, 0) if topic == source else markers[number].positions.get(topic, first)
            if max(position, first) < end:
                read_to = f"{topic} partition {number} up to offset {position} of {end}"
                raise GrowthError(f"{group} has read {read_to}: {MIGRATE}")


async def find_placing(settings: Settings, partitions: int) -> Placing:
    """How producers choose a visitor's partition. Raises GrowthError if it is in none of the known ways."""
    topic, numbers = settings.topics.visitors, range(partitions)
    async with LogReader(client_arguments(settings.kafka)) as reader:
        bounds = await reader.bounds(topic, numbers)
        newest = await reader.rest(topic, {n: max(first, end - SAMPLE) for n, (first, end) in bounds.items()})
    keys = ((record.key, number) for number, records in newest.items() for record in records)
    placing = placing_of(keys, partitions)
    if placing is None:
        raise GrowthError(
            f"visitors are in other partitions of {topic} than {' or '.join(PLACINGS)} of their id gives, so "
            "nobody knows where their next sessions come. If partitions were added lately, wait until each "
            f"has {SAMPLE} newer records; else {START_OVER}"
        )
    return placing


async def _move(settings: Settings, ties: _Ties, on_step: Callable[[Step], None]) -> int:
    """How many visitors' states were moved: all of them, or none where it raises KafkaError."""
    group, arguments = f"{settings.app.id}-attribution", client_arguments(settings.kafka)
    max_bytes = 4 * settings.clicks.max_bytes
    shares = moved(ties.shares, ties.placing, settings.topics.partitions)
    names = {number: f"{group}-{number}" for number in shares}
    fenced: dict[int, AIOKafkaProducer] = {}
    for error in (await fence(arguments, names, max_bytes, pass_by, fenced)).values():
        raise error
    for producer in fenced.values():
        await stop_in_time(producer)
    visitors = 0
    async with (
        AIOKafkaProducer(
            **arguments,
            transactional_id=names[0],  # a worker that takes this partition over ends what was left half-way
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=PRODUCER_BATCH_BYTES,
            max_request_size=max(8 * PRODUCER_BATCH_BYTES, max_bytes),
        ) as producer,
        producer.transaction(),
    ):
        for number, share in shares.items():
            before = ties.shares.get(number, Share(Progress(), {})).states
            for key, value in _changed(before, share.states):
                visitors += value is not None
                await producer.send(settings.attribution_changelog, value, key, partition=number)
            marker = _marker(ties.markers.get(number), share.progress, len(shares))
            await producer.send(settings.attribution_changelog, encode(marker), MARKER_KEY, partition=number)
        await producer.flush()
        on_step(Step.TIES_WRITTEN)
    return visitors


def _changed(before: dict[str, bytes], after: dict[str, bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    for visitor_id in before.keys() | after.keys():
        if before.get(visitor_id) != after.get(visitor_id):
            yield visitor_id.encode(), after.get(visitor_id)


def _marker(before: StageMarker | None, progress: Progress, partitions: int) -> StageMarker:
    epoch, positions, ids = (before.epoch, before.positions, before.topic_ids) if before else (0, {}, {})
    return StageMarker(STATE_VERSION, epoch, partitions, positions, msgspec.Raw(encode(progress)), ids)

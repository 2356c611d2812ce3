"""What a live worker has published and how far it is: read from its outputs and its changelog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from schemas import codec
from streamer.errors import StreamerError
from streamer.kafka.client import client_arguments
from streamer.kafka.start import Start, offsets_at
from streamer.pipeline.counters import ClickCounters
from streamer.replay.digests import SCHEMA_OF, Kind, Print, canonical_body, print_of
from streamer.replay.topic_source import reading
from streamer.settings import Settings
from streamer.worker.changelog import ChangelogError
from streamer.worker.log_reader import LogReader

_MARGIN_MS = 600_000
"""Brokers' clocks may differ by less: a record may seem to be published before its session closed."""


class LiveError(StreamerError):
    """What live has published can't be read."""


class LiveState(NamedTuple):
    """Where the worker is in one partition, as of its last commit."""

    commit_number: int
    position: int
    """Offset of the next click it will read."""
    clock_ms: int
    counters: ClickCounters
    rules_version: str
    open_ids: frozenset[str]
    """Sessions that are open, or closed and still to be published."""


async def live_states(settings: Settings, rules_version: str, numbers: list[int]) -> dict[int, LiveState]:
    """By partition; those that no worker has read are left out. Raises LiveError."""
    async with LogReader(client_arguments(settings.kafka)) as reader:
        try:
            found = await reader.recover(settings.changelog, numbers, lambda: None)
        except ChangelogError as error:
            raise LiveError(f"can't tell how far live is from {error}") from None
    return {
        number: LiveState(
            marker.commit_number,
            marker.position,
            marker.clock.now,
            marker.counters,
            marker.rules_version,
            frozenset(window.session_id(rules_version) for window in recovery.sessions),
        )
        for number, recovery in found.items()
        if (marker := recovery.marker) is not None
    }


@dataclass(slots=True)
class Published:
    """A session as live has published it."""

    session_id: str
    visitor_id: str
    started_at: int
    ended_at: int
    closed_at: int
    close_reason: str
    model_version: str
    rules_version: str
    prints: dict[Kind, list[Print]] = field(default_factory=lambda: {kind: [] for kind in SCHEMA_OF})
    """Usually one of each. A click that is sent again after an end event has closed its session makes another
    one of the same id."""


Key = tuple[str, int]
"""session_id and closed_at."""


async def published(settings: Settings, number: int, from_ms: int | None) -> dict[Key, Published]:
    """Final sessions of a partition, in order of publishing: those published after `from_ms`, and some
    before. Committed records only."""
    found: dict[Key, Published] = {}
    for kind in SCHEMA_OF:
        async for message in _messages(settings, getattr(settings.topics, kind), number, from_ms):
            _note(found, kind, message)
    return found


def _note(found: dict[Key, Published], kind: Kind, message: bytes) -> None:
    name, record = codec.decode(message)
    if name != SCHEMA_OF[kind] or not record["is_final"]:
        return
    key = record["session_id"], record["closed_at"]
    if key not in found:
        found[key] = Published(**{f: record[f] for f in Published.__dataclass_fields__ if f != "prints"})
    found[key].prints[kind].append(print_of(kind, canonical_body(kind, message)))


async def _messages(settings: Settings, topic: str, number: int, from_ms: int | None) -> AsyncIterator[bytes]:
    tp = TopicPartition(topic, number)
    async with reading(settings) as consumer:
        start: Start = "earliest" if from_ms is None else max(from_ms - _MARGIN_MS, 0)
        at: int = (await offsets_at(consumer, [tp], start))[tp]
        end: int = (await consumer.end_offsets([tp]))[tp]
        consumer.assign([tp])
        consumer.seek(tp, at)
        while await consumer.position(tp) < end:
            fetched: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=200)
            for records in fetched.values():
                for record in records:
                    if record.value is not None:
                        yield record.value

"""What is left of erased visitors, found by reading all topics to their end.

Only the topic that is compacted by visitor forgets by a tombstone, and the state when the worker drops it.
Every other topic keeps what it has until its retention is over, and this says until when.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from streamer.kafka.client import client_arguments
from streamer.kafka.snapshot import snapshot, visitors_of
from streamer.kafka.topics import find_topic
from streamer.settings import Settings
from streamer.worker.changelog import ChangelogError, SessionSnapshots, decode
from streamer.worker.log_reader import LogReader

_POLL_S = 0.5


@dataclass
class Leftover:
    """Of one topic."""

    topic: str
    records: int = 0
    """Records of these visitors that are still there; tombstones don't count."""
    newest: int | None = None
    """Time of the newest, ms UTC."""
    kept_until: int | None = None
    """When retention lets go of the last of them, ms UTC; None: nothing is left, or nobody can say."""


@dataclass
class Left:
    open_sessions: int
    """In the worker's state."""
    latest_intents: int
    """Visitors whom a look-up by key in the visitors topic still finds."""
    topics: list[Leftover]
    unknown: int
    """Visitors of whom no topic has a record: long gone, or their ids are written differently."""

    @property
    def is_erased(self) -> bool:
        """Whether all is gone but what waits for retention."""
        return not self.open_sessions and not self.latest_intents


async def wait_for_tombstones(
    settings: Settings, visitors: Collection[str], moment: int, timeout_s: float
) -> bool:
    """Whether the workers of all partitions have taken the erasures of `moment` in, within the time."""
    topic = settings.topics.visitors
    partitions = (await find_topic(settings.kafka, topic)).partitions
    wanted = {(visitor.encode(), number) for visitor in visitors for number in range(partitions)}
    deadline = time.monotonic() + timeout_s
    while True:
        async for record in snapshot(settings.kafka, topic, moment):
            if record.value is None:
                wanted.discard((record.key, record.partition))
        if not wanted or time.monotonic() > deadline:
            return not wanted
        await asyncio.sleep(_POLL_S)


async def what_is_left(settings: Settings, visitors: Collection[str]) -> Left:
    """Raises what `snapshot` raises, and ChangelogError."""
    wanted, seen = set(visitors), set[str]()
    names = settings.topics
    found, latest = [], 0
    for topic in (names.clicks, *settings.outputs):
        left, by_key = await _left_in(settings, topic, wanted, seen)
        found.append(left)
        if topic == names.visitors:
            latest = sum(by_key.values())
    found.append(await _left_in_changelog(settings, set(visitors)))
    return Left(await _open_sessions(settings, set(visitors)), latest, found, len(wanted - seen))


async def _left_in(
    settings: Settings, topic: str, wanted: set[str], seen: set[str]
) -> tuple[Leftover, dict[Any, bool]]:
    """What is left, and by (key, partition) whether the last record there is more than a tombstone.

    Adds to `seen` those who are wanted and have a record.
    """
    left = Leftover(topic)
    latest: dict[Any, bool] = {}
    async for record in snapshot(settings.kafka, topic):
        of_these = visitors_of(record.key, record.value) & wanted
        if not of_these:
            continue
        if record.value is not None:
            seen |= of_these
        latest[record.key, record.partition] = record.value is not None
        if record.value is not None:
            left.records += 1
            left.newest = max(left.newest or 0, record.timestamp)
    retention_ms = (await find_topic(settings.kafka, topic)).retention_ms
    if left.newest is not None and retention_ms is not None and retention_ms >= 0:
        left.kept_until = left.newest + retention_ms
    return left, latest


async def _left_in_changelog(settings: Settings, visitors: set[str]) -> Leftover:
    """Old images, which count no more and are trimmed as the sessions beside them close."""
    left = Leftover(settings.changelog)
    async for record in snapshot(settings.kafka, settings.changelog):
        with contextlib.suppress(ChangelogError):
            entry = decode(record.value or b"")
            if isinstance(entry, SessionSnapshots) and any(w.visitor_id in visitors for w in entry.sessions):
                left.records += 1
                left.newest = max(left.newest or 0, record.timestamp)
    return left


async def _open_sessions(settings: Settings, visitors: set[str]) -> int:
    partitions = (await find_topic(settings.kafka, settings.changelog)).partitions
    async with LogReader(client_arguments(settings.kafka)) as reader:
        states = await reader.recover(settings.changelog, range(partitions), lambda: None)
    return sum(window.visitor_id in visitors for state in states.values() for window in state.sessions)

"""Asking Kafka what a take-over has to know: the group's offsets, ends of logs, and the changelog itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaTimeoutError
from aiokafka.structs import TopicPartition

from streamer.kafka.aiokafka_overrides.admin import AdminClient
from streamer.kafka.client import ClientArguments, committed_reader
from streamer.kafka.start import Start, offsets_at
from streamer.worker.changelog import ChangelogError, Marker, decode
from streamer.worker.recovery import Recovery

ANSWER_S = 10.0
"""A frozen broker's partitions have another leader by then, and connections to it are given up."""
T = TypeVar("T")

_PATIENT_FETCHES = 10
_MARKER_WITHIN = 50
"""Offsets from the end of a changelog within which its newest marker usually is."""


async def group_offsets(admin: AIOKafkaAdminClient, group: str, topic: str) -> dict[int, int]:
    """Committed offsets of a consumer group by partition; partitions without one are left out."""
    committed = await admin.list_consumer_group_offsets(group)
    return {tp.partition: at.offset for tp, at in committed.items() if tp.topic == topic and at.offset >= 0}


async def read_group_offsets(
    arguments: ClientArguments, groups: Mapping[str, str]
) -> dict[str, dict[int, int]]:
    """Committed offsets by group and partition, of the topic of each group; none on a cluster that never had
    a group. Raises KafkaError."""
    admin = AdminClient(**arguments)
    try:
        await admin.start()
        return {group: await group_offsets(admin, group, topic) for group, topic in groups.items()}
    except GroupCoordinatorNotAvailableError:
        return {group: {} for group in groups}
    finally:
        await admin.close()


async def unread(
    arguments: ClientArguments, group: str, topic: str, partitions: Iterable[int], start: Start
) -> dict[int, int]:
    """Records that can be read behind a group's offsets, by partition; where it has none, behind `start`.

    Raises KafkaError.
    """
    async with _answered():
        positions = (await read_group_offsets(arguments, {group: topic}))[group]
    async with LogReader(arguments) as reader:
        bounds = await reader.bounds(topic, partitions)
        positions = await reader.starts(topic, bounds.keys() - positions.keys(), start) | positions
    return {number: max(end - max(positions[number], first), 0) for number, (first, end) in bounds.items()}


class LogReader:
    """A consumer without a group that reads whole partitions; use it as a context manager.

    To read two topics, `assign` both first: aiokafka's may hang when it is stopped soon after it was given
    other partitions. Whatever it waits for, it raises KafkaTimeoutError when brokers bring it no further for
    ANSWER_S.
    """

    def __init__(self, arguments: ClientArguments, **options: Any) -> None:
        """`options`: the consumer's."""
        defaults = {"max_partition_fetch_bytes": 8 * 1024 * 1024, "fetch_max_wait_ms": 50}
        self._consumer = committed_reader(arguments, **(defaults | options))

    async def __aenter__(self) -> LogReader:
        await self._consumer.start()
        return self

    def assign(self, partitions: Mapping[str, Iterable[int]]) -> None:
        """Everything that is going to be read, by topic."""
        self._consumer.assign(
            [TopicPartition(t, number) for t, of_t in partitions.items() for number in of_t]
        )

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def bounds(self, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Offset of the first record that is there, and of the next one to come."""
        tps = [TopicPartition(topic, partition) for partition in partitions]
        async with _answered():
            begin = await self._consumer.beginning_offsets(tps)
            end = await self._consumer.end_offsets(tps)
        return {tp.partition: (begin[tp], end[tp]) for tp in tps}

    async def starts(self, topic: str, partitions: Iterable[int], start: Start) -> dict[int, int]:
        """Offsets at which to begin reading."""
        tps = [TopicPartition(topic, partition) for partition in partitions]
        async with _answered():
            return {tp.partition: at for tp, at in (await offsets_at(self._consumer, tps, start)).items()}

    async def hold_nothing(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> set[int]:
        """Partitions without a record in a range of offsets, which is short: transactions end with some."""
        starts = {number: start for number, (start, _) in ranges.items()}
        found = await self._read(topic, starts, {number: end for number, (_, end) in ranges.items()})
        return {number for number, records in found.items() if not records}

    async def records_at(self, topic: str, positions: Mapping[int, int]) -> dict[int, Any]:
        """The first record from an offset on, of each partition that brings one soon."""
        tps = {TopicPartition(topic, number): at for number, at in positions.items()}
        found: dict[int, Any] = {}
        if not tps:
            return found
        self._consumer.pause(*self._consumer.assignment())
        self._consumer.resume(*tps)
        for tp, at in tps.items():
            self._consumer.seek(tp, at)
        for _ in range(_PATIENT_FETCHES):
            for tp, records in (await self._consumer.getmany(*tps, timeout_ms=100)).items():
                found.setdefault(tp.partition, records[0])
            if len(found) == len(tps):
                break
        return found

    async def latest(
        self, topic: str, partitions: Iterable[int], on_fetch: Callable[[], None] = lambda: None
    ) -> dict[int, dict[bytes, bytes | None]]:
        """Of a compacted topic the newest value of each key, by partition. `on_fetch` is called for each."""
        bounds = await self.bounds(topic, partitions)
        found: dict[int, dict[bytes, bytes | None]] = {number: {} for number in bounds}
        async for number, records in self.fetches(topic, bounds):
            on_fetch()
            found[number].update((record.key, record.value) for record in records)
        return found

    async def rest(self, topic: str, starts: Mapping[int, int]) -> dict[int, list[Any]]:
        """Records of each partition from an offset on, up to its end at this moment.

        From its beginning where the offset is beyond the end: the topic was made anew.
        """
        bounds = await self.bounds(topic, starts)
        begins = {n: starts[n] if first <= starts[n] <= end else first for n, (first, end) in bounds.items()}
        return await self._read(topic, begins, {number: end for number, (_, end) in bounds.items()})

    async def _read(
        self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> dict[int, list[Any]]:
        """Records of assigned partitions between two offsets each."""
        found: dict[int, list[Any]] = {number: [] for number in starts}
        async for tp, records in self._each(topic, starts, ends):
            found[tp.partition] += records
        return found

    async def _each(
        self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
        """The same, fetch by fetch. Other partitions are paused meanwhile."""
        tps = {TopicPartition(topic, number): start for number, start in starts.items()}
        if not tps.keys() <= self._consumer.assignment():
            self._consumer.assign(list(tps))
        self._consumer.pause(*self._consumer.assignment())
        self._consumer.resume(*tps)
        for tp, start in tps.items():
            self._consumer.seek(tp, start)
        behind = {tp for tp, start in tps.items() if start < ends[tp.partition]}
        positions, moved_at = dict(tps), time.monotonic()
        while behind:
            for tp, records in (await self._consumer.getmany(*behind, timeout_ms=200)).items():
                yield tp, records
            before = positions
            positions = {tp: await self._consumer.position(tp) for tp in behind}
            behind = {tp for tp, position in positions.items() if position < ends[tp.partition]}
            if positions != before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > ANSWER_S:
                raise KafkaTimeoutError(f"no broker has brought {topic} any further for {ANSWER_S:g} s")

    async def fetches(
        self, topic: str, bounds: Mapping[int, tuple[int, int]]
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        """Partition and records, fetch by fetch, within bounds as `bounds` gives them."""
        starts = {number: first for number, (first, _) in bounds.items()}
        async for tp, records in self._each(
            topic, starts, {number: end for number, (_, end) in bounds.items()}
        ):
            yield tp.partition, records

    async def last_markers(self, topic: str, partitions: Iterable[int]) -> dict[int, Marker | None]:
        """The newest marker of each partition of the changelog; None where there is none.

        Raises ChangelogError as `recover` does.
        """
        return await self.newest(topic, partitions, _newest_marker)

    async def last_records(self, topic: str, partitions: Iterable[int]) -> dict[int, Any | None]:
        """The newest record of each partition; None where there is none."""
        return await self.newest(topic, partitions, lambda _, records: records[-1] if records else None)

    async def newest(
        self, topic: str, partitions: Iterable[int], find: Callable[[TopicPartition, list[Any]], T | None]
    ) -> dict[int, T | None]:
        """What `find` finds among the newest records of each partition; None where there is none.

        Looks further back, in steps that grow, where aborted groups are at the end.
        """
        found: dict[int, T | None] = {}
        wanted, back = await self.bounds(topic, partitions), _MARKER_WITHIN
        while wanted:
            starts = {number: max(first, end - back) for number, (first, end) in wanted.items()}
            records = await self._read(topic, starts, {n: end for n, (_, end) in wanted.items()})
            for number, (first, _) in list(wanted.items()):
                newest = find(TopicPartition(topic, number), records[number])
                if newest is not None or starts[number] == first:
                    found[number] = newest
                    del wanted[number]
            back *= 10
        return found

    async def recover(
        self, topic: str, partitions: Iterable[int], on_progress: Callable[[], None]
    ) -> dict[int, Recovery]:
        """State of every partition as the changelog has it at this moment.

        Raises ChangelogError, its text starting with the partition.
        """
        bounds = await self.bounds(topic, partitions)
        recoveries = {number: Recovery() for number in bounds}
        async for number, records in self.fetches(topic, bounds):
            _feed(recoveries[number], TopicPartition(topic, number), records)
            on_progress()
        for number, recovery in recoveries.items():
            try:
                recovery.finish()
            except ChangelogError as error:
                raise _located(TopicPartition(topic, number), error) from None
        return recoveries


def _newest_marker(tp: TopicPartition, records: list[Any]) -> Marker | None:
    try:
        entries = (decode(record.value) for record in reversed(records))
        return next((entry for entry in entries if isinstance(entry, Marker)), None)
    except ChangelogError as error:
        raise _located(tp, error) from None


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Raises KafkaTimeoutError if what is within isn't done in ANSWER_S."""
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except TimeoutError:
        raise KafkaTimeoutError(f"no broker has answered for {ANSWER_S:g} s") from None


def _feed(recovery: Recovery, tp: TopicPartition, records: list[Any]) -> None:
    try:
        for record in records:
            recovery.feed(record.offset, record.value)
    except ChangelogError as error:
        raise _located(tp, error) from None


def _located(tp: TopicPartition, error: ChangelogError) -> ChangelogError:
    return ChangelogError(f"{tp.topic} partition {tp.partition}: {error}")

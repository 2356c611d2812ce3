"""The topic of a replay's group: its plan, where each partition is, and what came of it.

It has a partition for each of the clicks', and one more for the group as a whole. A value is written under a
name, in chunks that one transaction commits. Whoever claims a partition fences its last owner. A state that
a newer one has replaced is deleted, for states hold what visitors did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from streamer.errors import UsageError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments
from streamer.kafka.permissions import check_permissions
from streamer.kafka.topics import Topic, create_topics, find_topic
from streamer.kafka.trimming import trim
from streamer.settings import Settings

CHUNK_BYTES = 512 * 1024
_BATCH_BYTES = 1024 * 1024
_TRANSACTION_MS = 60_000
_POLL_MS = 100


class JobTopic(NamedTuple):
    """Where the group's members find each other; also the name of their consumer group."""

    settings: Settings
    name: str
    whole: int
    """The partition of the group as a whole; the ones before it are those of the clicks."""

    @classmethod
    async def made(cls, settings: Settings, group: str) -> JobTopic:
        """Create it if it isn't there. Raises UsageError if the clicks had other partitions then."""
        lanes = (await find_topic(settings.kafka, settings.topics.clicks)).partitions
        name = f"{settings.app.id}-replay-{group}"
        config = {"cleanup.policy": "delete", "retention.ms": "-1"}
        await create_topics(settings.kafka, [Topic(name, lanes + 1, settings.topics.replication, config)])
        found = (await find_topic(settings.kafka, name)).partitions
        if found != lanes + 1:
            raise UsageError(
                f"topic {name} has {found} partitions, expected {lanes + 1}, one more than the clicks have "
                "now: go on with another --group"
            )
        needed = [Acl("topic", name, operation) for operation in ("Read", "Write", "Delete")]
        needed += [Acl("group", name, "Read"), Acl("transactional-id", f"{name}-", "Write", "prefixed")]
        await check_permissions(settings.kafka, needed)
        return cls(settings, name, lanes)


class Values:
    """The values of one partition as they are committed; use it as a context manager."""

    def __init__(self, job: JobTopic, number: int) -> None:
        self.found: dict[str, bytes] = {}
        """Name -> its latest value."""
        self._tp = TopicPartition(job.name, number)
        self._parts: dict[str, list[bytes]] = {}
        self._consumer: Any = AIOKafkaConsumer(
            **client_arguments(job.settings.kafka),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=_POLL_MS,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign([self._tp])
        self._consumer.seek(self._tp, (await self._consumer.beginning_offsets([self._tp]))[self._tp])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def refresh(self) -> dict[str, bytes]:
        """Read on to the end; returns what was found so far."""
        end = (await self._consumer.end_offsets([self._tp]))[self._tp]
        while await self._consumer.position(self._tp) < end:
            for records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    self._take(record.key.decode(), record.value)
        return self.found

    def _take(self, key: str, chunk: bytes) -> None:
        name, _, place = key.rpartition(":")
        index, _, count = place.partition("/")
        if index == "0":
            self._parts[name] = []
        parts = self._parts.get(name)
        if parts is None:  # the chunks before were deleted: a newer value follows
            return
        parts.append(chunk)
        if len(parts) == int(count):
            self.found[name] = b"".join(self._parts.pop(name))


class Claim:
    """The right to write what concerns one partition, until somebody else claims it."""

    def __init__(self, job: JobTopic, number: int) -> None:
        self._job = job
        self.number = number
        self._producer = AIOKafkaProducer(
            **client_arguments(job.settings.kafka),
            transactional_id=f"{job.name}-{number}",
            transaction_timeout_ms=_TRANSACTION_MS,
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 * _BATCH_BYTES,
        )

    async def __aenter__(self) -> Self:
        """Fences whoever had it, and aborts what they had not committed."""
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(KafkaError):  # one that was fenced says so again
            await self._producer.stop()

    async def put(self, values: Mapping[tuple[int, str], bytes]) -> None:
        """Write values by (partition, name), all of them or none.

        Raises KafkaError; ProducerFenced once somebody else has the claim.
        """
        sent: list[asyncio.Future[Any]] = []
        try:
            async with self._producer.transaction():
                for (number, name), value in values.items():
                    for key, chunk in _chunks(name, value):
                        future = await self._producer.send(self._job.name, chunk, key=key, partition=number)
                        future.add_done_callback(_seen)
                        sent.append(future)
                records = [await future for future in sent]
        except IllegalOperation:  # what the client says once a send has met with a fence
            raise ProducerFenced from None
        own = min((record.offset for record in records if record.partition == self.number), default=0)
        await trim(client_arguments(self._job.settings.kafka), self._job.name, {self.number: own})


def _seen(future: asyncio.Future[Any]) -> None:
    """A failure is told once, by the transaction."""
    if not future.cancelled():
        future.exception()


def _chunks(name: str, value: bytes) -> Iterable[tuple[bytes, bytes]]:
    """(key, chunk)"""
    parts = [value[at : at + CHUNK_BYTES] for at in range(0, len(value), CHUNK_BYTES)] or [b""]
    for index, part in enumerate(parts):
        yield f"{name}:{index}/{len(parts)}".encode(), part

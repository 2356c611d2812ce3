"""The topic of a replay's group: its plan, where each partition is, and what came of it.

It has a partition for each of the clicks', and one more for the group as a whole. A value is written under a
name, in chunks that one transaction commits. Whoever claims a partition fences its last owner. A checkpoint
that a newer one has replaced is deleted, for checkpoints hold what visitors did. The consumer group, which
says whose each partition is, has the topic's name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from streamer.core.stored_state import encode_state, state_decoder
from streamer.errors import StreamerError, UsageError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments, committed_reader
from streamer.kafka.permissions import check_permissions
from streamer.kafka.topics import Topic, create_topics, find_topic
from streamer.kafka.trimming import trim
from streamer.pipeline.counters import ClickCounters
from streamer.replay.customers import UserTotals
from streamer.replay.digests import OutputDigests
from streamer.replay.engine import PartitionResult
from streamer.replay.journal import STATE_VERSION, DurableOutput, PartitionCheckpoint
from streamer.replay.partition_replay import SelectionCounters
from streamer.replay.plan import ReplayPlan
from streamer.settings import Settings

PLAN, ENDED, CHECKPOINT = "plan", "ended", "checkpoint"
"""Names of values; a partition's progress has its number in its name."""
CHUNK_BYTES = 512 * 1024
SESSION_TIMEOUT_MS = 10_000
"""How long a member that says nothing keeps its partitions."""
HEARTBEAT_MS = 2_000
_BATCH_BYTES = 1024 * 1024
_TRANSACTION_MS = 60_000
_POLL_MS = 100

Value = TypeVar("Value", bound=msgspec.Struct)


class GroupError(StreamerError):
    """The members of the group can't work together."""


class GroupPlan(msgspec.Struct):
    """The plan that all members follow."""

    plan: ReplayPlan
    token: str
    """Name of a file in the folder of rows: whoever sees it sees the rows of the others."""


class StoredResult(msgspec.Struct):
    """What one partition came to."""

    selection: SelectionCounters
    counters: ClickCounters
    digests: list[dict[str, Any]]
    output: DurableOutput

    def restored(self) -> PartitionResult:
        digests = [OutputDigests(each) for each in self.digests]
        return PartitionResult(self.selection, self.counters, digests, self.output)


class PartitionProgress(msgspec.Struct):
    """How far a partition is."""

    read: int
    """Records, of how many at most the plan says."""
    result: StoredResult | None = None
    """Once it is done."""


class GroupResult(msgspec.Struct):
    """All that is left of a replay that has ended."""

    begun: GroupPlan
    results: dict[int, StoredResult]
    rows: int | None
    users: list[UserTotals] = []


class ClaimedCheckpoint(msgspec.Struct):
    """A partition's checkpoint, and how often the partition was claimed."""

    epoch: int
    checkpoint: PartitionCheckpoint | None


class GroupTopic(NamedTuple):
    """Where the group's members find each other."""

    settings: Settings
    name: str
    whole: int
    """The partition of the group as a whole; the ones before it are those of the clicks."""

    @classmethod
    async def made(cls, settings: Settings, group: str) -> GroupTopic:
        """Create it if it isn't there. Raises UsageError if the clicks had other partitions then."""
        count = (await find_topic(settings.kafka, settings.session_source)).partitions
        name = f"{settings.app.id}-replay-{group}"
        config = {"cleanup.policy": "delete", "retention.ms": "-1"}
        await create_topics(settings.kafka, [Topic(name, count + 1, settings.topics.replication, config)])
        found = (await find_topic(settings.kafka, name)).partitions
        if found != count + 1:
            raise UsageError(
                f"topic {name} has {found} partitions, expected {count + 1}, one more than the clicks have "
                "now: go on with another --group"
            )
        needed = [Acl("topic", name, operation) for operation in ("Read", "Write", "Delete")]
        needed += [Acl("group", name, "Read"), Acl("transactional-id", f"{name}-", "Write", "prefixed")]
        await check_permissions(settings.kafka, needed)
        return cls(settings, name, count)

    def read(self, value: bytes, of_type: type[Value]) -> Value:
        """Raises GroupError for what another version of this program has written."""
        try:
            found = state_decoder(of_type).decode(value)
        except msgspec.MsgspecError:
            found = None
        checkpoint = found.checkpoint if isinstance(found, ClaimedCheckpoint) else None
        if found is None or (checkpoint is not None and checkpoint.version != STATE_VERSION):
            raise GroupError(f"topic {self.name} holds a replay of another version: take another --group")
        return found


class CommittedValues:
    """The values of one partition as they are committed; use it as a context manager."""

    def __init__(self, topic: GroupTopic, number: int) -> None:
        self.found: dict[str, bytes] = {}
        """Name -> its latest value."""
        self._tp = TopicPartition(topic.name, number)
        self._parts: dict[str, list[bytes]] = {}
        self._consumer = committed_reader(client_arguments(topic.settings.kafka), fetch_max_wait_ms=_POLL_MS)

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


class PartitionClaim:
    """The right to write what concerns one partition, until somebody else claims it."""

    def __init__(self, topic: GroupTopic, number: int) -> None:
        self._topic = topic
        self.number = number
        self._producer = AIOKafkaProducer(
            **client_arguments(topic.settings.kafka),
            transactional_id=f"{topic.name}-{number}",
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
                        future = await self._producer.send(self._topic.name, chunk, key=key, partition=number)
                        future.add_done_callback(_seen)
                        sent.append(future)
                records = [await future for future in sent]
        except IllegalOperation:  # what the client says once a send has met with a fence
            raise ProducerFenced from None
        own = min((record.offset for record in records if record.partition == self.number), default=0)
        await trim(client_arguments(self._topic.settings.kafka), self._topic.name, {self.number: own})


class GroupCheckpointStore:
    """Keeps the checkpoints of one partition for as long as its claim holds."""

    def __init__(self, topic: GroupTopic, claim: PartitionClaim, claimed: ClaimedCheckpoint) -> None:
        self.epoch = claimed.epoch + 1
        self._topic = topic
        self._claim = claim
        self._before = claimed.checkpoint

    async def take_over(self) -> None:
        """Commit the claim: rows of no other epoch's owner can come to have the names of this one's."""
        await self._claim.put(
            {(self._claim.number, CHECKPOINT): encode_state(ClaimedCheckpoint(self.epoch, self._before))}
        )

    async def save(self, number: int, checkpoint: PartitionCheckpoint) -> None:
        snapshot = checkpoint.snapshot
        progress = PartitionProgress(snapshot.counters.received)
        if checkpoint.done:
            progress.result = StoredResult(
                snapshot.selection, snapshot.counters, checkpoint.digests, checkpoint.output
            )
            snapshot.sessions = []  # what is still open is counted, and nobody goes on with it
        values = {
            (number, CHECKPOINT): encode_state(ClaimedCheckpoint(self.epoch, checkpoint)),
            (self._topic.whole, progress_name(number)): encode_state(progress),
        }
        await self._claim.put(values)


class GroupMember:
    """A process's place in the consumer group; use it as a context manager: inside, it is in the group.

    The group reads nothing: its assignment is all that is wanted of it.
    """

    def __init__(self, topic: GroupTopic) -> None:
        self._topic = topic.name
        self._consumer: Any = AIOKafkaConsumer(
            **client_arguments(topic.settings.kafka),
            group_id=topic.name,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.subscribe([self._topic], listener=_Paused(self._consumer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def mine(self) -> set[int]:
        """Partitions of this member now. Ask regularly: it is the sign of life."""
        await self._consumer.getmany(timeout_ms=0)
        return {tp.partition for tp in self._consumer.assignment()}


class _Paused(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Any) -> None:
        pass

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._consumer.pause(*assigned)


def progress_name(number: int) -> str:
    return f"progress-{number}"


def _seen(future: asyncio.Future[Any]) -> None:
    """The transaction reports a failure."""
    if not future.cancelled():
        future.exception()


def _chunks(name: str, value: bytes) -> Iterable[tuple[bytes, bytes]]:
    """(key, chunk)"""
    parts = [value[at : at + CHUNK_BYTES] for at in range(0, len(value), CHUNK_BYTES)] or [b""]
    for index, part in enumerate(parts):
        yield f"{name}:{index}/{len(parts)}".encode(), part

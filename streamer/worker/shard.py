"""One shard of the session table: the state of one source partition and the producer that owns it.

A commit is one Kafka transaction: outputs, snapshots of changed visitors, and a marker with the source
position. What goes into it is fixed between two awaits, so that records may be processed before and after.
After any failure a shard is dropped and read back from the changelog; it is never repaired in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, ProducerFenced
from aiokafka.structs import RecordMetadata

from streamer.core.rules import SessionRules
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.aiokafka_overrides.packing import Message, batches_of
from streamer.kafka.aiokafka_overrides.transactions import add_to_transaction
from streamer.kafka.client import ClientArguments
from streamer.models.processor import processor_kind
from streamer.models.scorer import Scored, ScoreError
from streamer.pipeline.dead_letters import Header
from streamer.pipeline.partition import LOG_APPEND_TIME, Decode, Partition, PendingOutputs
from streamer.pipeline.records import RecordWriter, unscored
from streamer.registry.outputs import RegistryIds, prefixed
from streamer.schemas.click import Session
from streamer.settings import Settings
from streamer.worker.changelog import Marker, SessionSnapshots, encode, written_version
from streamer.worker.changelog_groups import StateLog, in_chunks, rows_of
from streamer.worker.fencing import stop_in_time
from streamer.worker.kill_points import KillPoint, Reach
from streamer.worker.options import WorkerOptions
from streamer.worker.scoring import beside
from streamer.worker.shadow import Shadow
from streamer.worker.start_checks import StartedOn

if TYPE_CHECKING:
    from streamer.worker.tracing import CommitTrace, Tracing

Score = Callable[[Sequence[Session]], Awaitable[list[Scored | ScoreError]]]


_NO_HEADERS: list[Header] = []


@dataclass(frozen=True)
class ShardConfig:
    """What all shards of a worker have in common."""

    settings: Settings
    arguments: ClientArguments
    rules: SessionRules
    registry: RegistryIds
    decode: Decode
    writer: RecordWriter
    score: Score
    shadow: Shadow | None
    options: WorkerOptions
    source: StartedOn
    """The topics of the state, and how many partitions of the clicks are used."""
    reach: Reach
    tracing: Tracing | None = None
    """None: nothing is traced, and records have no headers."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose turn it is to make snapshots: what each shard does at a stretch shall not add up."""


class Committed(NamedTuple):
    """What one commit did, for the metrics; durations in seconds."""

    sessions: list[Session]
    late: int
    dead: list[str]
    score_s: float
    commit_s: float


class _Snapshot(NamedTuple):
    """The state of one moment, for a commit to make durable."""

    outputs: PendingOutputs
    records: list[bytes]
    """Of the changelog: snapshots of some visitors' sessions, and the marker."""
    position: int
    changed: list[str]
    """Visitors whose sessions are in it."""
    gone: list[str]
    """Visitors with an older snapshot that doesn't count any more."""


class Shard:
    """Partition, producer and changelog bookkeeping; `producer` is started and has fenced the last owner."""

    def __init__(
        self,
        partition: Partition,
        producer: AIOKafkaProducer,
        state_log: StateLog,
        config: ShardConfig,
        last: Marker | None,
    ) -> None:
        """`last`: that of the last commit; None if there was none."""
        self.partition = partition
        self.producer = producer
        self.state_log = state_log
        self.committed_position = partition.position
        self.broker_time = (0, time.monotonic())
        """The latest broker time that was seen (ms UTC), and when (monotonic seconds)."""
        self.due = asyncio.Event()
        """Set where the next commit should not wait for its time, and when there is none to come."""
        self.seek_count = 0
        """Which seek of the source this state belongs to; batches from before it are not for it."""
        self.epoch = last.epoch + 1 if last else 1
        """Number of take-overs of this shard so far."""
        self.drained = last.drained if last else 0
        """Source offset before which every session was closed by a drain."""
        self._commit_number = last.commit_number if last else 0
        self._claims = set(config.settings.outputs) - set(last.topics.outputs if last else ())
        """Outputs that no committed marker names yet: the next commit marks them as written to."""
        if self.number >= config.source.user_partitions:
            self._claims -= set(config.settings.by_user)
        self._config = config
        self._own_version = written_version(
            keeps_extras=bool(config.settings.clicks.keep) or config.tracing is not None,
            holds_closed=config.rules.revise_within_ms > 0,
        )
        # What earlier settings put into sessions stays in them until they close.
        self._state_version = max(self._own_version, last.state_version if last else 0)
        self._busy = asyncio.Lock()
        self._failed = False

    @property
    def number(self) -> int:
        return self.partition.number

    @property
    def position(self) -> int:
        """Offset of the next click."""
        return self.partition.position

    @property
    def size(self) -> int:
        """Open sessions."""
        return self.partition.sessionizer.open_count

    @property
    def hurries(self) -> bool:
        """Whether a customer has just logged in, whose session the identity stages are to have soon."""
        return self.partition.has_login

    @property
    def is_dirty(self) -> bool:
        """Whether there is anything to commit."""
        partition = self.partition
        return (
            partition.has_pending
            or partition.sessionizer.changed_count > 0
            or partition.position != self.committed_position
        )

    async def commit(self, *, force: bool = False) -> Committed | None:
        """Make everything up to the partition's position durable; None if there was nothing to do.

        After a commit that failed there never is: the shard is of no use any more. Raises KafkaError if the
        transaction failed, also when another owner has fenced this one.
        """
        async with self._busy:
            if self._failed or not (force or self.is_dirty):
                return None
            self._failed = True  # until it hasn't: whatever happens on the way, the producer may be done for
            try:
                with only_ours():
                    committed = await self._commit()
            except IllegalOperation:
                # What the client says to a send after a fence that an earlier send has met with.
                raise ProducerFenced from None
            self._failed = False
            return committed

    def saw_broker_time(self, broker_ms: int, monotonic_s: float) -> None:
        """Note that the broker's clock showed `broker_ms`, or more, at this moment."""
        if broker_ms >= self.broker_time[0]:
            self.broker_time = (broker_ms, monotonic_s)

    async def close(self) -> None:
        """Stop the producer; an open transaction is aborted by the next owner."""
        self.due.set()
        await stop_in_time(self.producer)

    async def _commit(self) -> Committed:
        self._commit_number += 1
        snapshot = await self._snapshot()
        tracing, sessions = self._config.tracing, snapshot.outputs.sessions
        async with nullcontext() if tracing is None else tracing.commit(self.number, sessions) as trace:
            return await self._publish(snapshot, trace)

    async def _publish(self, snapshot: _Snapshot, trace: CommitTrace | None) -> Committed:
        outputs = snapshot.outputs
        started = time.monotonic()
        scored, shadow = await self._scored(outputs.sessions) if outputs.sessions else ([], {})
        scored_at = time.monotonic()
        if trace is not None:
            trace.scored(scored)
        dead = outputs.dead + [
            unscored(session, result.reason)
            for session, result in zip(outputs.sessions, scored, strict=True)
            if isinstance(result, ScoreError) and session.is_final
        ]
        outputs = outputs._replace(dead=dead)
        first, last = await self._transact(outputs, scored, shadow, snapshot.records, trace)
        self.state_log.committed(self._commit_number, first.offset, snapshot.changed, snapshot.gone)
        self.committed_position = snapshot.position
        if last.timestamp_type == LOG_APPEND_TIME:
            self.saw_broker_time(last.timestamp, time.monotonic())
        reasons = [forwarded.reason for forwarded in dead]
        ended = time.monotonic()
        return Committed(outputs.sessions, len(outputs.late), reasons, scored_at - started, ended - scored_at)

    async def _scored(
        self, sessions: list[Session]
    ) -> tuple[list[Scored | ScoreError], Mapping[str, list[Message]]]:
        """Results of the live bundle, and the messages of the shadow bundle if there is one."""
        shadow = self._config.shadow
        scored = await self._config.score(sessions)
        return scored, await shadow.messages(sessions) if shadow is not None else {}

    async def _transact(
        self,
        outputs: PendingOutputs,
        scored: list[Scored | ScoreError],
        shadow: Mapping[str, list[Message]],
        state: list[bytes],
        trace: CommitTrace | None,
    ) -> tuple[RecordMetadata, RecordMetadata]:
        """Outputs and state in one transaction; returns where the state's first and last record went."""
        await self.producer.begin_transaction()
        for topic in self._claims:
            add_to_transaction(self.producer, topic, self.number)
        self._config.reach(KillPoint.BEFORE_OUTPUTS)
        sent = await self._send_outputs(outputs, scored, trace)
        for topic, messages in shadow.items():
            sent += await self._send(topic, messages)
        self._config.reach(KillPoint.BETWEEN_OUTPUTS_AND_MARKER)
        group = await self._send(self._config.settings.changelog, ((None, value, []) for value in state))
        delivered = await all_of([*group, *sent])
        self._config.reach(KillPoint.BEFORE_COMMIT)
        await self.producer.commit_transaction()
        self._claims = set()
        self._config.reach(KillPoint.AFTER_COMMIT)
        return delivered[0], delivered[len(group) - 1]

    async def _snapshot(self) -> _Snapshot:
        partition, sessionizer = self.partition, self.partition.sessionizer
        async with self._config.turn:
            stale = self.state_log.stale(sessionizer.changed_count)
            if stale:
                await asyncio.sleep(0)
            # This is the moment.
            outputs, position = partition.take(), partition.position
            visitors, gone = self.state_log.next_group(stale, *sessionizer.take_changed())
            if not sessionizer.open_count and not sessionizer.held_count:
                self._state_version = self._own_version
            chunks: list[list[Any]] = [*in_chunks(sessionizer.sessions_of(visitors))]
            # The first is encoded at once: usually there is no other, and nothing is copied.
            chunks[1:] = map(rows_of, chunks[1:])
            marker = encode(self._marker(len(chunks), gone))
            records: list[bytes] = []
            for chunk in chunks:
                if records:
                    await asyncio.sleep(0)
                records.append(encode(SessionSnapshots(self._state_version, self._commit_number, chunk)))
        return _Snapshot(outputs, [*records, marker], position, list(visitors), gone)

    def _marker(self, chunks: int, gone: list[str]) -> Marker:
        sessionizer, partition = self.partition.sessionizer, self.partition
        return Marker(
            state_version=self._state_version,
            epoch=self.epoch,
            commit_number=self._commit_number,
            chunks=chunks,
            position=partition.position,
            partitions=self._config.source.partitions,
            rules_version=sessionizer.rules.version,
            clock=sessionizer.clock,
            counters=partition.counters,
            gone=gone,
            erasures=partition.erasures.settle(sessionizer.clock.now),
            dead_letters=partition.dead_letters,
            drained=self.drained,
            topics=self._config.source.topics,
            processor=processor_kind(),
        )

    async def _send_outputs(
        self, outputs: PendingOutputs, scored: list[Scored | ScoreError], trace: CommitTrace | None
    ) -> list[asyncio.Future[RecordMetadata]]:
        write, topics = self._config.writer.write_all, self._config.settings.topics
        records = await beside(write, outputs.sessions, scored)
        published = topics.embeddings, topics.intents, topics.visitors
        if trace is None:
            headers = [[_NO_HEADERS] * len(records)] * len(published)
        else:
            headers = [await trace.headers(topic) for topic in published]
        embeddings, intents, visitors = (zip(records, each, strict=True) for each in headers)
        return [
            *await self._send(topics.embeddings, ((r.key, r.embedding, own) for r, own in embeddings)),
            *await self._send(topics.intents, ((r.key, r.intent, own) for r, own in intents)),
            *await self._send(topics.visitors, ((v.encode(), None, []) for v in outputs.erased)),
            *await self._send(topics.visitors, ((r.key, r.visitor, own) for r, own in visitors)),
            *await self._send(topics.late, outputs.late),
            *await self._send(topics.dlq, outputs.dead),
        ]

    async def _send(self, topic: str, messages: Iterable[Message]) -> list[asyncio.Future[RecordMetadata]]:
        """Hand messages to the producer in as few batches as they fit into."""
        messages = prefixed(messages, topic, self._config.registry.prefixes)
        return [
            await self.producer.send_batch(batch, topic, partition=self.partition.number)
            for batch in batches_of(self.producer, messages)
        ]


async def all_of(futures: list[asyncio.Future[RecordMetadata]]) -> list[RecordMetadata]:
    """Results of all; raises the first failure once each has ended, so that none goes unheard."""
    results = await asyncio.gather(*futures, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]

"""Faust's aiokafka driver, delivering each fetch of a partition as one batch.

Why each override is there:
- one message a fetch: an event at a time costs Faust about 100 µs;
- positions come from the session table, not from the group: seeks are applied between two fetches, so that
  no record of an old position is taken for one of the new;
- the group's offsets follow the table's markers and never lead them;
- the driver sleeps a whole second when all buffers are full: here it waits for one to drain;
- records go on as a parser gives them: wrapping each costs more than parsing it;
- it notes fetches that came back empty at the end of a partition, proof of idleness, and those that came back
  empty before it: somebody else's open transaction;
- a group offset that can't be committed is no reason to end: nothing starts there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import aiokafka
import structlog
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streamer.kafka.aiokafka_overrides.assignor import assignor_of_first
from streamer.kafka.aiokafka_overrides.fetch_answers import FetchAnswer, observe_answers
from streamer.kafka.aiokafka_overrides.fetched import leave_records_as_they_are
from streamer.kafka.aiokafka_overrides.membership import Membership
from streamer.logs import FAUST_SERVICES
from streamer.pipeline.partition import Record

BATCH_RECORDS = 2000

log = structlog.get_logger(__name__)


class FetchedRecord(Record, Protocol):
    """A record as a parser gives it: a compiled one, or aiokafka's."""

    @property
    def timestamp_type(self) -> int: ...


class RecordBatch(NamedTuple):
    """Consecutive records of one partition. `seek_count`: the seek of it that they came after."""

    tp: TP
    records: list[FetchedRecord]
    seek_count: int
    received_at: float
    """Monotonic seconds."""


class EmptyFetch(NamedTuple):
    """A fetch that found nothing at `offset`, the end of the partition; sent at monotonic `sent_at` s.

    `records_end` is the offset behind the last record before it: transactions end with offsets that hold
    none.
    """

    offset: int
    records_end: int
    sent_at: float


class OpenTransaction(NamedTuple):
    """What holds a partition up at `offset`: a producer's transaction, so that nothing behind it is stable.

    `records_end` as in EmptyFetch. Seen first at monotonic `since` s.
    """

    offset: int
    records_end: int
    since: float


class Shards(Protocol):
    """Where the consumer is handed to."""

    consumer: BatchConsumer | None


class Table(Protocol):
    """What the transport needs of a stage's table."""

    @property
    def shards(self) -> Shards: ...

    @property
    def partitions(self) -> int:
        """Partitions of the source that are used, from the first on."""

    def committed_positions(self) -> Mapping[TP, int]:
        """Source positions that are durable, for the group's offsets."""


class BatchSchema(Schema):
    """The message's value is a RecordBatch already; the agent decodes in bulk."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, **_: Any) -> Any:
            return create_event(None, message.value, None, message)

        return decode


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    logger = FAUST_SERVICES

    def _create_worker_consumer(self, _transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = assignor_of_first(self.app.table.partitions)
        return aiokafka.AIOKafkaConsumer(
            **self.app.client_arguments,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=BATCH_RECORDS,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=500,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
        )

    async def on_start(self) -> None:
        await super().on_start()
        client = self._ensure_consumer()
        self.consumer.membership.attach(client._coordinator)
        leave_records_as_they_are(client)
        observe_answers(client, self.consumer.note_answer)

    async def _fetch_records(self, consumer: Any, active_partitions: Any, **kwargs: Any) -> Any:
        try:
            records = await super()._fetch_records(consumer, active_partitions, **kwargs)
            for tp, fetched in records.items():
                self.consumer.records_end[TP(tp.topic, tp.partition)] = fetched[-1].offset + 1
            return records
        except NoOffsetForPartitionError:
            # Fetched before the session table could say where to start; its seek comes next.
            return {}
        except OffsetOutOfRangeError as error:
            # Retention was faster, or the topic was made anew: a take-over finds out and says so.
            self.consumer.out_of_range.update(TP(tp.topic, tp.partition) for tp in error.args[0])
            return {}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if self.consumer.membership.joining:
            return False  # it would wait for a member that was killed
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(tp.topic, tp.partition): (offset, "") for tp, offset in offsets.items()}
            )
        except KafkaError as error:
            log.debug("group_offsets_not_committed", error=type(error).__name__)
            return False
        return True


class BatchConsumer(driver.Consumer):
    """Delivers RecordBatches; see the module's docstring."""

    logger = FAUST_SERVICES

    positions: Table | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.empty_fetches: dict[TP, EmptyFetch] = {}
        """The last one of each partition; see `empty_fetch`."""
        self.open_transactions: dict[TP, OpenTransaction] = {}
        """Of partitions that were read up to one; see `held_up`."""
        self.out_of_range: set[TP] = set()
        """Partitions whose position the source no longer has, or not yet."""
        self.ends: dict[TP, int] = {}
        """Offset behind the last record of each partition, as of the last answered fetch."""
        self.answered_at = time.monotonic()
        """Monotonic seconds of the last answered fetch."""
        self.records_end: dict[TP, int] = {}
        self._seeks: dict[TP, int] = {}
        self._seek_counts: dict[TP, int] = {}
        self.held: set[TP] = set()
        """Partitions of which nothing is to be delivered for now."""
        self._open: set[TP] = set()
        """Partitions with an open shard; of others nothing is to be delivered."""
        self._group_offsets: dict[TP, int] = {}
        self._buffer_dropped = asyncio.Event()
        super().__init__(*args, **kwargs)
        self.membership = Membership(self.app.conf.consumer_group_instance_id)
        self.positions = self.app.table
        self.app.table.shards.consumer = self

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def note_answer(self, answer: FetchAnswer) -> None:
        """Called in the consumer's own thread."""
        tp = TP(*answer.tp)
        self.answered_at = time.monotonic()
        self.ends[tp] = answer.end
        records_end = self.records_end.get(tp, 0)
        if answer.end == answer.offset == answer.position:
            self.empty_fetches[tp] = EmptyFetch(answer.offset, records_end, answer.sent_at)
        if answer.offset == answer.position == answer.stable_end < answer.end:
            before = self.open_transactions.get(tp)
            if before is None or before.offset != answer.offset:
                self.open_transactions[tp] = OpenTransaction(answer.offset, records_end, self.answered_at)
        else:
            self.open_transactions.pop(tp, None)

    # -- seeking

    def request_seek(self, tp: TP, offset: int) -> int:
        """Go on at `offset` from the next fetch; returns the seek count of the batches that follow."""
        self._seeks[tp] = offset
        self._open.add(tp)
        self.out_of_range.discard(tp)
        self._seek_counts[tp] = self._seek_counts.get(tp, 0) + 1
        self._forget_answers(tp)
        return self._seek_counts[tp]

    def empty_fetch(self, tp: TP) -> EmptyFetch | None:
        """The last fetch that found nothing, since the last seek. Before the first, the client fetches from
        where the group's offset is, and finds nothing there at the end that was committed."""
        return None if tp in self._seeks else self.empty_fetches.get(tp)

    def lag(self, tp: TP, position: int) -> int:
        """Records of a partition behind `position`, as of the last answered fetch."""
        empty = self.empty_fetch(tp)
        end = self.ends.get(tp, position)
        if empty is not None and empty.offset >= end and position >= empty.records_end:
            return 0  # transactions end with offsets that hold no record
        return max(end - position, 0)

    def is_read(self, tp: TP, position: int) -> bool:
        """Whether nothing behind `position` can be read, as of the last answered fetch."""
        if tp in self._seeks or tp not in self.ends:
            return False
        return self.lag(tp, position) == 0 or self.held_up(tp, position) is not None

    def held_up(self, tp: TP, position: int) -> OpenTransaction | None:
        """The transaction before which everything is processed, if that is all that can be read."""
        found = None if tp in self._seeks else self.open_transactions.get(tp)
        return found if found is not None and position >= found.records_end else None

    def seek_count(self, tp: TP) -> int:
        """How often a seek was requested for this partition."""
        return self._seek_counts.get(tp, 0)

    def _forget_answers(self, tp: TP) -> None:
        self.empty_fetches.pop(tp, None)
        self.open_transactions.pop(tp, None)

    async def perform_seek(self) -> None:
        """Positions are the session table's: it has requested its seeks when it took its shards over."""

    async def _apply_seeks(self) -> None:
        assigned = self.assignment()
        self._seeks = {tp: offset for tp, offset in self._seeks.items() if tp in assigned}
        seeks = dict(self._seeks)
        if seeks:
            await self.seek_wait(seeks)
            for tp, offset in seeks.items():
                self.records_end[tp] = offset
                self._forget_answers(tp)
                if self._seeks.get(tp) == offset:  # none was asked for meanwhile
                    del self._seeks[tp]

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if self.flow_active:
                    await self._apply_seeks()
                records = await self._next_records()
                generation = self.app.consumer_generation_id
                await asyncio.sleep(0)
                if self.flow_active and not self.should_stop:
                    await self._deliver_all(records, generation)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _next_records(self) -> Mapping[TopicPartition, list[FetchedRecord]]:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions() & self._open - self.held
        if active:
            return await self._getmany(active_partitions=active, timeout=0.5) or {}
        self._buffer_dropped.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._buffer_dropped.wait(), 0.1)
        return {}

    async def _deliver_all(
        self, records: Mapping[TopicPartition, list[FetchedRecord]], generation: int
    ) -> None:
        received_at = time.monotonic()
        for topic_partition, fetched in records.items():
            tp = TP(topic_partition.topic, topic_partition.partition)
            if tp in self._seeks:
                continue
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            batch = RecordBatch(tp, fetched, self.seek_count(tp), received_at)
            await self.wait_first(self.callback(self._message(batch)), self.suspend_flow.wait())

    def _message(self, batch: RecordBatch) -> ConsumerMessage:
        last = batch.records[-1]
        return ConsumerMessage(
            batch.tp.topic,
            batch.tp.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            None,
            None,
            batch,
            None,
            -1,
            -1,
            batch.tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._buffer_dropped.set()

    # -- the group's offsets

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Give the group the positions of the markers: for displays of lag, nothing starts there."""
        assert self.positions is not None
        assigned = self.assignment()
        offsets = {
            tp: offset
            for tp, offset in self.positions.committed_positions().items()
            if tp in assigned and self._group_offsets.get(tp) != offset
        }
        if not offsets or not await self._commit(offsets):
            return False
        self._group_offsets.update(offsets)
        return True

    async def on_partitions_revoked(self, revoked: Iterable[TP]) -> None:
        await super().on_partitions_revoked(set(revoked))
        self._open -= set(revoked)
        self.held -= set(revoked)
        for tp in revoked:
            self._group_offsets.pop(tp, None)
            self._forget_answers(tp)
            self.ends.pop(tp, None)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watchdog knows nothing of batches; the worker's own health checks take its place."""


class BatchTransport(driver.Transport):
    """Registered for the URL scheme `clickbatch`."""

    Consumer = BatchConsumer

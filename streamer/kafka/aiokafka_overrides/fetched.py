"""aiokafka's fetched records, many at once: one by one, passing them on costs more than parsing them.

Aborted transactions, control batches, checksums and positions are as aiokafka has them: its own generator,
with a loop over batches where that has one over records. A batch that can't be read, for it is damaged or
unpacks to too much, or has a header whose name is no text, raises nothing: aiokafka would raise at the same
place for ever. What is left of it comes as one record whose value says so, a dead letter, and reading goes
on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamer.kafka.aiokafka_overrides.unpacking import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from streamer.schemas.build import IS_COMPILED

if IS_COMPILED:
    from streamer.native import wire
    from streamer.native.batch_records import BatchRecords

log = structlog.get_logger(__name__)

_LENGTH = struct.Struct(">i")
_LENGTH_AT = 8
_AFTER_LENGTH = 12
_HEADER_BYTES = 61
_UNPACK = {0: None, 1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
"""By the number of a batch's compression."""


class Unreadable(NamedTuple):
    """In place of the records of a batch from some one on; what aiokafka reads of a record."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes
    key: None = None
    checksum: None = None
    headers: tuple[()] = ()


class _OpenBatch:
    """A batch of aiokafka's, of which some records may have been read."""

    def __init__(self, batch: Any, records: Iterable[Any]) -> None:
        self.is_read = False
        self._batch = batch
        self._records = chain(records)  # which may be asked for its iterator only once
        self._count = 0

    @property
    def next_offset(self) -> int:
        return int(self._batch.next_offset)

    @property
    def timestamp_type(self) -> int | None:
        """1: LogAppendTime, 0: CreateTime, None: neither, in batches from before Kafka 0.10."""
        return self._batch.timestamp_type  # type: ignore[no-any-return]

    def read(self, most: int | None) -> list[Any]:
        """The next `most` records, or all that are left. Never raises; not to be called when it is read."""
        records: list[Any] = []
        try:
            records.extend(islice(self._records, most))  # if that raises, those before have come
            self.is_read = most is None or len(records) < most
        except Exception as error:
            records.append(self._unreadable(error, self._count + len(records)))
            self.is_read = True
        self._count += len(records)
        return records

    def _unreadable(self, error: Exception, count: int) -> Unreadable:
        batch, name = self._batch, type(error).__name__
        last = self.next_offset - 1
        log.error("batch_unreadable", error=name, last_offset=last, records_before=count)
        value = f"(a batch that can't be read after {count} of its records: {name})".encode()
        return Unreadable(last, batch.max_timestamp, batch.timestamp_type, value)


class _Compiled:
    """The records of a batch that lies from `start` to `end` in what was fetched."""

    def __init__(self, fetched: bytes, start: int, end: int, compression: int) -> None:
        self._fetched, self._start, self._end, self._compression = fetched, start, end, compression

    def __iter__(self) -> Iterator[Any]:
        unpack = _UNPACK[self._compression]
        if unpack is None:
            return BatchRecords(self._fetched, self._start)
        packed = memoryview(self._fetched)[self._start + _HEADER_BYTES : self._end]
        return BatchRecords(self._fetched, self._start, bytes(unpack(packed)))


class FetchedBatches(MemoryRecords):  # type: ignore[misc]
    """aiokafka's batches of one partition in a fetch. It knows if they were found to be sound."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.are_sound = IS_COMPILED and wire.are_sound(raw)
        self._fetched = raw
        self._start = self._end = 0  # of the batch that came last

    def next_batch(self) -> Any:
        batch = super().next_batch()
        if batch is not None:
            self._start = self._end
            self._end += _AFTER_LENGTH + _LENGTH.unpack_from(self._fetched, self._start + _LENGTH_AT)[0]
        return batch

    def records_of(self, batch: Any) -> Iterable[Any]:
        """Of the batch that came last: compiled ones, or aiokafka's."""
        if not IS_COMPILED or not isinstance(batch, DefaultRecordBatch):
            return batch  # type: ignore[no-any-return]
        compression = batch.compression_type
        if compression not in _UNPACK:
            return batch  # type: ignore[no-any-return]
        return _Compiled(self._fetched, self._start, self._end, compression)


class SafePartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """What a fetch brought of one partition."""

    as_they_are = False
    """Whether records come as a parser gives them, a compiled one where there is one. A ConsumerRecord has
    topic and partition too, and takes longer to make than its record took to parse."""

    next_fetch_offset: int
    is_exhausted = False
    _records: Any
    _open: _OpenBatch | None = None

    def __init__(self, tp: TopicPartition, records: FetchedBatches, *rest: Any) -> None:
        super().__init__(tp, records, *rest)
        # A generator of its own would hold on to it, and so the fetch's bytes would stay until they are
        # looked for as garbage, which is seldom in a worker.
        self._records_iterator = iter(())
        if records.are_sound:
            self._check_crcs = False  # else aiokafka says at which batch

    def take(self, most: int | None) -> list[Any]:
        """The next `most` records, or all that are left. Where they are taken as they are, those up to the
        next one with another kind of timestamp (CreateTime, LogAppendTime).

        Raises CorruptRecordException at a batch with a wrong checksum; from there on it is empty, and what
        it had is to be fetched again.
        """
        taken: list[Any] = []
        while most is None or len(taken) < most:
            batch = self._open = self._open or self._next_batch()
            if batch is None:
                self.is_exhausted = True
                break
            if self.as_they_are and taken and taken[0].timestamp_type != batch.timestamp_type:
                break
            records = batch.read(None if most is None else most - len(taken))
            if records and records[0].offset < self.next_fetch_offset:  # a fetch may begin within a batch
                records = [record for record in records if record.offset >= self.next_fetch_offset]
            if records:
                self.next_fetch_offset = records[-1].offset + 1
                taken += records if self.as_they_are else map(self._as_consumer_record, records)
            if batch.is_read:
                # Compaction may have taken the last records, and they must not be asked for again.
                self.next_fetch_offset = batch.next_offset
                self._open = None
        return taken

    def _next_batch(self) -> _OpenBatch | None:
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                self._records = MemoryRecords(b"")
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if self._is_to_be_read(batch):
                return _OpenBatch(batch, self._records.records_of(batch) if self.as_they_are else batch)
            self.next_fetch_offset = batch.next_offset
        return None

    def _is_to_be_read(self, batch: Any) -> bool:
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return False
        return not batch.is_control_batch

    def _as_consumer_record(self, record: Any) -> Any:
        return self._consumer_record(self._tp, record)

    def __next__(self) -> Any:
        for one in self.take(1):
            return one
        raise StopIteration


class SafeFetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """What a fetch brought of one partition, with the consumer's position in it."""

    _partition_records: SafePartitionRecords | None

    def getall(self, max_records: int | None = None) -> list[Any]:
        """The next records; they count as consumed."""
        if not self.check_assignment(self._topic_partition) or self._partition_records is None:
            return []
        taken = self._partition_records.take(max_records)
        self._update_position()
        if self._partition_records.is_exhausted:
            self._partition_records = None
        return taken

    def leave_as_they_are(self) -> None:
        """Records come as a parser gives them."""
        if self._partition_records is not None:
            self._partition_records.as_they_are = True


def leave_records_as_they_are(consumer: AIOKafkaConsumer) -> None:
    """What this consumer, which has been started, fetches from now on comes as a parser gives it."""
    fetching = consumer._fetcher
    proceed = fetching._proc_fetch_request

    async def fetch_and_leave(*request: Any) -> Any:
        result = await proceed(*request)
        for fetched in fetching._records.values():
            if isinstance(fetched, SafeFetchResult):
                fetched.leave_as_they_are()
        return result

    fetching._proc_fetch_request = fetch_and_leave

"""Messages put into batches for a producer: many at once where that is compiled, elsewhere by aiokafka."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer

from streamer.pipeline.dead_letters import Header
from streamer.schemas.build import IS_COMPILED

if IS_COMPILED:
    from streamer.native import wire

Message = tuple[bytes | None, bytes | None, list[Header]]

_HEADER = struct.Struct(">qiibIhiqqqhii")
_CRC_AT = 17
_CHECKED_FROM = 21
_AFTER_LENGTH = 12
_MAGIC = 2
_TRANSACTIONAL = 0x10
_UNKNOWN = -1


def batches_of(producer: AIOKafkaProducer, messages: Iterable[Message]) -> Iterator[Any]:
    """As few batches as the messages fit into, for `producer.send_batch`. Each has one message at least."""
    accumulator = producer._message_accumulator
    if not IS_COMPILED or accumulator._compression_type:
        return _appended(producer, messages)
    return _packed(list(messages), accumulator._batch_size, producer._txn_manager is not None)


def _appended(producer: AIOKafkaProducer, messages: Iterable[Message]) -> Iterator[Any]:
    batch = producer.create_batch()
    for key, value, headers in messages:
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            yield batch
            batch = producer.create_batch()  # whose first message always fits
            batch.append(key=key, value=value, timestamp=None, headers=headers)
    if batch.record_count():
        yield batch


def _packed(messages: list[Message], most_bytes: int, is_transactional: bool) -> Iterator[PackedBatch]:
    first = 0
    while first < len(messages):
        records, count = wire.pack(messages, first, most_bytes)
        yield PackedBatch(records, count, is_transactional)
        first += count


class PackedBatch:
    """What aiokafka's producer asks of a batch. It is full from the start."""

    def __init__(self, batch: bytearray, count: int, is_transactional: bool) -> None:
        self._batch = batch
        self._count = count
        self._attributes = _TRANSACTIONAL if is_transactional else 0
        self._timestamp = int(time.time() * 1000)
        self._producer_state = (_UNKNOWN, _UNKNOWN, 0)
        self._is_built = False

    def append(self, **_: Any) -> None:
        """Refuses a message."""

    def close(self) -> None:
        """It is closed."""

    def closed(self) -> bool:
        return True

    def size(self) -> int:
        return len(self._batch)

    def record_count(self) -> int:
        return self._count

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer_state = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        if not self._is_built:
            _HEADER.pack_into(
                self._batch,
                0,
                0,  # the offset is the broker's
                len(self._batch) - _AFTER_LENGTH,
                _UNKNOWN,  # the leader's epoch
                _MAGIC,
                0,
                self._attributes,
                self._count - 1,
                self._timestamp,
                self._timestamp,
                *self._producer_state,
                self._count,
            )
            struct.pack_into(">I", self._batch, _CRC_AT, wire.crc32c(self._batch, _CHECKED_FROM))
            self._is_built = True
        return self._batch

"""Batches of records that a hostile producer may send: bombs, and what can't be taken apart.

A broker checks the size of a batch as it is packed; a megabyte may unpack to gigabytes, and a header may have
a name that is no text. aiokafka would take all memory, or raise at the same place for ever. Here unpacking is
bounded, and a batch that can't be read, or the rest of one, comes as a single record whose value says so:
it ends as a dead letter, and reading goes on.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

import cramjam
import numpy as np
import structlog

MAX_UNPACKED_BYTES = 128 * 1024 * 1024
"""Of one batch. Clicks pack to a tenth: a batch of eight megabytes, the most that topics here take, fits."""
_AT_ONCE = 1000
"""Records of a batch that are taken apart at once, which is cheaper than one by one."""
_GZIP = 31
"""zlib's window bits for gzip."""
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16

log = structlog.get_logger(__name__)


class BatchTooLargeError(Exception):
    """A batch unpacks to more than MAX_UNPACKED_BYTES, or is damaged."""


def gzip_decode(payload: Any) -> bytes:
    """All members of a gzip stream."""
    unpacked, left = io.BytesIO(), bytes(payload)
    while left:
        stream = zlib.decompressobj(_GZIP)
        unpacked.write(stream.decompress(left, MAX_UNPACKED_BYTES + 1 - unpacked.tell()))
        if stream.unconsumed_tail or unpacked.tell() > MAX_UNPACKED_BYTES:
            raise BatchTooLargeError
        left = stream.unused_data
    return unpacked.getvalue()


def lz4_decode(payload: Any) -> bytes:
    """An LZ4 frame."""
    return _into_room(cramjam.lz4.decompress_into, bytes(payload))


def zstd_decode(payload: Any) -> bytes:
    """Zstandard frames."""
    return _into_room(cramjam.zstd.decompress_into, bytes(payload))


def snappy_decode(payload: Any) -> bytes:
    """Raw snappy, or blocks of it as Java clients write them."""
    data = bytes(payload)
    if not data.startswith(_XERIAL):
        return _unsnapped(data, 0)
    unpacked, at = io.BytesIO(), _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from("!I", data, at)
        unpacked.write(_unsnapped(data[at + 4 : at + 4 + size], unpacked.tell()))
        at += 4 + size
    return unpacked.getvalue()


def _unsnapped(block: bytes, before: int) -> bytes:
    """A block says how large it is."""
    if before + int(cramjam.snappy.decompress_raw_len(block)) > MAX_UNPACKED_BYTES:
        raise BatchTooLargeError
    return bytes(cramjam.snappy.decompress_raw(block))


def _into_room(unpack_into: Any, data: bytes) -> bytes:
    """Room for the most that is allowed: the system gives memory only to what is written."""
    room = np.empty(MAX_UNPACKED_BYTES, np.uint8)
    try:
        return room[: unpack_into(data, room)].tobytes()
    except cramjam.DecompressionError:
        raise BatchTooLargeError from None


class _Unreadable(NamedTuple):
    """In place of the records of a batch from some one on; what aiokafka reads of a record."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: bytes
    key: None = None
    checksum: None = None
    headers: tuple[()] = ()


class _Batch:
    """aiokafka's batch, whose iteration never raises."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        count = 0
        some: deque[Any] = deque()
        try:
            records = chain(self._batch)  # which may be asked for its iterator only once
            while True:
                some.extend(islice(records, _AT_ONCE))
                yield from some
                if len(some) < _AT_ONCE:  # aiokafka's batch mustn't be asked again
                    return
                count += len(some)
                some.clear()
        except Exception as error:
            yield from some
            yield self._unreadable(error, count + len(some))

    def _unreadable(self, error: Exception, count: int) -> _Unreadable:
        batch, name = self._batch, type(error).__name__
        log.error("batch_unreadable", error=name, last_offset=batch.next_offset - 1, records_before=count)
        told = f"(a batch that can't be read after {count} of its records: {name})".encode()
        return _Unreadable(batch.next_offset - 1, batch.max_timestamp, batch.timestamp_type, told)


class _Records:
    """aiokafka's records of one fetch, batch by batch."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        return _Batch(self._records.next_batch())


class _SafeMark:
    """Tells that `read_safely` was here."""


def read_safely() -> None:
    """Make every aiokafka consumer of this process read so. Doing it again changes nothing."""
    from aiokafka.consumer import fetcher
    from aiokafka.record import default_records, legacy_records
    from aiokafka.record._crecords import default_records as fast
    from aiokafka.record._crecords import legacy_records as fast_legacy

    if issubclass(fetcher.PartitionRecords, _SafeMark):
        return
    for module in (default_records, legacy_records, fast, fast_legacy):
        for decode in (gzip_decode, lz4_decode, snappy_decode, zstd_decode):
            if hasattr(module, decode.__name__):
                setattr(module, decode.__name__, decode)

    class SafePartitionRecords(fetcher.PartitionRecords, _SafeMark):  # type: ignore[misc]
        def __init__(self, tp: Any, records: Any, *rest: Any) -> None:
            super().__init__(tp, _Records(records), *rest)

    fetcher.PartitionRecords = SafePartitionRecords

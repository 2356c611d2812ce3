"""Compiled records are as of aiokafka's parser, of damaged batches too; what was fetched goes with them."""

from __future__ import annotations

import gc
import gzip
import struct
import sys
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import Mock

import pytest
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.kafka.aiokafka_overrides import fetched as module
from streamer.kafka.aiokafka_overrides.fetched import FetchedBatches, SafePartitionRecords
from streamer.kafka.aiokafka_overrides.install import install_overrides

batch_records = pytest.importorskip("streamer.native.batch_records", reason="the extension isn't compiled")
BatchRecord = batch_records.BatchRecord

HEADER_BYTES = 61
ATTRIBUTES_AT, CRC_AT, CHECKED_FROM = 22, 17, 21
LOG_APPEND_TIME, CONTROL = 0x08, 0x20
NO_MORE = b"\xff" * 11
"""Behind a batch: aiokafka reads a number that begins in it to its end, and of these there is none."""

some_bytes = st.none() | st.binary(max_size=200)
far = [-(2**63), 2**31, 2**40, 2**62, 2**63 - 1]
wrong_numbers = st.sampled_from([-1, 0, 1, 2, *far]) | st.integers(-3, 200)


@pytest.fixture(autouse=True, scope="module")
def unpacked_within_bounds() -> None:
    install_overrides()


def varint(value: int) -> bytes:
    zigzag, written = (value << 1 ^ value >> 63) & 2**64 - 1, bytearray()
    while zigzag >= 0x80:
        written.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*written, zigzag])


@dataclass(frozen=True)
class Numbers:
    """The numbers of a record that may be other than what follows them."""

    size: int
    key: int
    value: int
    headers: int
    name: int


@st.composite
def packed_records(draw: st.DrawFn) -> bytes:
    """Some of them with a wrong number."""
    key, value = draw(some_bytes), draw(some_bytes)
    headers = draw(
        st.lists(st.tuples(st.just(b"") | st.text(max_size=20).map(str.encode), some_bytes), max_size=3)
    )
    times = varint(draw(st.integers(-5000, 2**40) | st.sampled_from(far))) + varint(draw(st.integers(0, 300)))
    true = Numbers(0, *(-1 if each is None else len(each) for each in (key, value)), len(headers), 0)
    told = true
    if draw(st.integers(0, 5)) == 0:
        told = replace(told, **{draw(st.sampled_from([*vars(true)])): draw(wrong_numbers)})
    body = b"\0" + times + varint(told.key) + (key or b"") + varint(told.value) + (value or b"")
    body += varint(told.headers)
    for name, each in headers:
        body += varint(told.name or len(name)) + name
        body += varint(-1 if each is None else len(each)) + (each or b"")
    return varint(told.size or len(body)) + body


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """With the right checksum, and anything else wrong."""
    records = draw(st.lists(packed_records(), max_size=8))
    count = draw(st.one_of(*[st.just(len(records))] * 9, st.integers(-1, 10)))
    attributes = draw(st.sampled_from([0, LOG_APPEND_TIME, 0, LOG_APPEND_TIME, 1, 3, 5, 7]))
    body = b"".join(records)
    if attributes & 7 == 1:
        body = gzip.compress(body)
    first, most = draw(st.integers(-1, 2**41)), draw(st.integers(-1, 2**41))
    header = struct.pack(">qiibIhiqqqhii", 700, 0, 0, 2, 0, attributes, 9, first, most, -1, -1, -1, count)
    raw = bytearray(header + body)
    for at, byte in draw(
        st.just([]) | st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3)
    ):
        raw[CHECKED_FROM + at % (len(raw) - CHECKED_FROM)] = byte
    raw[ATTRIBUTES_AT] &= ~CONTROL  # a broker takes none from a client
    cut = draw(st.one_of(*[st.just(0)] * 9, st.integers(1, 50)))
    del raw[max(len(raw) - cut, HEADER_BYTES) :]
    return sealed(raw)


def sealed(raw: bytearray) -> bytes:
    """With its length and its checksum."""
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    struct.pack_into(">I", raw, CRC_AT, crc32c(bytes(raw[CHECKED_FROM:])))
    return bytes(raw)


def fetch(raw: bytes) -> SafePartitionRecords:
    records = SafePartitionRecords(TopicPartition("t", 0), FetchedBatches(raw), [], 0, None, None, True, 1)
    records.as_they_are = True
    return records


def told(record: Any) -> tuple[Any, ...]:
    """What may be read of a record."""
    value = record.value
    if isinstance(record, module.Unreadable):
        for name in (b"OverflowError", b"MemoryError"):  # sizes that aiokafka doesn't see to be impossible
            value = value.replace(name, b"CorruptRecordException")
    headers = list(record.headers)
    return record.offset, record.timestamp, record.timestamp_type, record.key, value, headers, record.checksum


def read(raw: bytes, most: int | None, *, compiled: bool) -> tuple[list[tuple[Any, ...]], int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "log", Mock())
        if not compiled:
            patch.setattr(module, "IS_COMPILED", False)
        fetched, records = fetch(raw), []
        while portion := fetched.take(most):
            records += portion
        kinds = set(map(type, records)) - {module.Unreadable}
        assert kinds <= {BatchRecord} if compiled else BatchRecord not in kinds
        return [*map(told, records)], fetched.next_fetch_offset


@settings(max_examples=500, deadline=None)
@given(batches(), st.sampled_from([1, 4, None]))
def test_records_are_aiokafkas(raw: bytes, most: int | None) -> None:
    assert read(raw + NO_MORE, most, compiled=True) == read(raw + NO_MORE, most, compiled=False)


@pytest.mark.parametrize("compression", range(5))
def test_all_ways_to_compress_are_read(compression: int) -> None:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for offset in range(100):
        builder.append(offset, 5000 + offset, b"k", b"v" * offset, [("name", b"x"), ("ä", None)])
    raw = bytes(builder.build())
    assert read(raw, 7, compiled=True) == read(raw, 7, compiled=False)


def test_wherever_a_batch_ends_it_is_as_aiokafka_says() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for offset in range(2):
        builder.append(offset, 5000, b"key", b"value", [("name", b"told")])
    whole = bytes(builder.build())
    for size in range(HEADER_BYTES, len(whole) + 1):
        raw = sealed(bytearray(whole[:size])) + NO_MORE
        assert read(raw, None, compiled=True) == read(raw, None, compiled=False)


def test_what_was_fetched_goes_with_its_records_and_key_and_value_do_not_keep_it() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 5000, b"key", b"value", [("name", b"x")])
    raw = bytes(builder.build())
    before = sys.getrefcount(raw)
    records = fetch(raw).take(None)
    assert sys.getrefcount(raw) > before
    kept = records[0].key, records[0].value, records[0].headers
    gc.disable()
    try:
        del records
        assert sys.getrefcount(raw) == before
    finally:
        gc.enable()
    assert kept == (b"key", b"value", [("name", b"x")])


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 48, 58, 1 << 30])
def test_a_batch_that_is_not_all_there_is_refused(length: int) -> None:
    raw = bytearray(HEADER_BYTES + 8)
    struct.pack_into(">i", raw, 8, length)
    for start in (-1, 0, 9, len(raw)):
        with pytest.raises(batch_records.CorruptRecordException):
            batch_records.BatchRecords(bytes(raw), start)

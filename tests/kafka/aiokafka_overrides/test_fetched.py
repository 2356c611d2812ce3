"""Records taken many at once are those that aiokafka gives one by one; a consumer ends where it would."""

from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record._crecords.default_records import DefaultRecordBatchBuilder
from aiokafka.record._crecords.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.aiokafka_overrides import fetched as module
from streamer.kafka.aiokafka_overrides.fetched import FetchedBatches, SafeFetchResult, SafePartitionRecords
from streamer.schemas.build import IS_COMPILED

TP = TopicPartition("topic", 3)
PRODUCERS = (1000, 1001)
CONTROL = 0x20
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


@dataclass(frozen=True)
class Written:
    """One batch of a log."""

    offsets: tuple[int, ...]
    """Those that compaction has left."""
    next_offset: int
    producer: int | None
    marker: bytes | None = None
    compression: int = 0
    timestamp_type: int = 0
    """1: LogAppendTime, 0: CreateTime."""

    def pack(self) -> bytes:
        base = min(self.offsets, default=self.next_offset - 1)
        builder = DefaultRecordBatchBuilder(
            2, self.compression, self.producer is not None, self.producer or -1, 0, 0, 1 << 20
        )
        for offset in self.offsets:
            key = self.marker or b"k%d" % offset
            headers = [("name", b"%d" % offset)] if offset % 3 == 0 else []
            builder.append(offset - base, 5000 + offset, key, b"v" * (offset % 50), headers)
        raw = bytearray(builder.build())
        struct.pack_into(">q", raw, 0, base)
        if self.marker:
            raw[22] |= CONTROL
        raw[22] |= self.timestamp_type << 3
        struct.pack_into(">i", raw, 23, self.next_offset - 1 - base)
        struct.pack_into(">I", raw, 17, crc32c(bytes(raw[21:])))
        return bytes(raw)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Written], list[tuple[int, int]]]:
    """A log of transactions and plain batches, compacted here and there; and its (producer, first offset)
    of aborted transactions, as a broker tells them."""
    offset = draw(st.integers(0, 1000))
    written: list[Written] = []
    aborted: list[tuple[int, int]] = []
    started: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 12))):
        producer = draw(st.sampled_from([None, *PRODUCERS]))
        if producer in started and draw(st.booleans()):
            marker = draw(st.sampled_from([ABORT, COMMIT]))
            written.append(Written((offset,), offset + 1, producer, marker))
            first = started.pop(producer)
            if marker == ABORT:
                aborted.append((producer, first))
            offset += 1
            continue
        count = draw(st.integers(1, 9))
        kept = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        kept[0] = True
        offsets = tuple(offset + i for i, keep in enumerate(kept) if keep)
        written.append(
            Written(offsets, offset + count, producer, compression=draw(st.sampled_from([0, 0, 1])))
        )
        if producer is not None:
            started.setdefault(producer, offset)
        offset += count
    return written, draw(st.permutations(aborted))


class At:
    """What a fetch result asks of a consumer's assignment and of a partition's state in it."""

    active = True
    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def state_value(self, _: TopicPartition) -> At:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def fetched(
    kinds: tuple[Any, Any, Any], raw: bytes, aborted: Iterable[tuple[int, int]], position: int, isolation: int
) -> Any:
    """A fetch result of these classes, at `position`, which the consumer is at too."""
    of_batches, of_records, of_result = kinds
    records = of_records(TP, of_batches(raw), list(aborted), position, None, None, True, isolation)
    return of_result(TP, assignment=At(position), partition_records=records, backoff=0)


OURS = (FetchedBatches, SafePartitionRecords, SafeFetchResult)
THEIRS = (MemoryRecords, SafePartitionRecords.__mro__[1], SafeFetchResult.__mro__[1])
"""aiokafka's own, also where another test of this process had them replaced."""


def state(result: Any) -> tuple[int, bool]:
    return result._assignment.position, result.has_more()


@given(
    logs(), st.integers(0, 1100), st.sampled_from([0, 1]), st.lists(st.sampled_from([1, 2, 3, 7, 100, None]))
)
def test_takes_what_aiokafka_gives(
    log: tuple[list[Written], list[tuple[int, int]]],
    begin: int,
    isolation: int,
    wanted: list[int | None],
) -> None:
    written, aborted = log
    position = min(begin, written[-1].next_offset - 1)  # a broker sends batches from the one that holds it
    raw = b"".join(batch.pack() for batch in written if batch.next_offset > position)
    ours = fetched(OURS, raw, aborted, position, isolation)
    as_they_are = fetched(OURS, raw, aborted, position, isolation)
    as_they_are.leave_as_they_are()
    theirs = fetched(THEIRS, raw, aborted, position, isolation)
    for most in [*wanted, None]:
        if not ours.has_more():
            break
        records = theirs.getall(most)
        assert ours.getall(most) == records
        assert [*map(told, as_they_are.getall(most))] == [*map(told, records)]
        assert state(ours) == state(as_they_are) == state(theirs)


def told(record: Any) -> tuple[Any, ...]:
    """What any record tells."""
    headers = tuple(record.headers)
    return record.offset, record.timestamp, record.timestamp_type, record.key, record.value, headers


@given(logs(), st.sampled_from([0, 1]), st.lists(st.sampled_from([0, 1, 5])))
def test_one_at_a_time_and_many_may_take_turns(
    log: tuple[list[Written], list[tuple[int, int]]], isolation: int, wanted: list[int]
) -> None:
    written, aborted = log
    raw = b"".join(batch.pack() for batch in written)
    position = written[0].offsets[0]
    ours = fetched(OURS, raw, aborted, position, isolation)
    theirs = fetched(THEIRS, raw, aborted, position, isolation)
    for most in [*wanted, 0, 100, 0]:
        if not ours.has_more():
            break
        if most:
            assert ours.getall(most) == theirs.getall(most)
        else:
            assert ours.getone() == theirs.getone()
        assert state(ours) == state(theirs)


def test_records_may_stay_as_they_are() -> None:
    raw = Written((5, 6, 8), 10, None).pack()
    result = fetched(OURS, raw, [], 6, 1)
    result.leave_as_they_are()
    records = result.getall(5)
    assert [(record.offset, record.timestamp, record.key) for record in records] == [
        (6, 5006, b"k6"),
        (8, 5008, b"k8"),
    ]
    assert not hasattr(records[0], "topic")
    assert state(result) == (10, False)


@pytest.mark.parametrize("most", [None, 100, 2])
def test_records_as_they_are_come_apart_by_kind_of_timestamp(most: int | None) -> None:
    kinds = [1, 1, 0, 0, 1]
    batches = [
        Written((n * 2, n * 2 + 1), n * 2 + 2, None, timestamp_type=kind) for n, kind in enumerate(kinds)
    ]
    result = fetched(OURS, b"".join(batch.pack() for batch in batches), [], 0, 0)
    result.leave_as_they_are()
    taken = []
    while result.has_more():
        taken.append([(record.offset, record.timestamp_type) for record in result.getall(most)])
    assert all(len({kind for _, kind in records}) <= 1 for records in taken)
    assert [record for records in taken for record in records] == [(n, kinds[n // 2]) for n in range(10)]


@pytest.mark.parametrize("most", [None, 1])
def test_a_fetch_is_let_go_as_soon_as_nobody_has_it(most: int | None) -> None:
    """Not when garbage is looked for, which a worker does seldom."""
    raw = Written((5, 6, 8), 10, None).pack()
    records = SafePartitionRecords(TP, FetchedBatches(raw), [], 5, None, None, True, 0)
    gone = weakref.ref(records)
    gc.disable()
    try:
        assert records.take(most)
        del records
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("is_compiled", sorted({IS_COMPILED, False}))
def test_a_wrong_checksum_raises_and_what_came_with_it_is_fetched_again(
    before: int, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IS_COMPILED", is_compiled)
    spoilt = bytearray(Written((7, 8), 9, None).pack())
    spoilt[-1] ^= 1
    raw = Written((5, 6), 7, None).pack() * before + bytes(spoilt) + Written((9,), 10, None).pack()
    position = 7 - 2 * before
    for kinds in (OURS, THEIRS):
        result = fetched(kinds, raw, [], position, 1)
        with pytest.raises(CorruptRecordException):
            result.getall(100)
        assert result.getall(100) == []
        assert state(result) == (position, False)


@given(logs(), st.integers(1, 100), st.integers(0, 1000), st.sampled_from([1, 0x80]))
def test_batches_are_sound_as_far_as_they_go_unless_a_bit_differs(
    log: tuple[list[Written], list[tuple[int, int]]], cut: int, at: int, bit: int
) -> None:
    packed = [batch.pack() for batch in log[0]]
    raw = b"".join(packed)
    assert FetchedBatches(raw).are_sound == IS_COMPILED
    assert FetchedBatches(raw[:-cut]).are_sound == IS_COMPILED
    at %= len(packed[0]) - 21
    spoilt = bytearray(raw)
    spoilt[21 + at] ^= bit
    assert not FetchedBatches(bytes(spoilt)).are_sound


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 48])
def test_a_batch_of_impossible_length_is_not_sound(length: int) -> None:
    raw = bytearray(Written((5,), 6, None).pack())
    struct.pack_into(">i", raw, 8, length)
    assert not FetchedBatches(bytes(raw)).are_sound


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("compression", [0, 1])
def test_batches_of_old_clients_are_read(magic: int, compression: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, compression, 1 << 20)
    for offset in range(20):
        builder.append(offset, 5000, b"k", b"v%d" % offset)
    raw = bytes(builder.build())
    ours, theirs = fetched(OURS, raw, [], 4, 1), fetched(THEIRS, raw, [], 4, 1)
    for most in (3, 9, None):
        assert ours.getall(most) == theirs.getall(most)
        assert state(ours) == state(theirs)

"""Batches packed here are byte for byte those of aiokafka's builder."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.aiokafka_overrides import packing
from streamer.kafka.aiokafka_overrides.packing import Message, batches_of

NOW_S = 1_700_000_000.123
PRODUCER_STATE = (7_000_000_001, 12, 345)

some_bytes = st.binary(max_size=300)
fields = st.none() | some_bytes
headers = st.lists(st.tuples(st.text(max_size=70), fields), max_size=70)
messages = st.lists(st.tuples(fields, fields, headers), max_size=70)


class Builder(BatchBuilder):  # type: ignore[misc]
    """Takes the time from Python."""

    def append(self, **message: Any) -> Any:
        return super().append(**message | {"timestamp": int(time.time() * 1000)})


def producer(batch_bytes: int, is_transactional: bool = True, compression: int = 0) -> Any:
    """As far as packing looks at one."""
    return SimpleNamespace(
        create_batch=lambda: Builder(batch_bytes, compression, is_transactional=is_transactional),
        _message_accumulator=SimpleNamespace(_batch_size=batch_bytes, _compression_type=compression),
        _txn_manager=object() if is_transactional else None,
    )


def built(to: Any, some: list[Message]) -> list[tuple[int, bytes]]:
    batches = []
    for batch in batches_of(to, iter(some)):
        batch._set_producer_state(*PRODUCER_STATE)
        batches.append((batch.record_count(), bytes(batch._build())))
        assert bytes(batch._build()) == batches[-1][1]
        assert batch.size() == len(batches[-1][1])
    return batches


def built_by_aiokafka(to: Any, some: list[Message]) -> list[tuple[int, bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "IS_COMPILED", False)
        return built(to, some)


@pytest.fixture(autouse=True, scope="module")
def one_moment() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: NOW_S)
        yield


@given(messages, st.sampled_from([100, 1000, 5000, 1 << 20]), st.booleans())
def test_packs_as_aiokafka_does(some: list[Message], batch_bytes: int, is_transactional: bool) -> None:
    to = producer(batch_bytes, is_transactional)
    assert built(to, some) == built_by_aiokafka(to, some)


@pytest.mark.parametrize("size", [0, 63, 64, 8191, 8192, 70_000, 3 << 20])
def test_packs_records_of_any_size(size: int) -> None:
    some: list[Message] = [(bytes(size), b"x" * size, [("name", bytes(size))]), (None, None, [])] * 2
    for batch_bytes in (1000, 1 << 20, 64 << 20):
        to = producer(batch_bytes)
        assert built(to, some) == built_by_aiokafka(to, some)


@given(messages.filter(len), st.integers(-1, 1), st.data())
def test_a_record_that_just_fits(some: list[Message], spare: int, data: Any) -> None:
    count = data.draw(st.integers(1, len(some)))
    [(_, batch)] = built(producer(1 << 20), some[:count])
    to = producer(len(batch) + spare)
    assert built(to, some) == built_by_aiokafka(to, some)


@pytest.mark.parametrize("count", [1, 64, 65, 8193, 20_000])
def test_packs_any_number_of_records(count: int) -> None:
    some: list[Message] = [(b"key", None, [])] * count
    to = producer(64 << 20)
    assert built(to, some) == built_by_aiokafka(to, some)


def test_a_compressing_producer_packs_itself() -> None:
    to = producer(1 << 20, compression=1)
    assert [type(batch) for batch in batches_of(to, [(None, bytes(1000), [])])] == [Builder]


@pytest.mark.parametrize(
    "message", [("key", b"value", []), (b"key", "value", []), (b"key", b"value", [(b"name", b"")])]
)
def test_refuses_what_is_no_bytes(message: Any) -> None:
    for build in (built, built_by_aiokafka):
        with pytest.raises((TypeError, AttributeError)):
            build(producer(1000), [message])

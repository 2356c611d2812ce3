"""Batches as any client packs them are read; bombs and what can't be taken apart end as one record each."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, codec
from aiokafka.record._crc32c import crc as crc32c

from streamer.kafka.aiokafka_overrides import unpacking
from streamer.kafka.aiokafka_overrides.unpacking import BatchTooLargeError
from streamer.kafka.snapshot import snapshot
from streamer.settings import Settings
from tests.conftest import FreshSettings
from tests.worker.live import set_up

CODECS = ("gzip", "snappy", "lz4", "zstd")
MIB = 1024 * 1024


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(
    "data", [b"", b"x", os.urandom(100_000), bytes(3 * MIB)], ids=lambda data: str(len(data))
)
def test_what_a_client_packs_comes_back(name: str, data: bytes) -> None:
    packed = getattr(codec, f"{name}_encode")(data)
    assert getattr(unpacking, f"{name}_decode")(memoryview(packed)) == data


def test_blocks_of_snappy_come_back() -> None:
    data = os.urandom(100_000) + bytes(100_000)
    assert unpacking.snappy_decode(codec.snappy_encode(data, xerial_compatible=True)) == data
    assert unpacking.snappy_decode(codec.snappy_encode(data, xerial_compatible=False)) == data


@pytest.mark.parametrize("name", CODECS)
def test_a_bomb_is_refused_before_it_is_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = getattr(codec, f"{name}_encode")(bytes(3 * MIB))
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 2 * MIB)
    with pytest.raises(BatchTooLargeError):
        getattr(unpacking, f"{name}_decode")(packed)


def read(settings: Settings) -> list[Any]:
    async def run() -> list[Any]:
        return [record async for record in snapshot(settings.kafka, settings.topics.clicks)]

    return asyncio.run(run())


async def send_batch(
    settings: Settings, values: list[bytes], compression: str | None, spoil: Any = None
) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        compression_type=compression,
        max_batch_size=64 * MIB,
        max_request_size=64 * MIB,
    )
    async with producer:
        batch = producer.create_batch()
        for value in values:
            batch.append(key=None, value=value, timestamp=None, headers=[("name", b"v")])
        if spoil is not None:
            batch.close()
            spoilt = bytearray(spoil(bytes(batch._build())))
            batch._build = lambda: spoilt
        await (await producer.send_batch(batch, settings.topics.clicks, partition=0))


@pytest.mark.parametrize("name", [None, *CODECS])
def test_a_bomb_in_a_topic_is_one_record_and_the_next_ones_are_read(
    fresh_settings: FreshSettings, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    settings = fresh_settings({"topics.partitions": 1, "clicks.max_bytes": 8 * MIB})
    set_up(settings)
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 2 * MIB)
    for size in (10, 3 * MIB, 10):
        asyncio.run(send_batch(settings, [bytes(size), b"second"], name))
    values = [record.value for record in read(settings)]
    if name is None:
        assert [len(value) for value in values] == [10, 6, 3 * MIB, 6, 10, 6]
    else:
        told = b"(a batch that can't be read after 0 of its records: BatchTooLargeError)"
        assert values == [bytes(10), b"second", told, bytes(10), b"second"]


def with_a_name_that_is_no_text(raw: bytes) -> bytes:
    """A header's name as only a client in C can spell it, with the checksum to it."""
    spoilt = bytearray(raw)
    at = spoilt.rindex(b"name")
    spoilt[at : at + 4] = b"\xff\xfe\xfd\xfc"
    spoilt[17:21] = crc32c(bytes(spoilt[21:])).to_bytes(4, "big")
    return bytes(spoilt)


def test_a_header_whose_name_is_no_text_is_one_record_and_the_next_ones_are_read(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)
    asyncio.run(send_batch(settings, [b"one", b"two"], None, with_a_name_that_is_no_text))
    asyncio.run(send_batch(settings, [b"three"], None))
    first, spoilt, last = read(settings)
    assert (first.value, last.value) == (b"one", b"three")
    assert spoilt.value == b"(a batch that can't be read after 1 of its records: UnicodeDecodeError)"
    assert spoilt.timestamp == first.timestamp

"""Readers get what is committed, all of it, from the place they asked for, and come to an end."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.kafka.start import Start
from streamer.kafka.subscribe import records
from streamer.kafka.topics import TopicError, create_topics, declared_topics, grow_topics
from streamer.settings import Settings
from tests.conftest import FreshSettings


@pytest.fixture
def settings(fresh_settings: FreshSettings) -> Settings:
    settings = fresh_settings({"topics.partitions": 2})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return settings


async def values(settings: Settings, start: Start = "earliest", **limits: Any) -> list[bytes]:
    found = records(settings.kafka, settings.topics.intents, start, **({"timeout_s": 1} | limits))
    return [record.value async for record in found]


def producer(settings: Settings, transactional_id: str | None = None) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id=transactional_id
    )


async def write(settings: Settings, *contents: bytes) -> Any:
    """Returns what the broker said of the last one."""
    async with producer(settings) as plain:
        for content in contents:
            written = await plain.send_and_wait(settings.topics.intents, content, partition=0)
    return written


def test_aborted_records_are_never_seen(settings: Settings) -> None:
    async def run() -> list[bytes]:
        async with producer(settings, "t") as transactional:
            await transactional.begin_transaction()
            await transactional.send_and_wait(settings.topics.intents, b"aborted", partition=0)
            await transactional.abort_transaction()
            async with transactional.transaction():
                await transactional.send_and_wait(settings.topics.intents, b"committed", partition=0)
        return await values(settings)

    assert asyncio.run(run()) == [b"committed"]


def test_records_of_an_open_transaction_and_those_behind_it_are_waited_for(settings: Settings) -> None:
    async def run() -> tuple[list[bytes], list[bytes]]:
        async with producer(settings, "t") as transactional:
            await transactional.begin_transaction()
            await transactional.send_and_wait(settings.topics.intents, b"open", partition=0)
            await write(settings, b"behind")
            before = await values(settings)
            await transactional.commit_transaction()
        return before, await values(settings, limit=2, timeout_s=10)

    assert asyncio.run(run()) == ([], [b"open", b"behind"])


def test_limit_ends_the_reading(settings: Settings) -> None:
    async def run() -> list[bytes]:
        await write(settings, b"1", b"2", b"3")
        return await values(settings, limit=2, timeout_s=None)

    assert asyncio.run(run()) == [b"1", b"2"]


def test_silence_ends_the_reading_after_the_timeout(settings: Settings) -> None:
    started = time.monotonic()
    assert asyncio.run(values(settings, timeout_s=1.5)) == []
    assert 1.5 <= time.monotonic() - started < 10


def test_a_time_finds_the_first_record_not_before_it(settings: Settings) -> None:
    async def run() -> tuple[list[bytes], list[bytes]]:
        await write(settings, b"before")
        await asyncio.sleep(0.01)
        at = (await write(settings, b"at")).timestamp
        await asyncio.sleep(0.01)
        await write(settings, b"after")
        return await values(settings, at), await values(settings, at + 3_600_000)

    assert asyncio.run(run()) == ([b"at", b"after"], [])


def test_latest_sees_only_what_comes_from_now_on(settings: Settings) -> None:
    async def run() -> list[bytes]:
        await write(settings, b"old")
        reading = asyncio.create_task(values(settings, "latest", limit=1, timeout_s=20))
        while not reading.done():  # how soon it is at the end can't be seen from outside
            await write(settings, b"new")
            await asyncio.sleep(0.1)
        return await reading

    assert asyncio.run(run()) == [b"new"]


def test_partitions_that_are_added_are_read_from_their_beginning(settings: Settings) -> None:
    topic = settings.topics.intents
    declared = {each.name: each for each in declared_topics(settings)}

    async def run() -> list[bytes]:
        found = []
        await write(settings, b"before")
        async with aclosing(records(settings.kafka, topic, timeout_s=20, asks_every_s=0.2)) as reading:
            found.append((await anext(reading)).value)
            await grow_topics(settings.kafka, [replace(declared[topic], partitions=3)])
            async with producer(settings) as plain:
                for number in (2, 0, 1):
                    await plain.send_and_wait(topic, b"after %d" % number, partition=number)
            for _ in range(3):
                found.append((await anext(reading)).value)
        return found

    first, *others = asyncio.run(run())
    assert (first, sorted(others)) == (b"before", [b"after 0", b"after 1", b"after 2"])


def test_a_topic_that_is_not_there_is_an_error(fresh_settings: FreshSettings) -> None:
    with pytest.raises(TopicError, match="there is no topic"):
        asyncio.run(values(fresh_settings()))

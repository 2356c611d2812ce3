"""Records of visitors and customers as workers publish them, and what erases them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from streamer.settings import Settings
from tests.client.records import a_message, a_record, a_user

IN_A_TRANSACTION = 200
DIMENSIONS = 16


def publish_traffic(settings: Settings, count: int, keys: int, now_ms: int, seed: int) -> None:
    """Transactions of visitors and customers, a tenth aborted: out of order by age, with tombstones in every
    partition as of erasures, with withdrawn customers and bytes that are no record."""
    asyncio.run(_publish(settings, count, keys, now_ms, random.Random(seed)))


async def _publish(settings: Settings, count: int, keys: int, now_ms: int, chance: random.Random) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        transactional_id=f"{settings.topics.visitors}-{chance.random()}",
        linger_ms=5,
        max_batch_size=256 * 1024,
    )
    await producer.start()
    try:
        for done in range(0, count, IN_A_TRANSACTION):
            await producer.begin_transaction()
            for n in range(done, min(done + IN_A_TRANSACTION, count)):
                for topic, partition, key, value in _messages(settings, n, keys, now_ms, chance):
                    await producer.send(topic, value, key=key, partition=partition)
            if chance.random() < 0.1:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
    finally:
        await producer.stop()


def _messages(
    settings: Settings, n: int, keys: int, now_ms: int, chance: random.Random
) -> list[tuple[str, int, bytes, bytes | None]]:
    partitions = settings.topics.partitions
    is_user = chance.random() < 0.4
    name = f"{'u' if is_user else 'v'}{chance.randrange(keys)}"
    topic = settings.topics.users if is_user else settings.topics.visitors
    home = (murmur2(name.encode()) & 0x7FFFFFFF) % partitions
    kind = chance.random()
    if kind < 0.04:
        return [(topic, number, name.encode(), None) for number in range(partitions)]
    if kind < 0.06:
        return [(topic, home, name.encode(), None if is_user else b"no record")]
    closed_at = now_ms + n - chance.randrange(50)
    vector = [chance.random() for _ in range(DIMENSIONS)]
    fields: dict[str, Any] = {"embedding": vector, "event_count": n}
    if is_user:
        key, value = a_user(name, a_record(f"b{n % 7}", closed_at, **fields))
    else:
        key, value = a_message(name, closed_at, revision=n % 3, user_id="ü-é" if n % 5 else None, **fields)
    return [(topic, home, key, value)]

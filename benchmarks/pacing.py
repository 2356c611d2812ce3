"""Clicks appended at a steady rate, as visitors make them: a few every 5 ms, whatever happened before."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterable
from itertools import islice

from aiokafka import AIOKafkaProducer

from benchmarks.installation import PARTITIONS

EVERY_S = 0.005


async def append_steadily(
    bootstrap: str,
    topic: str,
    clicks: Iterable[tuple[bytes, bytes]],
    per_s: float,
    partitions: int = PARTITIONS,
) -> None:
    """All of them, each in the partition of its key."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=2)
    await producer.start()
    rest, sent, began = iter(clicks), 0, time.monotonic()
    try:
        while True:
            due = due_by(time.monotonic() - began, per_s) - sent
            portion = list(islice(rest, due))
            for key, value in portion:
                await producer.send(topic, value, key=key, partition=zlib.crc32(key) % partitions)
            sent += len(portion)
            if len(portion) < due:
                return
            await asyncio.sleep(EVERY_S)
    finally:
        await producer.stop()


def due_by(elapsed_s: float, per_s: float) -> int:
    """Clicks that should have been sent by now: the first at once."""
    return int(elapsed_s * per_s) + 1

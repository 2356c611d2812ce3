"""Producers that own shards: the start of one fences the shard's last owner and aborts its transaction.

What a shard does that was fenced itself is in `takeover_retries`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streamer.kafka.client import ClientArguments
from streamer.worker.kill_points import KillPoint, Reach

PRODUCER_BATCH_BYTES = 1024 * 1024
TRANSACTION_TIMEOUT_MS = 30_000
STEP_S = 15.0
"""How long a step of a take-over may wait for brokers. Kafka needs 9 s to move what a frozen broker leads,
and then has to abort the last owner's transaction."""
STOP_S = 3.0


class Claiming(Protocol):
    """A shard, as far as its claim goes."""

    @property
    def number(self) -> int: ...

    async def commit(self, *, force: bool = False) -> Any: ...


C = TypeVar("C", bound=Claiming)


async def fence(
    arguments: ClientArguments,
    names: dict[int, str],
    max_request_bytes: int,
    reach: Reach,
    producers: dict[int, AIOKafkaProducer],
) -> dict[int, KafkaError]:
    """Start producers by partition, whose transactional ids are `names`; returns errors of those that a
    broker failed for. `producers` gets the others one by one, so that they can be stopped in any case."""
    failed: dict[int, KafkaError] = {}

    async def start(number: int, name: str) -> None:
        producer = AIOKafkaProducer(
            **arguments,
            transactional_id=name,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=PRODUCER_BATCH_BYTES,
            max_request_size=max(8 * PRODUCER_BATCH_BYTES, max_request_bytes),
        )
        try:
            await in_time(producer.start())  # it asks for a producer id, and that fences
        except KafkaError as error:
            failed[number] = error
            await stop_in_time(producer)
            return
        producers[number] = producer
        reach(KillPoint.AFTER_FENCING)

    await asyncio.gather(*(start(number, name) for number, name in names.items()))
    return failed


async def claim(shards: Iterable[C], failed: dict[int, KafkaError]) -> list[C]:
    """Those whose first commit succeeded; the errors of the others go into `failed`."""
    claimed: list[C] = []

    async def commit(shard: C) -> None:
        try:
            await in_time(shard.commit(force=True))
        except KafkaError as error:
            failed[shard.number] = error
        else:
            claimed.append(shard)

    await asyncio.gather(*map(commit, shards))
    return claimed


async def in_time(work: Coroutine[Any, Any, Any]) -> None:
    """Raises KafkaTimeoutError after STEP_S."""
    try:
        async with asyncio.timeout(STEP_S):
            await work
    except TimeoutError:
        raise KafkaTimeoutError(f"not done within {STEP_S:g} s") from None


async def stop_in_time(producer: AIOKafkaProducer) -> None:
    """Stop a producer that is of no use any more; after STOP_S it is left to itself."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=STOP_S)  # not wait_for: a client may swallow its cancellation
    stopping.add_done_callback(lambda stopped: stopped.cancelled() or stopped.exception())

"""A cancellation that nobody asked for is an error of the client; one that was asked for goes through."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaError

from streamer.kafka.aiokafka_overrides.cancellation import only_ours


async def _waits(future: asyncio.Future[None]) -> None:
    with only_ours():
        await future


def test_a_future_that_the_client_cancelled_is_an_error() -> None:
    async def run() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await _waits(future)

    with pytest.raises(KafkaError):
        asyncio.run(run())


def test_a_task_that_is_cancelled_ends_as_cancelled() -> None:
    async def run() -> None:
        task = asyncio.create_task(_waits(asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())

"""A broker that doesn't answer is given up in time, and others don't wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

from streamer.kafka.aiokafka_overrides import connections
from streamer.kafka.aiokafka_overrides.install import install_overrides
from streamer.kafka.ports import free_ports
from tests.chaos.proxy import FaultProxy


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    install_overrides()
    monkeypatch.setattr(connections, "SETUP_S", 0.5)
    monkeypatch.setattr(connections, "RETRY_AFTER_S", (1.0,))
    monkeypatch.setattr(connections, "SILENT_S", 0.5)
    monkeypatch.setattr(connections, "_LOOK_EVERY_S", 0.1)


@pytest.fixture
def proxy(bootstrap: str) -> Iterator[FaultProxy]:
    """Before the real broker, at `proxy.port`."""
    (port,) = free_ports(1)
    with FaultProxy(port, int(bootstrap.rpartition(":")[2])) as proxy:
        proxy.port = port  # type: ignore[attr-defined]
        yield proxy


async def connect(proxy: FaultProxy) -> AIOKafkaConnection:
    return await create_conn("127.0.0.1", proxy.port, request_timeout_ms=30_000)  # type: ignore[attr-defined]


def seconds(begin: float) -> float:
    return time.monotonic() - begin


def test_a_connection_is_set_up_in_time_or_not_at_all(proxy: FaultProxy) -> None:
    async def run() -> None:
        proxy.silent = True
        with pytest.raises(TimeoutError):
            await connect(proxy)

    begin = time.monotonic()
    asyncio.run(run())
    assert seconds(begin) < 5


def test_an_address_that_did_not_answer_is_left_alone_and_then_tried_again(proxy: FaultProxy) -> None:
    async def run() -> None:
        proxy.silent = True
        with pytest.raises(TimeoutError):
            await connect(proxy)
        proxy.heal()
        with pytest.raises(TimeoutError, match="a moment ago"):
            await connect(proxy)
        await asyncio.sleep(connections.RETRY_AFTER_S[0])
        await (await connect(proxy)).close()

    asyncio.run(run())


def test_an_address_that_did_not_answer_has_less_time_the_next_time_and_then_as_much(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SETUP_S", 1.5)
    monkeypatch.setattr(connections, "SETUP_AGAIN_S", (0.1,))
    monkeypatch.setattr(connections, "RETRY_AFTER_S", (0.0,))

    async def run() -> list[float]:
        proxy.silent = True
        took = []
        for _ in range(3):
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                await connect(proxy)
            took.append(seconds(begin))
        return took

    first, second, third = asyncio.run(run())
    assert second < 1 < first
    assert third > 1


def test_a_connection_on_which_an_answer_does_not_come_is_closed(proxy: FaultProxy) -> None:
    async def run() -> None:
        connection = await connect(proxy)
        proxy.silent = True
        with pytest.raises(KafkaConnectionError):
            await connection.send(MetadataRequest([]))
        assert not connection.connected()

    begin = time.monotonic()
    asyncio.run(run())
    assert seconds(begin) < 5


def test_members_may_wait_long_for_the_group(proxy: FaultProxy) -> None:
    async def run() -> None:
        connection = await connect(proxy)
        proxy.silent = True
        join = JoinGroupRequest("group", 10_000, 300_000, "", None, "consumer", [("range", b"")])
        joining = asyncio.ensure_future(connection.send(join))
        await asyncio.sleep(4 * connections.SILENT_S)
        assert connection.connected()
        await connection.close()
        with pytest.raises(KafkaConnectionError):
            await joining

    asyncio.run(run())


def test_an_idle_connection_stays(proxy: FaultProxy) -> None:
    async def run() -> None:
        connection = await connect(proxy)
        await asyncio.sleep(4 * connections.SILENT_S)
        await connection.send(MetadataRequest([]))
        await connection.close()

    asyncio.run(run())


def test_a_producer_asks_another_broker_for_its_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([KafkaConnectionError("closed"), SimpleNamespace(error_code=0, coordinator_id=7)])

    async def send(*_: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def yes(*_: Any, **__: Any) -> bool:
        return True

    async def run() -> int:
        producer = AIOKafkaProducer(transactional_id="t", retry_backoff_ms=1)
        monkeypatch.setattr(producer.client, "get_random_node", lambda: 1)
        for name, stand_in in (("send", send), ("ready", yes), ("force_metadata_update", yes)):
            monkeypatch.setattr(producer.client, name, stand_in)
        found: int = await producer._sender._find_coordinator(CoordinationType.TRANSACTION, "t")
        await producer.stop()
        return found

    assert asyncio.run(run()) == 7

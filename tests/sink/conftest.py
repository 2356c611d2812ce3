"""A Redis server for the tests of a file, emptied for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sink.live import RedisServer
from tests.worker.live import end_all


@pytest.fixture(autouse=True)
def _stop_sinks() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), keeps=False)
    yield server
    server.kill()


@pytest.fixture
def store(redis_server: RedisServer) -> RedisServer:
    """Empty, and not full."""
    redis_server.client.config_set("maxmemory", 0)
    redis_server.client.flushall()
    return redis_server

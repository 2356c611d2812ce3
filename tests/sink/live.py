"""A real Redis server, the sink as a process of its own, and what the store has to have come to."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from streamer.kafka.ports import free_ports
from streamer.schemas import codec
from streamer.settings import Settings
from tests.worker.live import Worker, ask, committed, wait_until

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
PREFIX = "streamer"
DAY_MS = 86_400_000
Documents = dict[bytes, dict[bytes, bytes]]


class RedisServer:
    """Keeps its data in a folder, if it is to outlive the process."""

    def __init__(self, folder: Path, *options: str, keeps: bool = True) -> None:
        if SERVER is None:
            pytest.skip("neither redis-server nor valkey-server is installed")
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = ("--appendonly", "yes" if keeps else "no", "--appendfsync", "always", *options)
        self.start()

    def start(self) -> None:
        assert SERVER is not None
        self.process = subprocess.Popen(
            [SERVER, "--port", str(self.port), "--save", "", "--dir", str(self._folder), *self._options],
            stdout=subprocess.DEVNULL,
        )
        self.client = redis.Redis(port=self.port, protocol=2)
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.exceptions.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self.client.close()

    def documents(self) -> Documents:
        """Everything but fences and positions."""
        keys = [key for view in ("visitors", "users") for key in self.client.scan_iter(f"{PREFIX}:{view}:*")]
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            return dict(zip(keys, pipeline.execute(), strict=True))

    def counts(self) -> dict[str, int]:
        """Records by what came of them, of all partitions."""
        positions = [self.client.hgetall(key) for key in self.client.scan_iter(f"{PREFIX}:position:*")]
        names = ("read", "written", "stale", "deleted", "bad")
        return {name: sum(int(each.get(name.encode(), 0)) for each in positions) for name in names}


class Sink(Worker):
    """`streamer sink redis`."""

    command = "sink"
    kind = "redis"

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self.port = settings.sink.metrics_port
        super().__init__(settings, self.kind, *arguments)

    @property
    def readiness(self) -> str:
        return ask(self.port, "/readyz")[1]

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return ask(self.port, "/readyz")[0] == 200

        wait_until(ready)


def drain(settings: Settings, *arguments: str) -> str:
    """Copy everything; returns the log."""
    sink = Sink(settings, "--drain", *arguments)
    assert sink.end() == 0, sink.log
    return sink.log


def publish(
    settings: Settings, messages: Sequence[tuple[str, int | None, bytes | None, bytes | None]]
) -> None:
    """Append (topic, partition, key, value), in order; by murmur2 of the key where there is no partition."""

    async def run() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=5
        ) as producer:
            for topic, partition, key, value in messages:
                await producer.send(topic, value, key=key, partition=partition)

    asyncio.run(run())


def as_stored(record: Mapping[str, Any]) -> dict[bytes, bytes]:
    """A record as a hash, written without the product."""
    vectors = ("embedding", "profile_embedding", "memberships")
    stored = {}
    for name, value in record.items():
        if value is None or (name in vectors and not value):
            continue
        if name in vectors:
            stored[name.encode()] = struct.pack(f"<{len(value)}f", *value)
        elif isinstance(value, str):
            stored[name.encode()] = value.encode()
        else:
            stored[name.encode()] = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return stored


def expected(settings: Settings, ttl_ms: int = 90 * DAY_MS) -> Documents:
    """What the topics come to, read one record after the other."""
    found: Documents = {}
    for view, topic in settings.looked_up.items():
        for key, record in state_of(
            view, committed(settings, topic).records, settings.topics.partitions
        ).items():
            if record["closed_at"] + ttl_ms > time.time() * 1000:
                found[f"{PREFIX}:{view}:{key}".encode()] = as_stored(record)
    return found


def state_of(view: str, records: Sequence[Any], partitions: int) -> dict[str, dict[str, Any]]:
    """The latest of each key: of a visitor by age, also across partitions, of a customer by the log."""
    by_partition: dict[tuple[int, str], dict[str, Any]] = {}
    for record in records:
        at = record.partition, (record.key or b"").decode()
        if record.value is None:
            if view == "visitors" or (murmur2(record.key) & 0x7FFFFFFF) % partitions == record.partition:
                by_partition.pop(at, None)
            continue
        try:
            _, decoded = codec.decode(record.value)
        except codec.CodecError:
            continue
        if view == "users" or at not in by_partition or _age(decoded) >= _age(by_partition[at]):
            by_partition[at] = decoded
    latest: dict[str, dict[str, Any]] = {}
    for (_, key), decoded in by_partition.items():
        if key not in latest or _age(decoded) >= _age(latest[key]):
            latest[key] = decoded
    return latest


def _age(record: Mapping[str, Any]) -> tuple[int, int, int]:
    return record["closed_at"], record["started_at"], record["revision"]


def assert_same(server: RedisServer, wanted: Documents) -> None:
    found = server.documents()
    assert set(found) == set(wanted)
    for key, document in wanted.items():
        assert found[key] == document or _close(found[key], document), key


def _close(found: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> bool:
    """Whether the values are the same, floats written in whatever way."""
    if set(found) != set(wanted):
        return False
    return all(
        found[name] == wanted[name] or json.loads(found[name]) == json.loads(wanted[name]) for name in wanted
    )


def end(sink: Sink) -> None:
    sink.signal(signal.SIGTERM)
    assert sink.end() == 0, sink.log

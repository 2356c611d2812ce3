"""A look-up service as a process of its own, and requests to it as they go over the wire."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from aiokafka import AIOKafkaProducer

from streamer.kafka.ports import free_ports
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import Settings, load_settings
from tests.conftest import dotted, names_of_its_own
from tests.worker.live import Worker, ask, wait_until

Message = tuple[bytes, bytes | None]


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        assert self.headers["Cache-Control"] == "no-store"
        return str(self.json["code"])


class Service(Worker):
    """`streamer serve` on a port of its own."""

    command = "serve"

    def __init__(
        self,
        settings: Settings,
        *arguments: str,
        tls: ssl.SSLContext | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        (self.port,) = free_ports(1)
        self._tls = tls
        super().__init__(settings, "--port", str(self.port), *arguments, environ=environ)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return ask(self.port, "/readyz")[0] == 200

        wait_until(ready)

    def request(
        self, path: str, body: bytes | None = None, method: str | None = None, **headers: str
    ) -> Answer:
        """A name of a header has _ where the wire has -."""
        if self._tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self._tls)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def get(self, collection: str, key: str, query: str = "", **headers: str) -> Answer:
        return self.request(f"/v1/{collection}/{quote(key, safe='')}{query}", **headers)

    def batch(self, collection: str, ids: Iterable[str], query: str = "", **headers: str) -> Answer:
        return self.request(
            f"/v1/{collection}:batchGet{query}", json.dumps({"ids": list(ids)}).encode(), **headers
        )


@contextmanager
def serving(settings: Settings, *arguments: str, **options: Any) -> Iterator[Service]:
    """Ends it, too."""
    service = Service(settings, *arguments, **options)
    try:
        yield service
    finally:
        service.signal(signal.SIGTERM)
        assert service.end() == 0, service.log


def own_topics(bootstrap: str, **overrides: object) -> Settings:
    """Settings with topics of their own, which are there then."""
    settings = load_settings(
        overrides={
            "kafka.bootstrap_servers": bootstrap,
            "topics.partitions": 2,
            "serve.drain_s": 0,
            **names_of_its_own(),
            **dotted(overrides),
        },
        environ={},
    )
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return settings


def publish(settings: Settings, topic: str, messages: Iterable[Message]) -> None:
    """By murmur2 of the key."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for key, value in messages:
                await producer.send(topic, value, key=key)

    asyncio.run(run())

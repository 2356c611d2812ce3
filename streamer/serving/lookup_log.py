"""What was served, for those who train or audit: a record in a topic for each id that was looked up.

- A look-up never waits for it: it puts a note into a queue of bounded length. What finds the queue full, or
  what brokers don't take, is counted and left out.
- Nobody can be named from a record without the key: of the id it has a keyed hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamer.kafka.client import client_arguments
from streamer.schemas import codec
from streamer.schemas.lookup import IdHash, digest_of
from streamer.serving.records import StoredRecord
from streamer.settings import Settings

MOST_WAITING = 10_000
"""Look-ups, some 2 MB: five seconds of 2,000 a second."""
_AT_ONCE = 500
_LOOK_S = 0.05
_RETRY_S = 1.0
_END_WITHIN_S = 10

log = structlog.get_logger(__name__)


class Served(NamedTuple):
    """What was answered about one id."""

    at_ms: int
    view: str
    key: str
    outcome: str
    stored: StoredRecord | None
    has_vectors: bool


class LookupLog:
    """Look-ups in, records of the lookups topic out, by a thread of its own."""

    def __init__(self, settings: Settings, now: Callable[[], float], most: int = MOST_WAITING) -> None:
        """`now`: seconds since 1970. `most`: look-ups that wait at most."""
        assert settings.serve.log_key is not None
        self.written = 0
        """Look-ups that brokers have acknowledged."""
        self._unwritten = 0
        self._refused = 0
        """Look-ups that found the queue full. Each count has one thread that writes it."""
        self._settings = settings
        self._now = now
        self._most = most
        self._hash = IdHash(settings.serve.log_key.get_secret_value())
        self._waiting: deque[Served] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookup-log", daemon=True)

    @property
    def dropped(self) -> int:
        """Look-ups that were left out."""
        return self._refused + self._unwritten

    def note(
        self, view: str, key: str, outcome: str, stored: StoredRecord | None, has_vectors: bool = False
    ) -> None:
        """Never waits. For one thread."""
        if len(self._waiting) >= self._most:
            self._refused += 1
            return
        self._waiting.append(Served(int(self._now() * 1000), view, key, outcome, stored, has_vectors))

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, within_s: float = _END_WITHIN_S) -> None:
        """Returns once all is written, or after so long: what is left then is dropped."""
        self._stop.set()
        self._thread.join(within_s)
        if self._waiting:
            log.warning("lookups_not_logged", lookups=len(self._waiting))
            self._refused += len(self._waiting)
            self._waiting.clear()

    def _run(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        while not (self._stop.is_set() and not self._waiting):
            producer = AIOKafkaProducer(**client_arguments(self._settings.kafka), acks=1, linger_ms=20)
            try:
                await producer.start()
                await self._write(producer)
            except KafkaError as error:
                log.warning("lookup_log_interrupted", error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            finally:
                await producer.stop()

    async def _write(self, producer: AIOKafkaProducer) -> None:
        """Until it is stopped and nothing waits."""
        topic = self._settings.topics.lookups
        while self._waiting or not self._stop.is_set():
            portion = self._portion()
            if not portion:
                await asyncio.sleep(_LOOK_S)
                continue
            results = await asyncio.gather(
                *(self._send(producer, topic, each) for each in portion), return_exceptions=True
            )
            failed = [each for each in results if isinstance(each, BaseException)]
            self.written += len(results) - len(failed)
            self._unwritten += len(failed)
            if failed:
                log.warning("lookups_not_logged", lookups=len(failed), error=type(failed[0]).__name__)

    def _portion(self) -> list[Served]:
        portion: list[Served] = []
        with contextlib.suppress(IndexError):
            while len(portion) < _AT_ONCE:
                portion.append(self._waiting.popleft())
        return portion

    async def _send(self, producer: AIOKafkaProducer, topic: str, served: Served) -> None:
        record = self._record(served)
        await producer.send_and_wait(topic, codec.encode("lookup", record), key=record["id_hash"].encode())

    def _record(self, served: Served) -> dict[str, Any]:
        at_ms, view, key, outcome, stored, has_vectors = served
        record = {"at": at_ms, "view": view, "id_hash": self._hash(view, key), "outcome": outcome}
        if stored is None:
            return record
        answered = stored.decoded()
        fields = ("closed_at", "revision", "is_final", "model_version", "embedding_space")
        return {
            **record,
            **{name: answered[name] for name in fields},
            "has_vectors": has_vectors,
            "record_digest": digest_of(stored.message),
        }

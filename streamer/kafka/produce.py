"""Sends clicks, one a line, to the clicks topic.

The key is the visitor, where the setting `clicks.source` finds one, so a visitor's clicks stay in one
partition and in order; nothing else of a line is looked at. A line without a readable visitor is sent all the
same, without a key: to judge it is the worker's job, which counts it, as a dead letter or as without consent.
Not sent are blank lines and lines larger than the topic accepts. The producer is idempotent: what its retries
repeat is stored once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.acls import Acl
from streamer.kafka.client import client_arguments, running
from streamer.kafka.partitions import PartitionChooser
from streamer.kafka.permissions import check_permissions
from streamer.kafka.topics import FoundTopic, find_topic
from streamer.pipeline.json_text import with_whole_characters
from streamer.settings import Settings
from streamer.sources import visitor_reader
from streamer.sources.fit import FIRST_RECORDS, report_if_misfit

_BATCH_BYTES = 256 * 1024
_RECORD_OVERHEAD_BYTES = 128
"""At most what a record and the batch around it add to key and value."""
_PACES_PER_S = 20


class ProduceError(StreamerError):
    """The cluster did not take the clicks."""


@dataclass
class Produced:
    """What became of the lines."""

    sent: int = 0
    """Acknowledged by the cluster."""
    without_key: int = 0
    """Sent, but without a readable visitor."""
    blank: int = 0
    too_large: int = 0
    seconds: float = 0.0


class _VisitorOf(msgspec.Struct, gc=False):
    visitor_id: str


_decoder = msgspec.json.Decoder(_VisitorOf)


def visitor_key(line: bytes) -> bytes | None:
    """The visitor_id of a JSON click as UTF-8; None if it can't be read or is empty."""
    try:
        return _visitor_id(line).encode() or None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _visitor_id(line: bytes) -> str:
    try:
        return _decoder.decode(line).visitor_id
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:  # what the worker reads all the same has to go to its visitor's partition
        return _decoder.decode(with_whole_characters(line)).visitor_id


async def produce(
    settings: Settings,
    lines: AsyncIterable[list[bytes]],
    rate: float | None = None,
    on_progress: Callable[[Produced], None] = lambda _: None,
    produced: Produced | None = None,
    on_misfit: Callable[[str], None] = lambda _: None,
) -> Produced:
    """Sends all lines, at most `rate` a second. `produced` is filled as it goes, also when cancelled.

    `on_misfit` is called once if half of the first lines or more aren't what the settings say.

    Raises `BrokerError`, `TopicError`, `ProduceError`, `LinesError`, UsageError.
    """
    produced = Produced() if produced is None else produced
    key_of = visitor_reader(settings.clicks, visitor_key)
    await check_permissions(settings.kafka, [Acl("topic", settings.topics.clicks, "Write")])
    topic = await find_topic(settings.kafka, settings.topics.clicks)
    producer = AIOKafkaProducer(
        **client_arguments(settings.kafka), enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    started = time.monotonic()
    first: list[bytes] = []
    sender = _Sender(producer, topic, produced, settings.kafka.request_timeout_ms / 1000, key_of)
    try:
        async with running(producer), sender:
            async for chunk in lines:
                if len(first) < FIRST_RECORDS:
                    first += chunk[: FIRST_RECORDS - len(first)]
                    if len(first) == FIRST_RECORDS:
                        report_if_misfit(settings.clicks, first, on_misfit)
                for pace in _paces(chunk, rate):
                    await sender.send(pace)
                    await _keep_pace(sender.taken, rate, started)
                    on_progress(produced)
        if len(first) < FIRST_RECORDS:
            report_if_misfit(settings.clicks, first, on_misfit)
    except KafkaError as error:
        raise ProduceError(f"can't write to {topic.name} ({type(error).__name__})") from None
    finally:
        produced.seconds = time.monotonic() - started
        on_progress(produced)
    return produced


class _Sender:
    """Batches of whole partitions: three times as fast as aiokafka's send of single records.

    As a context it ends when everything is acknowledged. Raises ProduceError when a batch is refused, or none
    was acknowledged for `patience_s` though some wait for it.
    """

    def __init__(
        self,
        producer: Any,
        topic: FoundTopic,
        produced: Produced,
        patience_s: float,
        key_of: Callable[[bytes], bytes | None],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._produced = produced
        self._patience_s = patience_s
        self._key_of = key_of
        self._partition_of = PartitionChooser(topic.partitions)
        self._batches: dict[int, Any] = {}
        self._unacknowledged: set[asyncio.Future[Any]] = set()
        self._error: BaseException | None = None
        self.taken = 0

    async def send(self, lines: list[bytes]) -> None:
        for line in lines:
            self.taken += 1
            key = self._key_of(line)
            if self._counted_out(line, key):
                continue
            partition = self._partition_of(key)
            if not self._appended(partition, key, line):
                await self._submit(partition)
                self._appended(partition, key, line)
        for partition in list(self._batches):
            await self._submit(partition)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._unacknowledged and self._error is None:
            done, _waiting = await asyncio.wait(
                self._unacknowledged, timeout=self._patience_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                self._error = TimeoutError()
        self._raise_error()

    def _counted_out(self, line: bytes, key: bytes | None) -> bool:
        """Counts what is special about a line; true if it is not to be sent."""
        if key is None and (not line or line.isspace()):
            self._produced.blank += 1
            return True
        most = self._topic.max_message_bytes
        if most is not None and len(line) + len(key or b"") + _RECORD_OVERHEAD_BYTES > most:
            # Checked here: a refusal by the broker would end an idempotent producer.
            self._produced.too_large += 1
            return True
        self._produced.without_key += key is None
        return False

    def _appended(self, partition: int, key: bytes | None, line: bytes) -> bool:
        """False if the partition's batch is full; an empty batch takes a record of any size."""
        batch = self._batches.get(partition)
        if batch is None:
            batch = self._batches[partition] = self._producer.create_batch()
        return batch.append(key=key, value=line, timestamp=None) is not None

    async def _submit(self, partition: int) -> None:
        batch = self._batches.pop(partition)
        records = batch.record_count()
        self._raise_error()
        try:
            future = await self._producer.send_batch(batch, self._topic.name, partition=partition)
        except KafkaError as error:
            self._error = error
            raise
        self._unacknowledged.add(future)
        future.add_done_callback(lambda done: self._acknowledged(done, records))

    def _acknowledged(self, future: asyncio.Future[Any], records: int) -> None:
        self._unacknowledged.discard(future)
        if future.cancelled() or future.exception() is not None:
            self._error = self._error or (None if future.cancelled() else future.exception())
        else:
            self._produced.sent += records

    def _raise_error(self) -> None:
        if self._error is not None:
            name = type(self._error).__name__
            raise ProduceError(
                f"the cluster did not take clicks for {self._topic.name} ({name}): {self._produced.sent:,} "
                "are acknowledged, and some of those sent after them may be stored too"
            ) from None


def _paces(chunk: list[bytes], rate: float | None) -> list[list[bytes]]:
    size = len(chunk) if rate is None else max(1, round(rate / _PACES_PER_S))
    return [chunk[start : start + size] for start in range(0, len(chunk), size)]


async def _keep_pace(taken: int, rate: float | None, started: float) -> None:
    if rate is not None:
        await asyncio.sleep(max(0.0, started + taken / rate - time.monotonic()))

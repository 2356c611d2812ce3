"""Where a replay puts its sessions: row files, a topic, standard output, or nowhere.

A sink may be killed at any moment. What `seal` returned counts; what was written after it comes again, and
ends up there once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

from streamer.errors import StreamerError, UsageError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.client import client_arguments, committed_reader
from streamer.kafka.topics import Topic, create_topics, find_topic
from streamer.replay.journal import DurableOutput
from streamer.replay.plan import PartitionPlan
from streamer.replay.scoring import BundleScorers, ScoredSession
from streamer.schemas import codec
from streamer.settings import Settings

if TYPE_CHECKING:
    import pyarrow

SEGMENT_SESSIONS = 8192
"""Sessions that are in memory before they are written as a row file."""
_BATCH_BYTES = 1024 * 1024
_TRANSACTION_MS = 60_000


class SessionSink(Protocol):
    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        """Take sessions of a partition, in its order."""

    async def seal(self, number: int) -> DurableOutput:
        """Make durable what was written of a partition; returns all of it that is."""

    async def close(self) -> None: ...


class NoSink:
    """For callers that only want the digests."""

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        pass

    async def seal(self, number: int) -> DurableOutput:  # noqa: ARG002
        return DurableOutput()

    async def close(self) -> None:
        pass


class StdoutSink(NoSink):
    """A JSON object a line: the fields of embedding and intents, as on the visitors topic."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream or sys.stdout.buffer

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:  # noqa: ARG002
        for each in scored:
            for output in each.outputs:
                if output is not None:
                    record = codec.decode(output.records.visitor)[1]
                    self._stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self._stream.flush()


class RowsSink:
    """Row files in a folder, to be joined when everything is done."""

    def __init__(
        self, folder: Path, scorers: BundleScorers, sealed: Mapping[int, DurableOutput], mark: str = ""
    ) -> None:
        """`sealed`: by partition, what counts already. `mark`: goes into the names of files, so that nobody
        else can have written them."""
        self._folder = folder
        self._scorers = scorers
        self._mark = mark
        self._files = {number: list(each.files) for number, each in sealed.items()}
        self._waiting: dict[int, list[pyarrow.Table]] = {number: [] for number in sealed}

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        from streamer.replay.rows import table_of

        waiting = self._waiting[number]
        waiting.append(table_of(scored, self._scorers.bundles, self._scorers.rules_version))
        if sum(table.num_rows for table in waiting) >= SEGMENT_SESSIONS:
            self._write_file(number)

    async def seal(self, number: int) -> DurableOutput:
        self._write_file(number)
        return DurableOutput(files=tuple(self._files[number]))

    async def close(self) -> None:
        pass

    def _write_file(self, number: int) -> None:
        import pyarrow as pa

        from streamer.replay.rows import write_rows

        waiting = self._waiting[number]
        if waiting:
            name = f"partition-{number}-{self._mark}{len(self._files[number])}.parquet"
            write_rows(self._folder / name, pa.concat_tables(waiting))
            self._files[number].append(name)
            waiting.clear()


class TopicSinkError(StreamerError):
    """The cluster did not take the records."""


async def prepare_topic(settings: Settings, name: str, partitions: Sequence[PartitionPlan]) -> dict[int, int]:
    """Create the topic if it isn't there; returns where each of these partitions of it ends now.

    Raises UsageError for a topic that live workers use or that has too few partitions.
    """
    live = [each for _, each in settings.topics if isinstance(each, str)]
    if name in (*live, settings.changelog):
        raise UsageError(f"--out topic:{name}: live workers use this topic; expected another name")
    needed = max((each.number for each in partitions), default=0) + 1
    wanted = Topic(name, needed, settings.topics.replication, {"message.timestamp.type": "LogAppendTime"})
    await create_topics(settings.kafka, [wanted])
    found = await find_topic(settings.kafka, name)
    if found.partitions < needed:
        raise UsageError(f"topic {name} has {found.partitions} partitions, expected at least {needed}")
    async with _consumer(settings) as consumer:
        tps = [TopicPartition(name, each.number) for each in partitions]
        return {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}


class TopicSink:
    """A topic: the records of the live topics, each session once.

    A transaction per partition and seal. A kill between a transaction and the checkpoint that counts it is
    found by reading the topic: so many records as it has too many are left out when they are made again, for
    a replay makes the same records in the same order.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        partitions: Mapping[int, PartitionPlan],
        sealed: Mapping[int, DurableOutput],
    ) -> None:
        """`sealed`: by partition, what is known to be there."""
        self._settings = settings
        self._name = name
        self._partitions = partitions
        self._sealed = {number: each.records for number, each in sealed.items()}
        self._repeated: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in sealed}
        self._producers: dict[int, AIOKafkaProducer] = {}

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        if number not in self._producers:
            await self._open(number)
        for each in scored:
            self._waiting[number] += _messages_of(each)

    async def seal(self, number: int) -> DurableOutput:
        waiting = self._waiting[number]
        if waiting:
            repeated = min(self._repeated[number], len(waiting))
            self._repeated[number] -= repeated
            await self._transact(number, waiting[repeated:])
            self._sealed[number] += len(waiting)
            waiting.clear()
        return DurableOutput(self._sealed[number])

    async def close(self) -> None:
        # One that was fenced says so again.
        stops = (producer.stop() for producer in self._producers.values())
        await asyncio.gather(*stops, return_exceptions=True)

    async def _open(self, number: int) -> None:
        """Fence whoever wrote this partition before, then count what is there."""
        producer = AIOKafkaProducer(
            **client_arguments(self._settings.kafka),
            transactional_id=f"{self._settings.app.id}-replay-{self._name}-{number}",
            transaction_timeout_ms=_TRANSACTION_MS,
            max_batch_size=_BATCH_BYTES,
            max_request_size=8 * _BATCH_BYTES,
        )
        with self._explain_failures():
            await producer.start()  # it asks for a producer id, and that fences
            self._producers[number] = producer
            there = await self._count(number)
        self._repeated[number] = there - self._sealed[number]
        if self._repeated[number] < 0:
            raise TopicSinkError(
                f"topic {self._name} partition {number} has {there} records of this replay, expected "
                f"{self._sealed[number]}: some are gone. Start over with another topic"
            )

    async def _count(self, number: int) -> int:
        tp = TopicPartition(self._name, number)
        async with _consumer(self._settings) as consumer:
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, self._partitions[number].out_start)
            count = 0
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    count += len(records)
        return count

    async def _transact(self, number: int, messages: Sequence[tuple[bytes, bytes]]) -> None:
        if not messages:
            return
        producer = self._producers[number]
        with self._explain_failures():
            async with producer.transaction():
                batch = producer.create_batch()
                for key, value in messages:
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        await producer.send_batch(batch, self._name, partition=number)
                        batch = producer.create_batch()
                        batch.append(key=key, value=value, timestamp=None)
                await producer.send_batch(batch, self._name, partition=number)

    @contextmanager
    def _explain_failures(self) -> Iterator[None]:
        try:
            with only_ours():
                yield
        except (KafkaError, IllegalOperation) as error:  # the latter once a send has met with a fence
            raise TopicSinkError(
                f"can't write to topic {self._name} at {self._settings.kafka.bootstrap_servers}: "
                f"{type(error).__name__}. Run the same command again to go on"
            ) from None


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[Any]:
    consumer = committed_reader(client_arguments(settings.kafka))
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


def _messages_of(each: ScoredSession) -> list[tuple[bytes, bytes]]:
    """(key, value) of an embedding and an intent by bundle, in the wire format of the live topics."""
    return [
        (output.records.key, value)
        for output in each.outputs
        if output is not None
        for value in (output.records.embedding, output.records.intent)
    ]

"""One shard of a stage beside that of the sessions: the pure stage, and the producer that owns its partition.

A commit is one Kafka transaction: outputs, the states that have changed, and a marker with the positions.
The changelog is compacted: the newest record of a key is its state, and that of the empty key the marker.
After any failure a shard is dropped and read back; it is never repaired in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, ProducerFenced

from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.aiokafka_overrides.packing import Message, batches_of
from streamer.kafka.client import ClientArguments
from streamer.kafka.start import Start
from streamer.registry.outputs import RegistryIds, prefixed
from streamer.settings import Settings
from streamer.worker.fencing import stop_in_time
from streamer.worker.kill_points import KillPoint, Reach
from streamer.worker.shard import all_of
from streamer.worker.stages.stage_marker import MARKER_KEY, STATE_VERSION, StageMarker, encode


class Output(NamedTuple):
    """A record to publish."""

    topic: str
    partition: int
    message: Message


class StageOutputs(NamedTuple):
    """What has piled up in a stage since the last take."""

    records: list[Output]
    states: Mapping[str, bytes | None]
    """By key; None: there is none left."""
    dead: Sequence[str]
    """Reasons of the dead letters among the records."""
    events: Mapping[str, int]
    """How often what has happened, for the metrics."""
    batches: Mapping[tuple[str, int], list[Message]] = MappingProxyType({})
    """More records, by topic and partition."""


class StageCommitted(NamedTuple):
    """What a commit made durable; `dead` and `events` as the stage gave them."""

    commit_s: float
    dead: Sequence[str]
    events: Mapping[str, int]


class LiveStage(Protocol):
    """One partition of a stage, without brokers."""

    @property
    def has_pending(self) -> bool:
        """Whether `take` gives anything."""

    @property
    def hurries(self) -> bool:
        """Whether one of those is of an open session: a customer has just logged in."""

    @property
    def size(self) -> int:
        """Keys with state."""

    @property
    def progress(self) -> Any:
        """What the stage knows beside its keys; goes into the marker."""

    @property
    def sessions(self) -> Mapping[str, int]:
        """Final sessions so far by what became of them; nothing where the stage says of none."""

    def process(self, record: Any) -> None:
        """Take in a record of the source. Raises UnknownSchema and TooManyDeadLetters: it isn't then."""

    def take_in(self, topic: str, records: list[Any], broker_ms: int) -> None:
        """Take in records of a side input; none: it was read to its end, and the broker's clock had shown
        `broker_ms` before."""

    def restore(self, key: str, state: bytes | None) -> None:
        """Put in a state that `take` gave."""

    def take(self) -> StageOutputs:
        """Everything that has piled up; it is gone from there."""


@dataclass(frozen=True)
class StageConfig:
    """What all shards of a stage have in common."""

    name: str
    """`repartition`, `attribution` or `users`."""
    source: str
    side_inputs: tuple[str, ...]
    changelog: str
    partitions: int
    topic_ids: Mapping[str, str]
    """Of the source and the side inputs."""
    settings: Settings
    arguments: ClientArguments
    reach: Reach
    registry: RegistryIds
    create: Callable[[int, bytes | None], LiveStage]
    """The stage of a partition, and its progress as the marker has it."""
    start: Start = "earliest"
    """Where to begin in what nobody has read."""
    has_keys: bool = True
    """Whether there is state by key, which would live elsewhere if the source had other partitions."""
    chunk_records: int = 100
    """Records between which others in the event loop have their turn."""
    commit_at: int = 2000
    """Records beyond the last commit at which the next one's time has come."""
    unhurried_s: float = 1.0
    """How long what was taken in may wait for its commit where no customer has just logged in: sessions
    closed long after their last click, and transactions are to hold much."""

    @property
    def group(self) -> str:
        """Consumer group of the stage, and the beginning of its transactional ids."""
        return f"{self.settings.app.id}-{self.name}"


class StageShard:
    """`producer` is started and has fenced the last owner."""

    def __init__(
        self,
        number: int,
        stage: LiveStage,
        producer: AIOKafkaProducer,
        config: StageConfig,
        epoch: int,
        positions: dict[str, int],
    ) -> None:
        self.stage = stage
        self.positions = positions
        """Next offset to read, by topic."""
        self.committed_position = positions[config.source]
        self.seek_count = 0
        self.due = asyncio.Event()
        """Set where the next commit should not wait for its time."""
        self.broker_ms = 0
        """The latest time that the brokers' clocks were seen at, ms UTC."""
        self._number = number
        self._producer = producer
        self._config = config
        self._epoch = epoch
        self._committed = dict(positions)
        self._busy = asyncio.Lock()
        self._failed = False

    @property
    def number(self) -> int:
        return self._number

    @property
    def position(self) -> int:
        """Offset of the next record of the source."""
        return self.positions[self._config.source]

    @property
    def size(self) -> int:
        """Visitors, or users, with state."""
        return self.stage.size

    @property
    def hurries(self) -> bool:
        """Whether somebody waits for what a commit would publish."""
        return self.stage.hurries

    def process(self, records: Iterable[Any]) -> None:
        """Take in records of the source; those before the position were taken in before.

        Raises UnknownSchema: once that is at hand, the same may be handed in again; and TooManyDeadLetters.
        """
        position, broker_ms, process = self.position, self.broker_ms, self.stage.process
        try:
            for record in records:
                offset = record.offset
                if offset >= position:
                    process(record)
                    position = offset + 1
                    if record.timestamp > broker_ms:
                        broker_ms = record.timestamp
        finally:
            self.positions[self._config.source], self.broker_ms = position, broker_ms

    def take_in(self, topic: str, records: list[Any], end: int | None) -> None:
        """Take in records of a side input, in the same way; or, with none, that it was read up to `end`."""
        new = [record for record in records if record.offset >= self.positions[topic]]
        if new:
            self.positions[topic] = new[-1].offset + 1
            self.broker_ms = max(self.broker_ms, new[-1].timestamp)
        if end is not None:
            self.positions[topic] = max(self.positions[topic], end)
        if new or end is not None:
            self.stage.take_in(topic, new, self.broker_ms)

    async def commit(self, *, force: bool = False) -> StageCommitted | None:
        """Make everything up to the positions durable; None if there was nothing to do.

        After a commit that failed there never is: the shard is of no use any more. Raises KafkaError.
        """
        async with self._busy:
            dirty = self.stage.has_pending or self.positions != self._committed
            if self._failed or not (force or dirty):
                return None
            self._failed = True  # until it hasn't
            started = time.monotonic()
            try:
                with only_ours():
                    outputs = await self._transact()
            except IllegalOperation:
                # What the client says to a send after a fence that an earlier send has met with.
                raise ProducerFenced from None
            self._failed = False
            return StageCommitted(time.monotonic() - started, outputs.dead, outputs.events)

    async def close(self) -> None:
        """Stop the producer; an open transaction is aborted by the next owner."""
        self.due.set()
        await stop_in_time(self._producer)

    async def _transact(self) -> StageOutputs:
        positions, config = dict(self.positions), self._config
        outputs = self.stage.take()
        progress = msgspec.Raw(encode(self.stage.progress))
        marker = StageMarker(
            STATE_VERSION, self._epoch, config.partitions, positions, progress, dict(config.topic_ids)
        )
        states: list[Message] = [(key.encode(), state, []) for key, state in outputs.states.items()]
        await self._producer.begin_transaction()
        config.reach(KillPoint.STAGE_BEFORE_OUTPUTS)
        sent = []
        by_target = dict(outputs.batches)
        for topic, partition, message in outputs.records:
            by_target.setdefault((topic, partition), []).append(message)
        for (topic, partition), messages in by_target.items():
            sent += await self._send(topic, partition, messages)
        config.reach(KillPoint.STAGE_BETWEEN_OUTPUTS_AND_MARKER)
        sent += await self._send(config.changelog, self._number, [*states, (MARKER_KEY, encode(marker), [])])
        delivered = await all_of(sent)
        config.reach(KillPoint.STAGE_BEFORE_COMMIT)
        await self._producer.commit_transaction()
        config.reach(KillPoint.STAGE_AFTER_COMMIT)
        self.committed_position, self._committed = positions[config.source], positions
        self.broker_ms = max(self.broker_ms, delivered[-1].timestamp)
        return outputs

    async def _send(self, topic: str, partition: int, messages: list[Message]) -> list[Any]:
        sent = prefixed(messages, topic, self._config.registry.prefixes)
        return [
            await self._producer.send_batch(batch, topic, partition=partition)
            for batch in batches_of(self._producer, sent)
        ]

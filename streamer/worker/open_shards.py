"""The shards that a worker has open, among the partitions that the group assigns to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.worker.health import HeldUp
from streamer.worker.kill_points import KillPoint, Reach
from streamer.worker.memory import give_back_memory
from streamer.worker.transport import BatchConsumer, EmptyFetch

log = structlog.get_logger(__name__)


class OpenShard(Protocol):
    """What all stages' shards have in common."""

    committed_position: int
    """Offset in the source up to which everything is durable."""
    seek_count: int
    """Which seek of the source this state belongs to; batches from before it are not for it."""

    @property
    def number(self) -> int: ...

    @property
    def position(self) -> int:
        """Offset of the next record of the source."""

    @property
    def size(self) -> int:
        """How much it holds, for the log."""

    async def close(self) -> None:
        """Let go of the producer."""


S = TypeVar("S", bound=OpenShard)


class TakenOver(NamedTuple, Generic[S]):
    """What became of the partitions that were wanted; others are not this worker's any more."""

    shards: list[S]
    """Each with its claim committed."""
    failed: dict[int, KafkaError]
    """Partitions that a broker failed for; the others don't wait for them."""


TakeOver = Callable[[list[int], Callable[[int], bool], Callable[[], None]], Awaitable[TakenOver[S]]]
"""Of partitions, given which of them are still wanted, and what to call after each fetch of state."""


class OpenShards(Generic[S]):
    """Shards of one stage by partition number of its source."""

    def __init__(self, topic: str, partitions: int, take_over: TakeOver[S], reach: Reach, holds: str) -> None:
        """`partitions` of the topic are used, from the first on. `holds` names what `size` counts."""
        self.by_number: dict[int, S] = {}
        self.consumer: BatchConsumer | None = None
        """The transport's, as soon as there is one."""
        self.joined = False
        """Whether the group has said which partitions are this worker's."""
        self.rebalancing = False
        """Whether it is about to say so anew."""
        self.furthest = 0
        """Fetches of state that a take-over has read, at most, since the last that succeeded: one that fails
        again and again comes no further."""
        self.on_opened: Callable[[S], object] = lambda _: None
        self._opening: set[int] = set()
        """Partitions that are being taken over: none is taken over twice at once."""
        self.topic = topic
        """The stage's source."""
        self._partitions = partitions
        self._take_over = take_over
        self._reach = reach
        self._holds = holds

    def assigned(self) -> set[int]:
        """Partitions that are this worker's, as the group has last said; of those that are used."""
        assert self.consumer is not None
        numbers = {tp.partition for tp in self.consumer.assignment() if tp.topic == self.topic}
        return {number for number in numbers if number < self._partitions}

    def missing(self) -> set[int]:
        """Assigned partitions without a shard."""
        return self.assigned() - self.by_number.keys()

    def has(self, shard: S) -> bool:
        """Whether this very shard is open still, and wasn't dropped and another opened in its place."""
        return self.by_number.get(shard.number) is shard

    async def open(self, numbers: Iterable[int]) -> dict[int, KafkaError]:
        """Take partitions over and fetch them; returns those that failed. Raises what `take_over` raises."""
        wanted = (set(numbers) & self.missing()) - self._opening
        if not wanted:
            return {}
        self._opening |= wanted
        try:
            with only_ours():
                shards, failed = await self._take_over(
                    sorted(wanted), lambda number: number in self.assigned(), self._progress()
                )
        finally:
            self._opening -= wanted
        kept = [shard for shard in shards if shard.number in self.assigned()]
        self.furthest = 0 if kept else self.furthest
        for shard in kept:
            self.by_number[shard.number] = shard
            self.seek(shard.number)
            self.on_opened(shard)
        await asyncio.gather(*(shard.close() for shard in shards if shard not in kept))
        await asyncio.to_thread(give_back_memory)
        held = {self._holds: sum(shard.size for shard in kept)}
        log.info("shards_open", partitions=[shard.number for shard in kept], **held)
        return failed

    def _progress(self) -> Callable[[], None]:
        """To be called after each fetch of one take-over."""
        fetches = count(1)

        def went_on() -> None:
            self.furthest = max(self.furthest, next(fetches))

        return went_on

    def seek(self, number: int) -> None:
        """Fetch a shard's partition from the shard's position on."""
        assert self.consumer is not None
        shard = self.by_number[number]
        self._reach(KillPoint.BEFORE_SEEK)
        shard.seek_count = self.consumer.request_seek(TP(self.topic, number), shard.position)

    async def drop(self, number: int) -> None:
        """Let go of a shard; what it has not committed is lost from memory and read again."""
        shard = self.by_number.pop(number)
        await shard.close()

    def committed_positions(self) -> dict[TP, int]:
        """Source positions that are durable."""
        return {TP(self.topic, n): shard.committed_position for n, shard in self.by_number.items()}

    def empty_fetch(self, shard: S) -> EmptyFetch | None:
        """The last fetch that found nothing; None before the first since the shard was opened."""
        assert self.consumer is not None
        return self.consumer.empty_fetch(TP(self.topic, shard.number)) if shard.seek_count else None

    def lag(self, shard: S) -> int:
        """Records of the source behind the shard's position, as of the last answered fetch."""
        assert self.consumer is not None  # or there would be no shard
        return self.consumer.lag(TP(self.topic, shard.number), shard.position)

    def held_up(self, now: float) -> dict[int, HeldUp]:
        """Partitions that an open transaction keeps from being read on; `now` in monotonic seconds."""
        if self.consumer is None:
            return {}
        found = {
            number: self.consumer.held_up(TP(self.topic, number), shard.position)
            for number, shard in self.by_number.items()
        }
        return {n: HeldUp(held.offset, now - held.since) for n, held in found.items() if held is not None}

    def unanswered_for(self, now: float) -> float:
        """Seconds since the brokers last answered a fetch; `now` in monotonic seconds."""
        return 0.0 if self.consumer is None else now - self.consumer.answered_at

    def is_out_of_range(self, shard: S) -> bool:
        """Whether the source has no record at the shard's position any more, or not yet."""
        assert self.consumer is not None
        return TP(self.topic, shard.number) in self.consumer.out_of_range

"""Draining: up to the ends of the partitions as they were at the start, then everything open is closed.

A drain answers for the partitions of its scope, whoever of the group has them: it is finished when each is
drained, by this worker or, as the marker in its changelog says, by another. Until then it waits: a member
that died owns its partitions until the group gives them away, and this worker may get them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError, UsageError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.kafka.group_members import owners
from streamer.settings import Settings
from streamer.worker.changelog import Marker
from streamer.worker.log_reader import LogReader
from streamer.worker.open_shards import OpenShards
from streamer.worker.options import DrainOptions
from streamer.worker.shard import Shard, ShardConfig
from streamer.worker.transport import EmptyFetch, FetchedRecord, RecordBatch

LOOK_EVERY_S = 1.0
REPORT_EVERY_S = 10.0
_FEW_OFFSETS = 100

log = structlog.get_logger(__name__)


class DrainTimeoutError(StreamerError):
    """Not all that was to be drained is drained; the text says what is missing and who has it."""


class DrainStoppedError(StreamerError):
    """The worker was stopped before everything was drained."""

    def __init__(self) -> None:
        super().__init__(
            "stopped by a signal before everything was drained: run the same command again to drain the rest"
        )


class Bounds(NamedTuple):
    """Of a partition at the start: the offset of its first record, and of the next one to come."""

    first: int
    end: int


async def read_bounds(config: ShardConfig) -> dict[int, Bounds]:
    """Of every partition of the clicks that is used. Raises KafkaError.

    The end is the high watermark: behind somebody's open transaction there may be clicks that nobody can read
    yet.
    """
    async with LogReader(config.arguments, isolation_level="read_uncommitted") as reader:
        found = await reader.bounds(config.settings.session_source, range(config.source.partitions))
    return {number: Bounds(*bounds) for number, bounds in found.items()}


class DrainTurns:
    """The waiting of a drain, turn by turn, until its time is over."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._started = self._reported = time.monotonic()
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """End the turn that is waited for: there is less to wait for."""
        self._changed.set()

    async def wait(self, describe: Callable[[], Awaitable[str]]) -> None:
        """Wait for a while, or until woken; `describe` says for what, where that is reported.

        Raises DrainTimeoutError once the time of the whole drain is over.
        """
        now, timeout_s = time.monotonic(), self._timeout_s
        if timeout_s is not None and now - self._started > timeout_s:
            raise DrainTimeoutError(f"not drained after {timeout_s:g} s: {await describe()}")
        if now - self._reported > REPORT_EVERY_S:
            self._reported = now
            log.info("drain_waits", missing=await describe())
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._changed.wait()


ReadBounds = Callable[[DrainTurns], Awaitable[Mapping[int, Bounds]]]


class Drain:
    """Which partitions are still to be drained.

    `bounds`: of all of them, read before the group is joined; or, where another stage has to write the clicks
    first, what waits for that and reads them then.
    """

    def __init__(
        self, options: DrainOptions, config: ShardConfig, bounds: Mapping[int, Bounds] | ReadBounds
    ) -> None:
        self.finished = asyncio.Event()
        self._options = options
        self._config = config
        self._read_bounds = bounds if callable(bounds) else None
        self._bounds: Mapping[int, Bounds] = {} if callable(bounds) else bounds
        self._done: set[int] = set()
        self.turns = DrainTurns(options.timeout_s)
        partitions = config.source.partitions
        if isinstance(options.scope, frozenset) and options.scope - set(range(partitions)):
            raise UsageError(
                f"--partitions {_listed(options.scope)}: {self._settings.session_source} has {partitions} "
                f"partitions, 0 to {partitions - 1}"
            )

    def within(self, batch: RecordBatch) -> list[FetchedRecord]:
        """The batch's records before the end."""
        bounds = self._bounds.get(batch.tp.partition)
        if bounds is None or batch.records[-1].offset < bounds.end:
            return batch.records
        return [record for record in batch.records if record.offset < bounds.end]

    def lag(self, number: int, position: int) -> int:
        """Records that are still to be processed, for those beyond the end aren't."""
        return max(self._bounds[number].end - position, 0) if number in self._bounds else 0

    def is_due(self, shard: Shard, empty: EmptyFetch | None) -> bool:
        """Whether the shard has been read to its end, and isn't done. `empty`: the last fetch that was."""
        number, position = shard.number, shard.partition.position
        if number not in self._bounds or number in self._done or number not in self._wanted({number}):
            return False
        end = self._bounds[number].end
        at_fetched_end = empty is not None and empty.offset >= end and position >= empty.records_end
        return position >= end or at_fetched_end

    def end_of(self, shard: Shard) -> int:
        """The source offset up to which a shard is drained that was due."""
        return max(shard.partition.position, self._bounds[shard.number].end)

    def note_done(self, number: int) -> None:
        """Everything of this partition is published."""
        self._done.add(number)
        self.turns.wake()

    async def follow(self, shards: OpenShards[Shard]) -> None:
        """Returns when all is drained. Raises DrainTimeoutError."""
        if self._read_bounds is not None:
            self._bounds = await self._read_bounds(self.turns)
        while missing := self._missing(shards):
            await self.turns.wait(partial(self._described, missing, shards))
            await self._look_at_others(self._missing(shards) - _assigned(shards))
        self.finished.set()

    @property
    def _settings(self) -> Settings:
        return self._config.settings

    def _wanted(self, assigned: set[int]) -> set[int]:
        match self._options.scope:
            case "all":
                return set(self._bounds)
            case "assigned":
                return assigned & self._bounds.keys()
            case numbers:
                return set(numbers)

    def _missing(self, shards: OpenShards[Shard]) -> set[int]:
        if self._options.scope == "assigned" and not shards.joined:
            return set(self._bounds)
        return self._wanted(_assigned(shards)) - self._done

    async def _look_at_others(self, numbers: set[int]) -> None:
        """Others of the group may have drained these, or there is nothing in them."""
        almost = {}
        for number, marker in (await self._markers(numbers)).items():
            bounds = self._bounds[number]
            if bounds.first >= bounds.end if marker is None else marker.drained >= bounds.end:
                self._done.add(number)
            elif marker is not None and bounds.end - marker.drained <= _FEW_OFFSETS:
                almost[number] = (marker.drained, bounds.end)
        if almost:
            self._done |= await self._without_records(almost)

    async def _without_records(self, ranges: Mapping[int, tuple[int, int]]) -> set[int]:
        """Partitions that have no record between two offsets: transactions end with such offsets."""
        try:
            with only_ours():
                async with LogReader(self._config.arguments) as reader:
                    return await reader.hold_nothing(self._settings.session_source, ranges)
        except KafkaError as error:
            log.warning("clicks_unread", error=type(error).__name__)
            return set()

    async def _markers(self, numbers: set[int]) -> dict[int, Marker | None]:
        if not numbers:
            return {}
        try:
            with only_ours():
                async with LogReader(self._config.arguments) as reader:
                    return await reader.last_markers(self._settings.changelog, numbers)
        except KafkaError as error:
            log.warning("changelog_unread", error=type(error).__name__)
            return {}

    async def _described(self, missing: set[int], shards: OpenShards[Shard]) -> str:
        mine, held_up = _assigned(shards), shards.held_up(time.monotonic())
        members = await self._owners() if missing - mine else {}
        markers = await self._markers(missing - mine)
        return ", ".join(
            f"partition {number} at {_position(number, shards, markers)} of {self._bounds[number].end} "
            f"({'this worker' if number in mine else members.get(number, 'nobody')}"
            f"{', behind an open transaction' if number in held_up else ''})"
            for number in sorted(missing)
        )

    async def _owners(self) -> dict[int, str]:
        admin = AIOKafkaAdminClient(**self._config.arguments)
        try:
            with only_ours():
                await admin.start()
                return await owners(admin, self._settings.app.id, self._settings.session_source)
        except KafkaError:
            return {}
        finally:
            await admin.close()


def _assigned(shards: OpenShards[Shard]) -> set[int]:
    return shards.assigned() if shards.joined else set()


def _position(number: int, shards: OpenShards[Shard], markers: Mapping[int, Marker | None]) -> int | str:
    shard = shards.by_number.get(number)
    if shard is not None:
        return shard.partition.position
    marker = markers.get(number)
    return marker.position if marker is not None else "no position"


def _listed(numbers: frozenset[int]) -> str:
    return ",".join(map(str, sorted(numbers)))

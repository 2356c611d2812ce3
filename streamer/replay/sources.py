"""What a replay reads: portions of records, partition by partition, as fast as they come or at a pace."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import NamedTuple, Protocol

import msgspec

from streamer.pipeline.dead_letters import Header
from streamer.pipeline.partition import LOG_APPEND_TIME, Decode, Record, Whole
from streamer.registry.lookup import SchemaLookup
from streamer.replay.partition_replay import PartitionReplay
from streamer.schemas.click import Session

STEP_S = 0.125
"""How often a paced source looks at what is due."""


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that doesn't come from a client. `timestamp` is arrival time in ms UTC."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    timestamp_type: int = LOG_APPEND_TIME


class Portion(NamedTuple):
    """Consecutive records of a partition, all before its end; none with `is_last`: there are no more."""

    number: int
    records: Sequence[Record] = ()
    is_last: bool = False
    idle_until_ms: int | None = None
    """Every record that arrived before it has been handed over."""


class RecordSource(Protocol):
    def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        """Records of these partitions from the given offsets on, each partition's in order, and one
        portion with `is_last` for each."""

    @property
    def decode(self) -> Decode:
        """As `ClickDecoder.decode`, which it had better be itself: a partition knows its compiled way."""

    @property
    def whole(self) -> Whole | None:
        """As in PartitionPolicy."""

    @property
    def lookup(self) -> SchemaLookup:
        """Where schemas come from that `decode` doesn't know."""


async def replayed(
    source: RecordSource, replay: PartitionReplay, records: Sequence[Record], sessions: list[Session]
) -> None:
    """Have the replay take in records of the source, and append the sessions that it yields."""
    # What is yielded before a schema is missing is among the sessions, and not yielded again.
    await source.lookup.tried(lambda: sessions.extend(replay.process(records)))


class PacedSource:
    """Hands over what `source` has at the pace at which it arrived, or a multiple of it, idleness included.

    What arrived before `begin_ms` is due at once.
    """

    def __init__(
        self,
        source: RecordSource,
        speed: float,
        begin_ms: int | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`now` in monotonic seconds. Without `begin_ms` time begins with the first record."""
        self._source = source
        self._speed = speed
        self._begin_ms = begin_ms
        self._now = now
        self._sleep = sleep
        self.decode = source.decode
        self.lookup = source.lookup
        self.whole = source.whole

    async def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        async with AsyncExitStack() as open_sources:
            ahead = {}
            for number, at in positions.items():
                source = self._source.portions({number: at})
                ahead[number] = _ReadAhead(await open_sources.enter_async_context(aclosing(source)))
            async for portion in self._paced(ahead):
                yield portion

    async def _paced(self, ahead: dict[int, _ReadAhead]) -> AsyncGenerator[Portion]:
        begun_at = self._now()
        begin_ms = self._begin_ms
        while ahead:
            for partition in ahead.values():
                await partition.fill()
            if begin_ms is None:
                begin_ms = min((each.next_ms for each in ahead.values() if each.records), default=0)
            now_ms = begin_ms + int((self._now() - begun_at) * 1000 * self._speed)
            for number, partition in list(ahead.items()):
                while due := partition.take(now_ms):
                    yield Portion(number, due)
                    await partition.fill()
                if partition.is_done:
                    del ahead[number]
                    yield Portion(number, is_last=True)
                else:
                    yield Portion(number, idle_until_ms=now_ms)
            if ahead:
                await self._sleep(STEP_S)


class _ReadAhead:
    """Records of one partition, read ahead."""

    def __init__(self, portions: AsyncGenerator[Portion]) -> None:
        self.records: deque[Record] = deque()
        self._portions = portions
        self._ended = False

    @property
    def next_ms(self) -> int:
        return self.records[0].timestamp

    @property
    def is_done(self) -> bool:
        return self._ended and not self.records

    async def fill(self) -> None:
        """Read on until there is a record, or no more."""
        while not self.records and not self._ended:
            portion = await anext(self._portions)
            self.records.extend(portion.records)
            if portion.is_last:
                self._ended = True
                async with aclosing(self._portions):
                    pass

    def take(self, until_ms: int) -> list[Record]:
        """Those that are due, as far as they have one kind of timestamp."""
        due: list[Record] = []
        while self.records and self.records[0].timestamp <= until_ms:
            if due and due[0].timestamp_type != self.records[0].timestamp_type:
                break
            due.append(self.records.popleft())
        return due

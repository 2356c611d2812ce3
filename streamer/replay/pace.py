"""A source at the pace at which its records arrived, or a multiple of it, silence included."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from streamer.pipeline.partition import Record
from streamer.replay.source import Portion, Source

STEP_S = 0.125
"""How often it is looked at what is due."""


class PacedSource:
    """Hands over what `source` has when it is due. What arrived before `begin_ms` is due at once."""

    def __init__(
        self,
        source: Source,
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

    async def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        lanes = {n: _Ahead(n, self._source.portions({n: at})) for n, at in positions.items()}
        begun_at = self._now()
        begin_ms = self._begin_ms
        while lanes:
            for lane in lanes.values():
                await lane.fill()
            if begin_ms is None:
                begin_ms = min((lane.next_ms for lane in lanes.values() if lane.records), default=0)
            now_ms = begin_ms + int((self._now() - begun_at) * 1000 * self._speed)
            for number, lane in list(lanes.items()):
                while due := lane.take(now_ms):
                    yield Portion(number, due)
                    await lane.fill()
                if lane.is_done:
                    del lanes[number]
                    yield Portion(number, is_last=True)
                else:
                    yield Portion(number, silent_until_ms=now_ms)
            if lanes:
                await self._sleep(STEP_S)


class _Ahead:
    """Records of one partition, read ahead."""

    def __init__(self, number: int, portions: AsyncGenerator[Portion]) -> None:
        self.records: deque[Record] = deque()
        self._number = number
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
        due = []
        while self.records and self.records[0].timestamp <= until_ms:
            due.append(self.records.popleft())
        return due

"""Replay at the pace at which records arrived: what is due comes, idleness comes in its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from streamer.pipeline.decode import Arrived
from streamer.registry.lookup import SchemaLookup
from streamer.replay.sources import LogRecord, PacedSource, Portion
from streamer.settings import RegistrySettings


class Given:
    """Records of each partition at once."""

    def __init__(self, log: dict[int, list[int]]) -> None:
        self.log = log
        self.lookup = SchemaLookup(RegistrySettings())
        self.whole = None

    def decode(self, value: bytes | None, arrival: int, fallback_id: str) -> Arrived | None:
        return None

    async def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        for number in positions:
            yield Portion(number, [LogRecord(n, at, None, None) for n, at in enumerate(self.log[number])])
            yield Portion(number, is_last=True)


def played(log: dict[int, list[int]], speed: float, begin_ms: int | None = None) -> list[tuple[int, Portion]]:
    """(ms of wall time, portion) of a replay on a clock that only sleeping moves."""
    wall_s = 100.0
    seen: list[tuple[int, Portion]] = []

    async def sleep(seconds: float) -> None:
        nonlocal wall_s
        wall_s += seconds

    async def run() -> None:
        source = PacedSource(Given(log), speed, begin_ms, lambda: wall_s, sleep)
        async for portion in source.portions(dict.fromkeys(log, 0)):
            seen.append((round((wall_s - 100.0) * 1000), portion))

    asyncio.run(run())
    return seen


def arrivals(seen: list[tuple[int, Portion]], number: int) -> list[tuple[int, int]]:
    """(wall ms, arrival) of each record of a partition."""
    return [(wall, r.timestamp) for wall, p in seen if p.number == number for r in p.records]


def test_records_come_when_they_are_due_and_not_before() -> None:
    seen = played({0: [5000, 5250, 9000]}, speed=1)
    assert arrivals(seen, 0) == [(0, 5000), (250, 5250), (4000, 9000)]


def test_speed_divides_the_time() -> None:
    assert arrivals(played({0: [5000, 9000]}, speed=4), 0) == [(0, 5000), (1000, 9000)]


def test_what_arrived_before_the_stretch_comes_at_once() -> None:
    assert arrivals(played({0: [1000, 4000, 5500]}, speed=1, begin_ms=5000), 0) == [
        (0, 1000),
        (0, 4000),
        (500, 5500),
    ]


def test_an_idle_partition_gets_the_time_while_another_has_records_and_never_too_much() -> None:
    seen = played({0: [1000, 2000, 3000], 1: [1500, 3000]}, speed=1)
    idle_times = [p.idle_until_ms for _, p in seen if p.number == 1 and p.idle_until_ms]
    assert idle_times == sorted(idle_times)
    assert 1375 in idle_times
    given = 0
    for _, portion in seen:
        if portion.number == 1:
            given = max([given, *(r.timestamp for r in portion.records)])
            missing = [at for at in (1500, 3000) if at > given]
            assert not missing or (portion.idle_until_ms or 0) <= missing[0]


def test_each_partition_ends_once() -> None:
    seen = played({0: [1000], 1: [], 2: [1000, 1300]}, speed=1)
    assert sorted(p.number for _, p in seen if p.is_last) == [0, 1, 2]


def test_sources_are_closed_where_somebody_stops_half_way() -> None:
    """An open one is closed by the loop otherwise, at its end and with a traceback."""
    closed = []

    class Watched(Given):
        async def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
            try:
                async for portion in super().portions(positions):
                    yield portion
            finally:
                closed.extend(positions)

    async def stop_half_way() -> None:
        source = PacedSource(Watched({0: [0, 60_000], 1: [0, 60_000]}), 1, 0, lambda: 0.0, asyncio.sleep)
        async with aclosing(source.portions({0: 0, 1: 0})) as portions:
            await anext(portions)
            await anext(portions)
        assert sorted(closed) == [0, 1]

    asyncio.run(stop_half_way())

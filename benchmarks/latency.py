"""From the append of the record that closes a session to its intent being readable with read_committed.

A day's clicks of 5,000 visitors are appended at 2,000/s, so that 250 sessions a second close while as many
open. The first time is the broker's own (LogAppendTime, which the intent carries as `closed_at`), the second
is when a consumer in this process got the record; both clocks are this machine's. For the yardstick the
first is found afterwards by running its logic over the topic. It polls every 20 ms here, instead of waiting
for ten thousand clicks or 200 ms. It has no commits, so nothing to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from aiokafka.structs import TopicPartition

from benchmarks.backlog import committed_reader
from benchmarks.clicks import clicks
from benchmarks.installation import PARTITIONS, installed
from benchmarks.live_worker import live
from benchmarks.pacing import append_steadily
from benchmarks.pairs import Spread, percentile, spread
from benchmarks.throughput import LOOP
from benchmarks.yardstick import Part
from streamer.kafka.embedded import EmbeddedKafka
from streamer.schemas import codec

PER_S = 2000
VISITORS = 5000
WARM_UP_S = 2.0
SETTLED_S = 3.0
INTERVALS_MS = (50, 250, 1000)


@dataclass(frozen=True)
class Latency:
    """Milliseconds, over the rounds."""

    p50: Spread
    p99: Spread
    sessions: int
    """In all rounds."""


def measure(seconds: float, rounds: int) -> dict[str, Latency]:
    """The yardstick and each commit interval in turn."""
    programs = [LOOP, *(str(interval) for interval in INTERVALS_MS)]
    found: dict[str, list[list[float]]] = {program: [] for program in programs}
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        for number in range(rounds):
            for program in programs:
                waits = asyncio.run(_round(kafka.bootstrap, f"{program}-{number}", program, seconds))
                found[program].append(waits)
                says = f"p50 {percentile(waits, 0.5):.0f} ms, p99 {percentile(waits, 0.99):.0f} ms"
                print(f"round {number + 1} of {rounds}: {program} {says}", file=sys.stderr)
    return {program: latency(waits) for program, waits in found.items()}


def latency(rounds: list[list[float]]) -> Latency:
    """`rounds`: ms of every session of each."""
    return Latency(
        spread(percentile(waits, 0.5) for waits in rounds),
        spread(percentile(waits, 0.99) for waits in rounds),
        sum(map(len, rounds)),
    )


async def _round(bootstrap: str, app_id: str, program: str, seconds: float) -> list[float]:
    topic = f"{app_id}.clicks"
    count = int(seconds * PER_S)
    interval = {} if program == LOOP else {"commit__interval_ms": int(program)}
    # The loader has an event loop of its own, in a thread: create_topics wants one.
    overrides = await asyncio.to_thread(installed, bootstrap, app_id, topic, **interval)
    out = str(overrides["topics.intents"])
    with _program(program, bootstrap, overrides):
        async with readable(bootstrap, out) as found:
            began = time.time()
            await append_steadily(bootstrap, topic, islice(clicks(count, VISITORS), count), PER_S)
            await asyncio.sleep(SETTLED_S)
    since = (began + WARM_UP_S) * 1000
    closings = await _closings(bootstrap, topic)
    if program != LOOP:
        records = [codec.decode(value)[1] for _, value in found]
        own = {(record["visitor_id"], record["started_at"]): record["closed_at"] for record in records}
    else:
        records = [orjson.loads(value) for _, value in found]
        own = {name: closings[name] for name in ((each["visitor_id"], each["start"]) for each in records)}
    _check(program, len(records), own, closings)
    return [
        at - closed_at for (at, _), closed_at in zip(found, own.values(), strict=True) if closed_at >= since
    ]


class WrongSessionsError(Exception):
    """Sessions were lost, came twice, or were said to have closed at another moment."""


def _check(
    program: str, count: int, own: Mapping[tuple[str, int], int], closings: Mapping[tuple[str, int], int]
) -> None:
    """The yardstick closes a session whose end lies exactly a gap back, the worker only the next: one in
    thousands may close a click later."""
    wrong = sum(own[name] != at for name, at in closings.items() if name in own)
    missing = len(closings.keys() - own.keys())
    if len(own) != count or own.keys() - closings.keys() or wrong + missing > 3 + len(closings) // 500:
        raise WrongSessionsError(
            f"{program} gave {count} records of {len(own)} sessions; of {len(closings)} expected {missing} "
            f"are missing, {wrong} closed at another moment"
        )


@contextmanager
def _program(program: str, bootstrap: str, overrides: Mapping[str, object]) -> Iterator[None]:
    """Running and ready."""
    if program != LOOP:
        with live(overrides) as worker:
            worker.event("shards_open")
            yield
        return
    topic, out, group = (str(overrides[name]) for name in ("topics.clicks", "topics.intents", "app.id"))
    command = [sys.executable, "-m", "benchmarks.endless_yardstick", bootstrap, topic, out, group]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as loop:
        time.sleep(2)
        try:
            yield
        finally:
            loop.kill()


@asynccontextmanager
async def readable(bootstrap: str, topic: str) -> AsyncIterator[list[tuple[float, bytes]]]:
    """Records of a topic from now on, each with the moment (ms UTC) at which a reader had it."""
    found: list[tuple[float, bytes]] = []
    consumer = committed_reader(bootstrap)
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])

    async def read() -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=500)
            now = time.time() * 1000
            found.extend((now, record.value) for records in batches.values() for record in records)

    reading = asyncio.create_task(read())
    try:
        yield found
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await consumer.stop()


async def _closings(bootstrap: str, topic: str) -> dict[tuple[str, int], int]:
    """(visitor, start) of each session that the yardstick closes -> append of the record that closes it."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = committed_reader(bootstrap)
    await consumer.start()
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    closings: dict[tuple[str, int], int] = {}
    now = 0

    def emit(visitor: str, session: list[Any]) -> None:
        closings[visitor, session[0]] = now

    parts = {each: Part(emit) for each in partitions}
    while any([await consumer.position(each) < ends[each] for each in partitions]):
        for each, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                now = record.timestamp
                parts[each].add(orjson.loads(record.value))
                parts[each].close()
    await consumer.stop()
    return closings

"""Many updates of the visitors topic through a real broker, and what a view has to have come to by then.

`python -m tests.client.updates 1000000` does a million and prints what was measured. Updates have two
embedding spaces, tombstones, and transactions of which some are aborted; the topic is compacted meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streamer.client import VisitorView
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import Topic, create_topics
from streamer.schemas import codec
from streamer.settings import Settings, load_settings
from tests.client.records import NOW_MS, a_record

DIMENSIONS = 64
IN_A_TRANSACTION = 500
SPACES = ("space", "next")


class Update(NamedTuple):
    visitor: str
    record: dict[str, Any] | None
    """None: a tombstone."""


def updates(count: int, visitors: int, chance: random.Random) -> Iterator[Update]:
    """One a millisecond, from NOW_MS on: 2 % tombstones; after three fifths, the next space for most."""
    for n in range(count):
        visitor = f"v{chance.randrange(visitors)}"
        if chance.random() < 0.02:
            yield Update(visitor, None)
        else:
            space = SPACES[n > 0.6 * count and chance.random() < 0.75]
            vector = [n / count] * DIMENSIONS
            yield Update(visitor, a_record(visitor, NOW_MS + n, embedding=vector, embedding_space=space))


async def create(settings: Settings) -> None:
    """The visitors topic, compacted as soon as can be."""
    topics = settings.topics
    config = {
        "cleanup.policy": "compact,delete",
        "segment.bytes": str(4 << 20),
        "min.cleanable.dirty.ratio": "0.01",
    }
    await create_topics(
        settings.kafka, [Topic(topics.visitors, topics.partitions, topics.replication, config)]
    )


async def publish(settings: Settings, count: int, visitors: int) -> tuple[dict[str, dict[str, Any]], int]:
    """Send them all; returns the latest record of each visitor that has one, and how many were aborted."""
    chance = random.Random(7)
    aborted = 0
    latest: dict[str, dict[str, Any]] = {}
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        transactional_id=settings.topics.visitors,
        linger_ms=5,
        max_batch_size=256 * 1024,
    )
    await producer.start()
    waiting: list[Update] = []

    async def send_all() -> None:
        nonlocal aborted
        await producer.begin_transaction()
        for visitor, record in waiting:
            value = codec.encode("visitor_intent", record) if record else None
            partition = int(visitor[1:]) % settings.topics.partitions
            await producer.send(settings.topics.visitors, value, key=visitor.encode(), partition=partition)
        if chance.random() < 0.1:
            aborted += len(waiting)
            await producer.abort_transaction()
        else:
            await producer.commit_transaction()
            for visitor, record in waiting:
                latest.pop(visitor, None)
                if record:
                    latest[visitor] = record
        waiting.clear()

    for update in updates(count, visitors, chance):
        waiting.append(update)
        if len(waiting) >= IN_A_TRANSACTION:
            await send_all()
    await send_all()
    await producer.stop()
    return latest, aborted


def differences(view: VisitorView, latest: Mapping[str, Mapping[str, Any]], now_ms: int, ttl_ms: int) -> int:
    """Visitors of whom the view tells something else than the topic, or has something it should not."""
    wrong = 0
    recent = 0
    for visitor, record in latest.items():
        state = view.get(visitor)
        if now_ms - record["closed_at"] > ttl_ms:
            wrong += state is not None
            continue
        recent += 1
        wrong += state is None or (
            state.session_id != record["session_id"]
            or state.closed_at != record["closed_at"]
            or state.top_intent != record["top_intent"]
            or state.embedding_space != record["embedding_space"]
            or state.embedding_for(record["embedding_space"]) is None
            or abs(float(state.vector[-1]) - record["embedding"][-1]) > 1e-6
        )
    return wrong + abs(len(view) - recent)


async def kept(settings: Settings) -> int:
    """Records that the topic still has, aborted ones left out."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    tps = [TopicPartition(settings.topics.visitors, n) for n in range(settings.topics.partitions)]
    consumer.assign(tps)
    ends = await consumer.end_offsets(tps)
    count = 0
    while any([await consumer.position(tp) < ends[tp] for tp in tps]):
        count += sum(len(records) for records in (await consumer.getmany(timeout_ms=200)).values())
    await consumer.stop()
    return count


class Outcome(NamedTuple):
    """Of views that followed, and that began when all was there: visitors told wrongly."""

    following: int
    begun_after: int
    visitors: int
    expired: int
    aborted: int
    """Updates in transactions that were given up."""
    spaces: list[str]
    """In the order in which the view told of them."""
    figures: dict[str, Any]


def run(settings: Settings, count: int, visitors: int, compacted_within_s: float = 0) -> Outcome:
    """Publish while a view follows, compare, and compare a new view with the compacted topic."""
    asyncio.run(create(settings))
    ttl_ms, end_ms = count // 2, NOW_MS + count
    spaces: list[str] = []
    now_s = [NOW_MS / 1000]

    def opened(**more: Any) -> VisitorView:
        return VisitorView(settings, ttl_s=ttl_ms / 1000, now=lambda: now_s[0], **more)

    with opened(on_new_space=spaces.append, ready_within_s=600) as view:
        begun = time.monotonic()
        latest, aborted = asyncio.run(publish(settings, count, visitors))
        now_s[0] = end_ms / 1000
        expired = sum(end_ms - record["closed_at"] > ttl_ms for record in latest.values())
        following = _settled(view, latest, end_ms, ttl_ms)
        seconds = time.monotonic() - begun
        lookups = _look_ups(view, list(latest))
    records = _compacted(settings, count, compacted_within_s)
    begun = time.monotonic()
    with opened(ready_within_s=600) as fresh:
        ready_s = time.monotonic() - begun
        begun_after = _settled(fresh, latest, end_ms, ttl_ms)
    figures = {
        "updates": count,
        "visitors": len(latest),
        "expired": expired,
        "aborted": aborted,
        "records_after_compaction": records,
        "seconds_published_and_followed": round(seconds, 1),
        "seconds_to_read_from_the_beginning": round(ready_s, 1),
        "look_up_us": lookups,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return Outcome(following, begun_after, len(latest), expired, aborted, spaces, figures)


def _settled(view: VisitorView, latest: Mapping[str, Any], now_ms: int, ttl_ms: int) -> int:
    """Differences once there are none, or after a while."""
    deadline = time.monotonic() + 60
    while (wrong := differences(view, latest, now_ms, ttl_ms)) and time.monotonic() < deadline:
        time.sleep(0.3)
    return wrong


def _compacted(settings: Settings, count: int, within_s: float) -> int:
    deadline = time.monotonic() + within_s
    while (records := asyncio.run(kept(settings))) > 0.6 * count and time.monotonic() < deadline:
        time.sleep(5)
    return records


def _look_ups(view: VisitorView, visitors: list[str]) -> dict[str, float]:
    chance = random.Random(1)
    took = []
    for visitor in chance.choices(visitors, k=100_000):
        begun = time.perf_counter_ns()
        view.get(visitor)
        took.append(time.perf_counter_ns() - begun)
    cuts = statistics.quantiles(took, n=100)
    return {"median": round(cuts[49] / 1000, 1), "p99": round(cuts[98] / 1000, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("updates", type=int)
    parser.add_argument("--visitors", type=int, default=200_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder) / "kafka") as broker:
        settings = load_settings(overrides={"kafka.bootstrap_servers": broker.bootstrap}, environ={})
        outcome = run(settings, given.updates, given.visitors, compacted_within_s=120)
    wrong = {"following": outcome.following, "begun_after": outcome.begun_after}
    print(json.dumps({"wrong": wrong, "spaces": outcome.spaces, **outcome.figures}, indent=1))


if __name__ == "__main__":
    main()

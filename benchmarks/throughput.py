"""CPU per click: batch delivery through Faust, and the whole worker, beside a bare aiokafka loop.

In pairs A B A B against one broker; the worker's start-up, measured on an empty topic, is taken off.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
from aiokafka import AIOKafkaProducer

from benchmarks.clicks import clicks
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.partitions import PartitionChooser
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import Settings, load_settings

PARTITIONS = 4


def measure(count: int, rounds: int) -> dict[str, float]:
    """Medians of CPU microseconds per click, and their ratios to the bare loop of the same round."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        _prepare(kafka.bootstrap, "bench", count)
        _prepare(kafka.bootstrap, "empty", 0)
        start_up_s = statistics.median(_worker(kafka.bootstrap, "empty", n)[0] for n in range(2))
        results = []
        for number in range(rounds):
            bare_us = _delivery("bare", kafka.bootstrap)
            faust_us = _delivery("faust", kafka.bootstrap)
            cpu_s, wall_s = _worker(kafka.bootstrap, "bench", number)
            worker_us = (cpu_s - start_up_s) / count * 1e6
            results.append(
                {
                    "bare_us": bare_us,
                    "faust_delivery_us": faust_us,
                    "worker_us": worker_us,
                    "faust_delivery_vs_bare": faust_us / bare_us,
                    "worker_vs_bare": worker_us / bare_us,
                    "worker_clicks_per_wall_s": count / wall_s,
                }
            )
            print(orjson.dumps(results[-1]).decode(), file=sys.stderr)
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def _settings(bootstrap: str, topic: str, app_id: str) -> Settings:
    names = {f"topics.{name}": f"{topic}.{name}" for name in ("intents", "embeddings", "visitors")}
    sides = {"topics.late": f"{topic}.late", "topics.dlq": f"{topic}.dlq", "topics.clicks": topic}
    own = {"kafka.bootstrap_servers": bootstrap, "app.id": app_id, "log.level": "error"}
    return load_settings(overrides=own | names | sides, environ={})


def _prepare(bootstrap: str, topic: str, count: int) -> None:
    settings = _settings(bootstrap, topic, f"{topic}-0")
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    asyncio.run(_fill(bootstrap, topic, count))


async def _fill(bootstrap: str, topic: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=512 * 1024, linger_ms=5)
    await producer.start()
    choose = PartitionChooser(PARTITIONS)
    batches = {number: producer.create_batch() for number in range(PARTITIONS)}
    for key, value in clicks(count, max(count // 40, 1)):
        number = choose(key)
        if batches[number].append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batches[number], topic, partition=number)
            batches[number] = producer.create_batch()
            batches[number].append(key=key, value=value, timestamp=None)
    for number, batch in batches.items():
        if batch.record_count():
            await producer.send_batch(batch, topic, partition=number)
    await producer.stop()


def _delivery(which: str, bootstrap: str) -> float:
    command = [sys.executable, "-m", "benchmarks.delivery", which, bootstrap, "bench"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = orjson.loads(printed.splitlines()[-1])
    return float(result["cpu_s"]) / float(result["clicks"]) * 1e6


def _worker(bootstrap: str, topic: str, number: int) -> tuple[float, float]:
    """CPU and wall seconds of a worker that drains the topic under an app.id of its own."""
    settings = _settings(bootstrap, topic, f"{topic}-{number}")
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    command = [sys.executable, "-c", "from streamer.cli import main; main()", "worker", "--drain"]
    subprocess.run(command, env=_environment(settings), check=True)
    wall_s = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def _environment(settings: Settings) -> Mapping[str, str]:
    changed = settings.model_dump(exclude_defaults=True, mode="json")
    return dict(os.environ) | {
        f"STREAMER_{section}__{key}".upper(): str(value)
        for section, keys in changed.items()
        for key, value in keys.items()
    }

"""The hand-over at login: from the append of the click that logs in to the customer's record being readable.

As in `latency`: clicks at a steady 2,000/s, both clocks this machine's, the reader read_committed. The third
click of a quarter of the visitors has the id of a customer, who has no record before. Three commits, one of
each stage, lie in between.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from aiokafka.structs import TopicPartition

from benchmarks.backlog import committed_reader
from benchmarks.clicks import clicks
from benchmarks.installation import PARTITIONS, installed
from benchmarks.latency import PER_S, SETTLED_S, VISITORS, WARM_UP_S, Latency, latency, readable
from benchmarks.live_worker import live
from benchmarks.pacing import append_steadily
from streamer.kafka.embedded import EmbeddedKafka
from streamer.schemas import codec

INTERVAL_MS = 50
LOGIN_AT = 3
ONE_IN = 4


class LostLoginError(Exception):
    """A customer who logged in has no record."""


def measure(seconds: float, rounds: int) -> Latency:
    """`rounds` times, with a worker of its own each."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder)) as kafka:
        waits = [asyncio.run(_round(kafka.bootstrap, f"login-{n}", seconds)) for n in range(rounds)]
    return latency(waits)


async def _round(bootstrap: str, app_id: str, seconds: float) -> list[float]:
    topic, count = f"{app_id}.clicks", int(seconds * PER_S)
    more = {"commit__interval_ms": INTERVAL_MS, "identity__enabled": True}
    overrides = await asyncio.to_thread(installed, bootstrap, app_id, topic, **more)
    with live(overrides) as worker:
        worker.event("shards_open")
        await asyncio.sleep(SETTLED_S)  # until the identity stages have their shards
        async with readable(bootstrap, str(overrides["topics.users"])) as found:
            sent = logging_in(islice(clicks(count, VISITORS), count))
            await append_steadily(bootstrap, topic, sent, PER_S)
            await asyncio.sleep(SETTLED_S)
    first: dict[str, float] = {}
    for at, message in found:
        first.setdefault(codec.decode(message)[1]["user_id"], at)
    logins, began = await _logins(bootstrap, topic)
    if missing := logins.keys() - first.keys():
        raise LostLoginError(f"{len(missing)} of {len(logins)} customers who logged in have no record")
    since = began + WARM_UP_S * 1000
    return [first[user] - at for user, at in logins.items() if at >= since]


def logging_in(clicks: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The same clicks; the third of a visitor in four names a customer."""
    seen: Counter[bytes] = Counter()
    for key, value in clicks:
        seen[key] += 1
        if seen[key] == LOGIN_AT and int(key[1:]) % ONE_IN == 0:
            yield key, b'%s,"user_id":"c%s"}' % (value[:-1], key[1:])
        else:
            yield key, value


async def _logins(bootstrap: str, topic: str) -> tuple[dict[str, int], int]:
    """Customer -> append of the click that names them, and that of the first click; ms UTC."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = committed_reader(bootstrap)
    await consumer.start()
    consumer.assign(partitions)
    ends, logins, began = await consumer.end_offsets(partitions), dict[str, int](), 0
    while any([await consumer.position(each) < ends[each] for each in partitions]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                began = min(began or record.timestamp, record.timestamp)
                if b'"user_id"' in record.value:
                    logins[f"c{record.key[1:].decode()}"] = record.timestamp
    await consumer.stop()
    return logins, began

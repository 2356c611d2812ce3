"""What the tests of the running worker share: clicks in, worker processes, committed records out."""

from __future__ import annotations

import asyncio
import http.client
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from streamer.kafka.topic_metadata import MissingTopicError, topic_metadata
from streamer.kafka.topics import Drift, create_topics, declared_topics, find_drift
from streamer.schemas import codec
from streamer.settings import Settings
from tests import forks
from tests.conftest import as_environment, without_settings
from tests.oracle import Expected, expected_sessions

Timed = tuple[bytes | None, bytes, int]
"""Key, value and time in ms UTC of a record."""
START_MS = 1_795_046_400_000
BOUND_MS = 120_000
UNKEYED: dict[str, Any] = {"clicks.keyed": False, "watermark.out_of_orderness_s": 200}
"""With room for clicks that are out of order by the bound, and for a quarter that writing them by visitor
may add."""


def some_clicks(visitors: int, seed: int, late_ms: int = 0) -> list[dict[str, Any]]:
    """Clicks of visitors with one to three sessions each, shuffled within the bound; every tenth within
    `late_ms` more."""
    chance = random.Random(seed)
    clicks = []
    for visitor in range(visitors):
        at = START_MS + chance.randrange(4 * 3_600_000)
        for _ in range(chance.randint(1, 3)):
            for _ in range(1 + int(chance.expovariate(0.2))):
                clicks.append(_click(f"v{visitor}", at, f"e{len(clicks)}", chance))
                at += int(chance.expovariate(1 / 60_000))
            at += 1_800_001 + chance.randrange(3_600_000)
    delays = [chance.randrange(BOUND_MS + (0 if n % 10 else late_ms)) for n in range(len(clicks))]
    in_order = sorted(zip(clicks, delays, strict=True), key=lambda each: each[0]["timestamp"] + each[1])
    return [click for click, _ in in_order]


def _click(visitor: str, at: int, event_id: str, chance: random.Random) -> dict[str, Any]:
    page = chance.choice(["home", "mortgages", "cards", "savings"])
    return {
        "visitor_id": visitor,
        "timestamp": at,
        "event_id": event_id,
        "event_type": "page_view",
        "page_type": page,
        "page_url": f"https://bank.example/{page}/{chance.randrange(50)}",
    }


def as_messages(clicks: Sequence[dict[str, Any]]) -> list[tuple[bytes, bytes]]:
    """(key, value) as a producer sends them."""
    return [(click["visitor_id"].encode(), orjson.dumps(click)) for click in clicks]


def set_up(settings: Settings) -> None:
    """Create the topics of these settings."""
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))


def on_admin(settings: Settings, act: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> None:
    """Run this with a client for administration."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            await act(admin)
        finally:
            await admin.close()

    asyncio.run(run())


def make_anew(settings: Settings, *topics: str) -> None:
    """Delete topics of these settings and create them again, empty and with other ids."""
    on_admin(settings, lambda admin: admin.delete_topics([*topics]))
    wait_until(lambda: not _exists(settings, topics[0]))
    set_up(settings)


def _exists(settings: Settings, topic: str) -> bool:
    try:
        asyncio.run(topic_metadata(settings.kafka, [topic]))
    except MissingTopicError:
        return False
    return True


def send(settings: Settings, messages: Sequence[tuple[bytes | None, bytes | None] | Timed]) -> None:
    """Append to the clicks topic, in order; those without a time at that of the producer."""

    async def run() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            linger_ms=20,
            max_batch_size=256 * 1024,
            max_request_size=8 * 1024 * 1024,
        )
        await producer.start()
        try:
            for key, value, *at in messages:
                await producer.send(
                    settings.topics.clicks, value, key=key, timestamp_ms=at[0] if at else None
                )
        finally:
            await producer.stop()

    asyncio.run(run())


def as_unkeyed(clicks: Sequence[dict[str, Any]], chance: random.Random, moved_ms: int) -> list[Timed]:
    """As producers send clicks that key by anything but the visitor, or by nothing: each at a time of its
    own, up to two minutes behind its event's, moved by so much."""
    messages: list[Timed] = []
    sent_ms = 0
    for click, (_, value) in zip(clicks, as_messages(clicks), strict=True):
        sent_ms = max(sent_ms, click["timestamp"] + moved_ms)
        messages.append((chance.choice([None, b"%d" % chance.randrange(9)]), value, sent_ms))
    return messages


def moved_to_now(clicks: Sequence[dict[str, Any]]) -> int:
    """By how many ms: the last one is now, for retention goes by the time of a record."""
    return int(time.time() * 1000) - max(click["timestamp"] for click in clicks)


class Output(NamedTuple):
    """Committed records of a topic."""

    records: list[Any]

    def decoded(self) -> list[dict[str, Any]]:
        return [codec.decode(record.value)[1] for record in self.records]

    def headers(self, name: str) -> list[str]:
        return [dict(record.headers)[name].decode() for record in self.records]


def committed(settings: Settings, topic: str) -> Output:
    """Everything that a read_committed reader sees in a topic now."""

    async def run() -> list[Any]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            found_topic = (await topic_metadata(settings.kafka, [topic]))[topic]
            tps = [TopicPartition(topic, number) for number in range(found_topic.partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            for tp in tps:
                consumer.seek(tp, 0)
            found: list[Any] = []
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
            return found
        finally:
            await consumer.stop()

    return Output(asyncio.run(run()))


def published(settings: Settings) -> list[tuple[str, int, int, int]]:
    """Visitor, start, end and count of the newest revision of every session that was published for good,
    sorted."""
    finals = [r for r in committed(settings, settings.topics.intents).decoded() if r["is_final"]]
    superseded = {record["supersedes"] for record in finals}
    newest: dict[str, int] = {}
    for record in finals:
        newest[record["session_id"]] = max(record["revision"], newest.get(record["session_id"], 0))
    return sorted(
        (record["visitor_id"], record["started_at"], record["ended_at"], record["event_count"])
        for record in finals
        if record["session_id"] not in superseded and record["revision"] == newest[record["session_id"]]
    )


def oracle(clicks: Sequence[dict[str, Any]]) -> list[tuple[str, int, int, int]]:
    """The same of the sessions that should be there."""
    sessions: list[Expected] = expected_sessions(clicks)
    return sorted(session[:4] for session in sessions)


_EVENT = re.compile(r'"event": ?"(\w+)"')

STARTED: list[Worker] = []
"""Every worker of the running test, so that none outlives it."""


def environment(settings: Settings) -> dict[str, str]:
    """For a process of this repository with these settings and no others."""
    return without_settings() | as_environment(settings) | {"PYTHONPATH": str(Path(__file__).parents[2])}


class Worker:
    """A worker as a process of its own; its log is watched."""

    command = "worker"

    def __init__(
        self,
        settings: Settings,
        *arguments: str,
        armed: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        program = ["-c", forks.MAIN, self.command]
        if armed is not None:
            program = [str(Path(__file__).with_name("armed_worker.py")), armed]
        self.log = ""
        self.started_at = time.monotonic()
        self._first_seen: dict[str, float] = {}
        self.process = forks.started([*program, *arguments], environment(settings) | dict(environ or {}))
        STARTED.append(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            for event in _EVENT.findall(line):
                self._first_seen.setdefault(event, time.monotonic())
        self.process.stderr.close()

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Wait until the log has this text."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log:
            if time.monotonic() > deadline or (self.process.poll() is not None and text not in self.log):
                raise AssertionError(f"no {text!r} in the worker's log:\n{self.log}")
            time.sleep(0.05)

    def end(self, timeout_s: float = 90) -> int:
        """Wait for the process's end; its exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join()
        return code

    @property
    def last_words(self) -> str:
        """The last line of the log, or its beginning and end where that is long."""
        line = (self.log.splitlines() or ["nothing"])[-1]
        return line if len(line) < 400 else f"{line[:200]} ... {line[-200:]}"

    def seconds_to(self, event: str) -> float:
        """From the start of the process to the first log line of this event."""
        return self._first_seen[event] - self.started_at

    def logged(self, event: str, key: str) -> int:
        """A number that the first log line of this event has."""
        for line in self.log.splitlines():
            if line.startswith("{") and orjson.loads(line).get("event") == event:
                return int(orjson.loads(line)[key])
        raise AssertionError(f"no {event!r} in the worker's log:\n{self.log}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


def end_all() -> None:
    """Kill what still runs of the test."""
    for worker in STARTED:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.end()
    STARTED.clear()


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of a worker's own page; status 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def metric(port: int, name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels."""
    _, text = ask(port, "/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def drift_of(settings: Settings) -> list[Drift]:
    return asyncio.run(find_drift(settings.kafka, declared_topics(settings)))


def alter_topic(settings: Settings, topic: str, **config: str) -> None:
    """Give a topic values that differ from what is declared: returns when the cluster shows them.

    A broker acknowledges the change before it takes it up.
    """
    values = {name.replace("_", "."): value for name, value in config.items()}
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, values)
    on_admin(settings, lambda admin: admin.alter_configs([resource]))
    changed = set(values.values())
    wait_until(lambda: changed <= {each.found for each in drift_of(settings) if each.topic == topic})


def wait_until(condition: Any, timeout_s: float = 60) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("not within the time")
        time.sleep(0.2)

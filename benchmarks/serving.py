"""The look-up service with a million customers: how long it reads them, what it takes, how long answers take.

The load is vegeta's, which sends at a steady rate whatever comes back: an answer that is late delays no
other request. Where there are two cores or more the service has one to itself, and load and broker have the
others. A record is as large as that of a customer with eight sessions and a vector of 64 numbers. The
yardstick is a server that does nothing, on the same core under the same load, in turn with the service: what
it takes is the load's, the machine's and asyncio's. How long a server waited for its core stands beside:
where others have a share of it, they are measured too.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.installation import cpu_s, installed, waited_s
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.ports import LOOPBACK, free_ports, is_free
from streamer.schemas import codec
from streamer.schemas.binary import BinaryEncoder

PER_S = 2000
UPDATES_PER_S = 500
RUNS = 3
"""Of the look-ups alone."""
READY_S = 300
WARM_UP_S = 3
"""Until code and connections are warm."""
TARGETS = 200_000
"""Requests, which begin anew when they end."""
UNKNOWN = 0.02
"""Share of the look-ups that ask for somebody who isn't there."""
LOAD = "vegeta"
HOW_TO_GET_IT = "go install github.com/tsenart/vegeta/v12@latest"
_SESSIONS, _DIMENSIONS = 8, 64


class ServingError(Exception):
    """The service did not get ready, or answered otherwise than it should."""


@dataclass(frozen=True)
class Load:
    """How long answers took at a steady rate of look-ups, as the caller sees it."""

    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu: float
    """Of the service, in cores."""
    waited: float
    """Share of the time in which its main thread was ready to run and another thread had the core."""


@dataclass(frozen=True)
class Figures:
    users: int
    record_bytes: int
    ready_s: float
    """From the start of the process until it has read them all."""
    memory_mb: float
    loads: Mapping[str, Load]


def is_there() -> bool:
    """Whether the load generator is installed."""
    return shutil.which(LOAD) is not None


def measure(users: int, seconds: int) -> Figures:
    """`seconds` of each load."""
    if not is_there():
        raise ServingError(f"{LOAD} is needed, which makes the load: {HOW_TO_GET_IT}")
    with (
        a_core_kept_free() as core,
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka(Path(folder) / "kafka") as kafka,
    ):
        overrides = installed(kafka.bootstrap, "serving", "serving.clicks", identity__enabled=True)
        customers = Customers(kafka.bootstrap, str(overrides["topics.users"]), int(time.time() * 1000))
        for number in range(users):
            customers.publish(number)
        customers.flush()
        warm_up, load = (Attacks(Path(folder), users, each) for each in (WARM_UP_S, seconds))
        with (
            running(overrides, core) as (process, port, ready_s),
            answering(answer_bytes(port), core) as (yardstick, its_port),
        ):
            memory_mb = figure(port, "process_resident_memory_bytes") / 1e6
            warm_up.run(port, process.pid, PER_S)
            warm_up.run(its_port, yardstick.pid, PER_S)
            loads = {}
            for run in range(1, RUNS + 1):
                loads[f"look-ups, run {run}"] = load.run(port, process.pid, PER_S)
                loads[f"yardstick, run {run}"] = load.run(its_port, yardstick.pid, PER_S)
            with updates(customers, users):
                loads["with updates"] = load.run(port, process.pid, PER_S)
            loads["twice the rate"] = load.run(port, process.pid, 2 * PER_S)
    return Figures(users, customers.record_bytes, round(ready_s, 1), round(memory_mb), loads)


@contextmanager
def a_core_kept_free() -> Iterator[int]:
    """A core that nothing runs on which this process starts meanwhile, if there are two or more."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    try:
        yield cores[0]
    finally:
        os.sched_setaffinity(0, cores)


class Customers:
    """Publishes their records, which differ only in the id that they begin with."""

    def __init__(self, bootstrap: str, topic: str, now_ms: int) -> None:
        self._topic = topic
        self._rest = codec.encode_body("user_intent", _record(now_ms))[1:]  # behind an id of no length
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "batch.size": 500_000,
            }
        )

    @property
    def record_bytes(self) -> int:
        return len(self._message("user-0"))

    def publish(self, number: int) -> None:
        """The record of one of them."""
        user = f"user-{number}"
        while True:
            try:
                self._producer.produce(self._topic, self._message(user), user.encode())
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        """Returns once all are written."""
        self._producer.flush()

    def _message(self, user: str) -> bytes:
        encoder = BinaryEncoder()
        encoder.write_string(user)
        return codec.prefix("user_intent") + encoder.to_bytes() + self._rest


def _record(now_ms: int) -> codec.Record:
    chance = random.Random(5)
    intents = [
        {"intent_id": f"intent-{n}", "label": f"group / intent {n}", "parent": "group", "probability": 0.2}
        | {"parent_probability": 0.5, "presence": None}
        for n in range(5)
    ]
    past = {"top_intent": "intent-0", "probability": 0.5, "attribution": "login", "confidence": 1.0}
    return {
        "user_id": "",
        "session_id": "0" * 32,
        "visitor_id": "v" * 16,
        **dict.fromkeys(("started_at", "ended_at", "closed_at"), now_ms),
        "event_count": 9,
        "close_reason": "gap",
        "is_final": True,
        "revision": 0,
        "supersedes": None,
        "is_bot": False,
        "rules_version": "0" * 8,
        "model_version": "default@0123456789ab",
        "embedding": [chance.gauss(0, 1) for _ in range(_DIMENSIONS)],
        "embedding_space": "c1a1274887e2",
        "taxonomy_version": "1",
        "intents": intents,
        "top_intent": "intent-0",
        "abstained": False,
        "abstain_reason": None,
        "attribution": "login",
        "confidence": 1.0,
        "history": [{"session_id": f"{n:032x}", "closed_at": now_ms - n, **past} for n in range(_SESSIONS)],
        "profile": [{key: each[key] for key in list(each)[:4]} for each in intents],
        "profile_embedding": [chance.gauss(0, 1) for _ in range(_DIMENSIONS)],
        "sessions": _SESSIONS,
        "visitors": 2,
    }


@contextmanager
def running(
    overrides: Mapping[str, object], core: int
) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """A service on this core: its process and port, and how many seconds it took to get ready."""
    (port,) = free_ports(1)
    options = [
        f"--set={key}={orjson.dumps(value).decode().strip(chr(34))}" for key, value in overrides.items()
    ]
    program = ["-c", "from streamer.cli import main; main()", *options, "serve", f"--port={port}"]
    with _process(program, core, lambda: _answers(port)) as (process, ready_s):
        yield process, port, ready_s


@contextmanager
def answering(size: int, core: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The yardstick on this core, whose answers have so many bytes."""
    (port,) = free_ports(1)
    program = ["-m", "benchmarks.constant_answers", str(port), str(size)]
    with _process(program, core, lambda: not is_free(LOOPBACK, port)) as (process, _):
        yield process, port


@contextmanager
def _process(
    arguments: list[str], core: int, is_ready: Callable[[], bool]
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments], preexec_fn=lambda: os.sched_setaffinity(0, [core])
    )
    try:
        while not is_ready():
            if process.poll() is not None:
                raise ServingError(f"the server ended with {process.returncode}; its log says why")
            if time.monotonic() - began > READY_S:
                raise ServingError(f"the server was not ready within {READY_S} s")
            time.sleep(0.05)
        yield process, time.monotonic() - began
    finally:
        process.terminate()
        process.wait(60)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
            return answer.status == 200
    except OSError:
        return False


def figure(port: int, name: str) -> float:
    """A metric of the service that has no labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


def requests(port: int, users: int, count: int) -> Iterator[str]:
    """Whom to look up, as vegeta reads it."""
    chance = random.Random(11)
    for _ in range(count):
        number = chance.randrange(users) + (users if chance.random() < UNKNOWN else 0)
        yield f"GET http://127.0.0.1:{port}/v1/users/user-{number}"


def answer_bytes(port: int) -> int:
    """Of the body of an answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/users/user-0", timeout=20) as answer:
        return len(answer.read())


class Attacks:
    """Look-ups of customers who are chosen by chance."""

    def __init__(self, folder: Path, users: int, seconds: int) -> None:
        """`seconds`: how long each takes."""
        self._folder, self._users, self._seconds = folder, users, seconds

    def run(self, port: int, pid: int, per_s: int) -> Load:
        """Raises ServingError where an answer is none of those that are due."""
        targets, results = self._folder / "targets", self._folder / "results"
        targets.write_text("\n".join(requests(port, self._users, TARGETS)))
        before, waited, began = cpu_s(pid), waited_s(pid), time.monotonic()
        subprocess.run(
            [
                *(LOAD, "attack", f"-targets={targets}", f"-output={results}"),
                *(f"-rate={per_s}", f"-duration={self._seconds}s", "-max-body=0"),
                # A connection beyond those is closed after one answer, and a new one takes longer than it.
                *("-workers=16", "-max-workers=256", "-connections=256"),
            ],
            check=True,
            env=os.environ | {"GOGC": "off"},  # a pause of the load's own would count as the service's
        )
        took = time.monotonic() - began
        shares = [round(spent / took, 3) for spent in (cpu_s(pid) - before, waited_s(pid) - waited)]
        report = subprocess.run([LOAD, "report", "-type=json", str(results)], capture_output=True, check=True)
        found = orjson.loads(report.stdout)
        if not {"200"} <= set(found["status_codes"]) <= {"200", "404"}:
            raise ServingError(f"answers: {found['status_codes']}, errors: {found['errors'][:3]}")
        encoded = subprocess.run([LOAD, "encode", "-to=json", str(results)], capture_output=True, check=True)
        latencies = sorted(orjson.loads(line)["latency"] / 1e6 for line in encoded.stdout.splitlines())
        p50, p99, p999 = (round(latencies[int(len(latencies) * share)], 3) for share in (0.5, 0.99, 0.999))
        return Load(round(found["rate"], 1), p50, p99, p999, round(latencies[-1], 3), *shares)


@contextmanager
def updates(customers: Customers, users: int) -> Iterator[None]:
    """Records change meanwhile."""
    done = threading.Event()

    def update() -> None:
        chance, began, sent = random.Random(3), time.monotonic(), 0
        while not done.wait(0.02):
            for _ in range(round((time.monotonic() - began) * UPDATES_PER_S) - sent):
                customers.publish(chance.randrange(users))
                sent += 1
        customers.flush()

    updating = threading.Thread(target=update)
    updating.start()
    try:
        yield
    finally:
        done.set()
        updating.join()

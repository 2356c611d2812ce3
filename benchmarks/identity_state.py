"""A stage of identity in memory: a million anonymous visitors, or customers with sixteen sessions each.

What a worker feeds a stage with and what it takes from it, without a broker: messages that the worker's own
writer made of scored sessions, a commit every so many. The states that commits write go to a file, from which
a second process restores the stage.

Run as a program: `python -m benchmarks.identity_state fill|recover STAGE KEYS FILE`; prints one JSON object.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import UUID

import msgspec
import orjson

from benchmarks.clicks import DAY_MS, DAY_START_MS
from benchmarks.heartbeat import memory_mb
from benchmarks.scoring import closed_sessions
from streamer.identity import changes
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.scorer import Scorer
from streamer.pipeline.records import RecordWriter
from streamer.registry.lookup import SchemaLookup
from streamer.rules_from_settings import identity_rules
from streamer.settings import Settings
from streamer.worker.memory import settle_memory
from streamer.worker.stages.identity import LiveAttribution, LiveUsers
from streamer.worker.stages.stage_shard import LiveStage

SESSIONS_EACH = 16
"""Of a customer."""
SAMPLE = 20_000
"""Sessions that are timed once the state is full."""
PER_COMMIT = 100
SPAN_MS = 29 * DAY_MS
"""In which the state's sessions close: within the lookback."""


@dataclass(frozen=True)
class StageState:
    keys: int
    """Visitors with a session each, or customers."""
    rss_mb: float
    bytes_per_key: float
    """What the process grew by, a key."""
    us_per_session: float
    """CPU of a session more, taken in and committed; anonymous, or of a customer whose state is full."""
    us_per_login: float | None
    """Of a session that claims its visitor's one before; attribution only."""
    changelog_mb: float
    recovery_s: float
    """From the states of a changelog to a stage that goes on, CPU."""
    recovered_mb: float


class Arrived(NamedTuple):
    """A record of a stage's source, as far as the stage reads it."""

    key: bytes
    value: bytes


class Messages:
    """VisitorIntents of scored sessions, whose ids and times are whatever is asked for."""

    def __init__(self) -> None:
        bundle = load_bundle(default_bundle())
        self._sessions = list(closed_sessions(1000))
        self._scored = Scorer(bundle).score(self._sessions)
        self._writer = RecordWriter(bundle, "0a1b2c3d")

    def visitor(self, number: int, closed_at: int, user_id: str | None = None) -> bytes:
        session, scored = self._sessions[number % 1000], self._scored[number % 1000]
        moved = replace(
            session,
            session_id=f"{number * 2654435761:032x}",
            visitor_id=visitor_id(number),
            user_id=user_id,
            started_at=closed_at - (session.closed_at - session.started_at),
            ended_at=closed_at - (session.closed_at - session.ended_at),
            closed_at=closed_at,
        )
        return self._writer.write(moved, scored).visitor


def visitor_id(number: int) -> str:
    return str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))


def measure(keys: dict[str, int]) -> dict[str, StageState]:
    """`keys`: visitors by `attribution`, customers by `users`. Each in processes of its own."""
    found = {}
    for stage, count in keys.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "states"
            filled, recovered = (_program(verb, stage, count, file) for verb in ("fill", "recover"))
            size_mb = file.stat().st_size / 2**20
        found[stage] = StageState(keys=count, changelog_mb=size_mb, **filled, **recovered)
    return found


def _program(verb: str, stage: str, keys: int, file: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.identity_state", verb, stage, str(keys), str(file)]
    printed: dict[str, float] = orjson.loads(
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    )
    return printed


def create(stage: str) -> LiveStage:
    settings = Settings()
    rules = identity_rules(settings)
    if stage == "attribution":
        return LiveAttribution(0, 1, settings, rules, SchemaLookup(settings.registry), None)
    return LiveUsers(0, settings, rules, None)


def fill(stage: str, keys: int, file: Path) -> dict[str, float | None]:
    messages = Messages()
    live = create(stage)
    with file.open("wb") as states:
        settle_memory()
        before_mb, _ = memory_mb()
        first = _anonymous(messages, 0, keys) if stage == "attribution" else _of_customers(messages, keys, 0)
        _take_in(live, first, states)
        after_mb, _ = memory_mb()
        if stage == "attribution":
            more, logins = _anonymous(messages, keys, SAMPLE), _logins(messages, keys)
        else:
            more, logins = islice(_of_customers(messages, keys, SESSIONS_EACH), SAMPLE), iter(())
        spent = _take_in(live, more, states)
        of_logins = _take_in(live, logins, states) if stage == "attribution" else None
    return {
        "rss_mb": after_mb,
        "bytes_per_key": (after_mb - before_mb) * 2**20 / keys,
        "us_per_session": spent / SAMPLE * 1e6,
        "us_per_login": None if of_logins is None else of_logins / SAMPLE * 1e6,
    }


def recover(stage: str, file: Path) -> dict[str, float]:
    live = create(stage)
    settle_memory()
    latest = {}
    with file.open("rb") as states:
        while size := states.read(4):
            key, state = msgspec.msgpack.decode(states.read(int.from_bytes(size)))
            latest[key] = state
    began = time.thread_time()
    for key, state in latest.items():
        live.restore(key, state)
    spent = time.thread_time() - began
    del latest
    return {"recovery_s": spent, "recovered_mb": memory_mb()[0]}


def _take_in(live: LiveStage, arrived: Iterable[Arrived], states: BinaryIO) -> float:
    """CPU seconds, making the records left out."""
    spent = 0.0
    rest = iter(arrived)
    while portion := list(islice(rest, PER_COMMIT)):
        began = time.thread_time()
        for record in portion:
            live.process(record)
        taken = live.take()
        spent += time.thread_time() - began
        for state in taken.states.items():
            encoded = msgspec.msgpack.encode(state)
            states.write(len(encoded).to_bytes(4) + encoded)
    return spent


def _anonymous(messages: Messages, first: int, count: int) -> Iterator[Arrived]:
    for number in range(first, first + count):
        closed_at = DAY_START_MS + number * SPAN_MS // (first or count)
        yield Arrived(visitor_id(number).encode(), messages.visitor(number, closed_at))


def _logins(messages: Messages, visitors: int) -> Iterator[Arrived]:
    """The second session of visitors, this time with a customer's id."""
    for number in range(0, visitors, max(visitors // SAMPLE, 1)):
        message = messages.visitor(number, DAY_START_MS + SPAN_MS + DAY_MS // 2, f"customer-{number:09}")
        yield Arrived(visitor_id(number).encode(), message)


def _of_customers(messages: Messages, customers: int, first: int) -> Iterator[Arrived]:
    """Of each the same number of sessions, in order of time, on two browsers."""
    for turn in range(first, first + SESSIONS_EACH):
        for number in range(customers):
            user_id = f"customer-{number:09}"
            session = turn * customers + number
            closed_at = DAY_START_MS + session * SPAN_MS // (SESSIONS_EACH * customers)
            message = messages.visitor(2 * session + turn % 2, closed_at, user_id)
            change = changes.Attributed(visitor_id(2 * number + turn % 2), message, changes.LOGIN, 1.0)
            yield Arrived(user_id.encode(), changes.encode(change))


def main() -> None:
    """Parse the arguments, work, print."""
    verb, stage, keys, file = sys.argv[1:5]
    found = fill(stage, int(keys), Path(file)) if verb == "fill" else recover(stage, Path(file))
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()

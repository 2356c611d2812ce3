"""What every fault is played on: topics, a stream of clicks, a crew of workers, and the oracle at the end."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streamer.settings import Settings
from streamer.worker.log_reader import LogReader
from streamer.worker.recovery import Recovery
from tests.worker.live import (
    Worker,
    as_messages,
    committed,
    environment,
    oracle,
    published,
    set_up,
    some_clicks,
    wait_until,
)

Message = tuple[bytes | None, bytes | None]


@dataclass
class Outcome:
    """What a fault did. `faults` counts what was injected; seconds in `times`, longest first to look at."""

    faults: Counter[str] = field(default_factory=Counter)
    expected: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    times: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Promises that didn't hold."""
    slow: list[str] = field(default_factory=list)
    """Bounds of time that were not met; a busy machine is enough for that."""

    def took(self, what: str, seconds: float, at_most: float) -> None:
        """Note a duration, and whether it was within its bound."""
        self.times.setdefault(what, []).append(round(seconds, 2))
        if seconds > at_most:
            self.slow.append(f"{what} took {seconds:.1f} s, expected at most {at_most:g}")

    def check(self, holds: bool, promise: str) -> None:
        """Note a promise that doesn't hold."""
        if not holds:
            self.broken.append(promise)

    @property
    def kept(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.broken)


class Feed(threading.Thread):
    """Sends messages at a steady rate, whatever happens to the broker meanwhile."""

    def __init__(self, bootstrap: str, topic: str, messages: Sequence[Message], per_s: float) -> None:
        super().__init__(daemon=True)
        self._servers, self._topic = bootstrap, topic
        self._messages, self._per_s = messages, per_s
        self.sent = 0
        self._hurry = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:
            self.error = error

    async def _send(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            enable_idempotence=True,
            linger_ms=20,
            request_timeout_ms=120_000,
        )
        await producer.start()
        begin = time.monotonic()
        try:
            while self.sent < len(self._messages):
                due = len(self._messages)
                if not self._hurry:
                    due = min(due, int((time.monotonic() - begin) * self._per_s) + 1)
                for key, value in self._messages[self.sent : due]:
                    await producer.send(self._topic, value, key=key)
                    self.sent += 1
                await asyncio.sleep(0.02)
        finally:
            await producer.stop()

    def finish(self, timeout_s: float = 300) -> None:
        """Send what is left as fast as it goes, and wait until it is sent."""
        self._hurry = True
        self.join(timeout_s)
        if self.error is not None or self.is_alive():
            raise AssertionError(f"only {self.sent} of {len(self._messages)} were sent: {self.error!r}")


class Stage:
    """One app of its own on a broker. `direct`: settings for what must not go through a bad network."""

    def __init__(self, settings: Settings, seed: int, direct: Settings | None = None) -> None:
        self.settings = settings
        self.direct = direct or settings
        self.chance = random.Random(seed)
        self.outcome = Outcome()
        self.clicks: list[dict[str, Any]] = []
        self.bundles: list[Path] = []
        """Those that workers have used, if not the shipped one alone."""
        set_up(self.direct)

    def feed(self, visitors: int, per_s: float) -> Feed:
        """Begin to send the clicks of so many visitors (about 12 each)."""
        self.clicks = some_clicks(visitors, seed=self.chance.randrange(2**31))
        messages = as_messages(self.clicks)
        feed = Feed(self.direct.kafka.bootstrap_servers, self.direct.topics.clicks, messages, per_s)
        feed.start()
        return feed

    def worker(self, *arguments: str, armed: str | None = None, **overrides: object) -> Worker:
        """A worker process with some settings changed, written as section__key."""
        return Worker(changed(self.settings, overrides), *arguments, armed=armed)

    def published(self) -> int:
        return len(committed(self.direct, self.direct.topics.intents).records)

    def until_published_more(self, timeout_s: float = 60) -> float:
        """Seconds until a session is published that isn't yet."""
        begin, before = time.monotonic(), self.ends()
        wait_until(lambda: self.ends() > before, timeout_s)
        return time.monotonic() - begin

    def ends(self) -> int:
        """Sum of the end offsets of the intents topic."""
        return sum(end for _, end in self.bounds(self.direct.topics.intents).values())

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition."""

        async def run() -> dict[int, tuple[int, int]]:
            async with LogReader(arguments(self.direct)) as reader:
                return await reader.bounds(topic, range(self.direct.topics.partitions))

        return asyncio.run(run())

    def markers(self) -> dict[int, Recovery]:
        """State of every partition as its changelog has it; raises ChangelogError if two owners wrote."""

        async def run() -> dict[int, Recovery]:
            async with LogReader(arguments(self.direct)) as reader:
                numbers = range(self.direct.topics.partitions)
                return await reader.recover(self.direct.changelog, numbers, lambda: None)

        return asyncio.run(run())

    def settle(self, timeout_s: float = 120) -> Outcome:
        """Drain what is open, then hold everything that was published against the oracle."""
        worker = Worker(self.direct, "--drain")
        code = worker.end(timeout_s)
        self.outcome.check(code == 0, f"the draining worker ended with {code}: {worker.last_words}")
        return self.judge()

    def judge(self) -> Outcome:
        """Fill in what was lost, doubled and wrong."""
        outcome = self.outcome
        expected, found = Counter(oracle(self.clicks)), Counter(published(self.direct))
        outcome.expected = expected.total()
        outcome.doubled = sum(count - 1 for count in found.values())
        outcome.lost = len(expected.keys() - found.keys())
        outcome.wrong = len(found.keys() - expected.keys())
        for topic in (self.direct.topics.late, self.direct.topics.dlq):
            outcome.check(not committed(self.direct, topic).records, f"{topic} is not empty")
        markers = self.markers()
        received = sum(each.marker.counters.received for each in markers.values() if each.marker)
        outcome.check(received == len(self.clicks), f"{received} clicks counted of {len(self.clicks)}")
        outcome.notes["takeovers"] = sum(each.marker.epoch for each in markers.values() if each.marker)
        self.verify()
        return outcome

    def verify(self) -> None:
        """`streamer verify`: a replay of what was read has to give the very records that were published."""
        told = [argument for bundle in self.bundles for argument in ("--bundle", str(bundle))]
        done = subprocess.run(
            [sys.executable, "-c", "from streamer.cli import main; main()", "verify", *told],
            env=environment(self.direct),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = done.stdout[-600:] + done.stderr[-300:]
        self.outcome.check(done.returncode == 0, f"live is not replay: {said}")


def arguments(settings: Settings) -> Any:
    """How to reach the brokers of these settings."""
    from streamer.kafka.client import client_arguments

    return client_arguments(settings.kafka)


def changed(settings: Settings, overrides: Mapping[str, object]) -> Settings:
    """Settings with some keys, written as section__key, set anew."""
    sections: dict[str, dict[str, object]] = {}
    for name, value in overrides.items():
        section, _, key = name.partition("__")
        sections.setdefault(section, {})[key] = value
    return settings.model_copy(
        update={
            section: getattr(settings, section).model_copy(update=keys) for section, keys in sections.items()
        }
    )


def end_all(outcome: Outcome, workers: Sequence[Worker]) -> None:
    """SIGTERM to all that still run; each has to end well within 10 s."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
    for worker in workers:
        begin = time.monotonic()
        code = worker.end(30)
        outcome.took("SIGTERM to exit, s", time.monotonic() - begin, at_most=10)
        outcome.check(code == 0, f"a worker ended with {code} after SIGTERM: {worker.last_words}")


def seconds_until(condition: Callable[[], bool], timeout_s: float = 60) -> float:
    """How long it took until this held."""
    begin = time.monotonic()
    wait_until(condition, timeout_s)
    return time.monotonic() - begin

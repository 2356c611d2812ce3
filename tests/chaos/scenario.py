"""What every fault happens to: topics, a stream of clicks, workers, and the oracle at the end."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from streamer.settings import Settings
from streamer.worker.log_reader import LogReader
from streamer.worker.recovery import Recovery
from tests import forks
from tests.identity.live import clicks_with_logins, differing_users, say, some_links
from tests.worker.live import (
    START_MS,
    Timed,
    Worker,
    as_messages,
    as_unkeyed,
    committed,
    environment,
    moved_to_now,
    oracle,
    published,
    set_up,
    some_clicks,
    wait_until,
)

Message = tuple[bytes | None, bytes | None] | Timed
LONG_AGO_MS = 1000 * 86_400_000
"""Simulated hours go by faster than real ones: they begin so early that none is in the future."""


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

    def add(self, part: Outcome, name: str) -> None:
        """Take in the outcome of a part of this fault."""
        self.faults += part.faults
        self.expected += part.expected
        self.lost += part.lost
        self.doubled += part.doubled
        self.wrong += part.wrong
        for what, times in part.times.items():
            self.times.setdefault(what, []).extend(times)
        if part.lost or part.doubled or part.wrong:
            self.broken.append(f"{name}: {part.lost} lost, {part.doubled} twice, {part.wrong} wrong")
        self.broken += [f"{name}: {promise}" for promise in part.broken]
        self.slow += [f"{name}: {bound}" for bound in part.slow]

    @property
    def kept(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.broken)


class Feed(threading.Thread):
    """Sends messages in order at a steady rate, whatever happens to the brokers meanwhile.

    By librdkafka, so that what is tried is not the client that sends: it gives a broker up after seconds.
    """

    def __init__(self, bootstrap: str, topic: str, messages: Sequence[Message], per_s: float) -> None:
        super().__init__(daemon=True)
        self._servers, self._topic = bootstrap, topic
        self._messages, self._per_s = messages, per_s
        self.sent = 0
        self._hurry = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._send()
        except BaseException as error:
            self.error = error

    def _send(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "socket.timeout.ms": 4000,
                "message.timeout.ms": 600_000,
                "queue.buffering.max.messages": 2_000_000,
                "log_level": 0,
            }
        )
        begin = time.monotonic()
        while self.sent < len(self._messages):
            due = len(self._messages)
            if not self._hurry:
                due = min(due, int((time.monotonic() - begin) * self._per_s) + 1)
            for key, value, *at in self._messages[self.sent : due]:
                timestamp = at[0] if at else 0
                producer.produce(self._topic, value, key, timestamp=timestamp, on_delivery=self._delivered)
                self.sent += 1
            producer.poll(0.02)
        producer.flush()

    def stop(self) -> int:
        """Send no more; how many were sent."""
        self._messages = self._messages[: self.sent]
        self.finish()
        return self.sent

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            self.error = AssertionError(f"a click was not delivered: {error}")

    def finish(self, timeout_s: float = 300) -> None:
        """Send what is left as fast as it goes, and wait until it is sent."""
        self._hurry = True
        self.join(timeout_s)
        if self.error is not None or self.is_alive():
            raise AssertionError(f"only {self.sent} of {len(self._messages)} were sent: {self.error!r}")


class Scenario:
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
        self.click_for(visitors)
        return self._start_feed(per_s)

    def click_for(self, visitors: int) -> None:
        """Make up the clicks of so many visitors; with the identity stages on, some log in and some links
        are there already."""
        seed = self.chance.randrange(2**31)
        if not self.settings.identity.enabled:
            late_ms = self.settings.late.revise_within_ms
            self.clicks = some_clicks(visitors, seed, late_ms)
            return
        self.clicks = clicks_with_logins(visitors, seed)
        self.link_some()

    def link_some(self) -> None:
        """Link, or unlink, some of the visitors; nothing where the identity stages are off."""
        if self.settings.identity.enabled:
            say(self.direct, *some_links(self.clicks, self.chance, at_most=40))

    def endless_feed(self, per_s: float) -> Feed:
        """Begin to send clicks of which there are enough for a quarter of an hour, at a pace that closes
        sessions from the tenth second on; `cut_off` ends it."""
        days = days_of_clicks(int(8 * per_s), seed=self.chance.randrange(2**31))
        while len(self.clicks) < 900 * per_s:
            self.clicks += next(days)
        return self._start_feed(per_s)

    def cut_off(self, feed: Feed) -> None:
        """Send no more: what has been sent is what has to be published."""
        self.clicks = self.clicks[: feed.stop()]

    def messages(self) -> list[Message]:
        """The clicks as a producer sends them: by visitor, unless the settings say that they aren't."""
        if self.settings.clicks.keyed:
            return [*as_messages(self.clicks)]
        return [*as_unkeyed(self.clicks, self.chance, moved_to_now(self.clicks))]

    def _start_feed(self, per_s: float) -> Feed:
        messages = self.messages()
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

    def longest_gap(self, topic: str, since: float, until: float) -> float:
        """Longest time, in seconds, in which a partition of a topic got no record, if it touches these two
        moments.

        By the brokers' clock, which is this machine's.
        """
        times: dict[int, list[float]] = {}
        for record in committed(self.direct, topic).records:
            times.setdefault(record.partition, []).append(record.timestamp / 1000)
        gaps = (pair for each in times.values() for pair in pairwise(sorted(each)))
        return max((end - begin for begin, end in gaps if begin <= until and end >= since), default=0)

    def markers(self) -> dict[int, Recovery]:
        """State of every partition as its changelog has it; raises ChangelogError if two owners wrote."""

        async def run() -> dict[int, Recovery]:
            async with LogReader(arguments(self.direct)) as reader:
                numbers = range(self.direct.topics.partitions)
                return await reader.recover(self.direct.changelog, numbers, lambda: None)

        return asyncio.run(run())

    def settle(self, timeout_s: float = 120, *, replayed: bool = True) -> Outcome:
        """Drain what is open, then hold everything that was published against the oracle and a replay."""
        worker = Worker(self.direct, "--drain")
        code = worker.end(timeout_s)
        self.outcome.check(code == 0, f"the draining worker ended with {code}: {worker.last_words}")
        if replayed:
            return self.judge()
        self.hold_against_oracle()
        return self.outcome

    def judge(self) -> Outcome:
        """Hold what was published against the oracle and against a replay."""
        self.hold_against_oracle()
        self.verify()
        return self.outcome

    def hold_against_oracle(self) -> None:
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
        if self.direct.identity.enabled:
            differing = differing_users(self.direct)
            outcome.wrong += len(differing)
            outcome.check(not differing, f"records of customers {differing[:5]} are not what the oracle says")
        outcome.notes["takeovers"] = sum(each.marker.epoch for each in markers.values() if each.marker)

    def verify(self) -> None:
        """`streamer verify`: a replay of what was read has to give the very records that were published."""
        bundles = [argument for bundle in self.bundles for argument in ("--bundle", str(bundle))]
        program = ["-c", forks.MAIN, "verify", *bundles]
        done = forks.run(program, environment(self.direct), None, timeout_s=300)
        said = done.stdout[-600:] + done.stderr[-300:]
        self.outcome.check(done.returncode == 0, f"live is not replay: {said}")


def days_of_clicks(visitors: int, seed: int) -> Iterator[list[dict[str, Any]]]:
    """Blocks of simulated hours, one after the other; the visitors of each are new."""
    start = -LONG_AGO_MS
    for number in count():
        block = some_clicks(visitors, seed=seed + number)
        for click in block:
            click["timestamp"] += start
            click["visitor_id"] = f"{number}-{click['visitor_id']}"
        start = max(click["timestamp"] for click in block) - START_MS
        yield block


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

"""Faults of three brokers under load: one, two or all of them fail, leaders and replicas move."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from confluent_kafka import ElectionType
from confluent_kafka.admin import AdminClient

from streamer.kafka.cluster import EmbeddedCluster
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import declared_topics, find_drift
from streamer.worker.log_reader import LogReader
from tests.chaos.namespaces import NamespacedCluster
from tests.chaos.scenario import Outcome, Scenario, arguments, end_all
from tests.chaos.versions import finalize, jars_of
from tests.worker.live import wait_until

GAP_S = 20
"""Longest time without a published session that one failed broker of three may cause."""
GOING_AGAIN_S = 60
"""The same from when enough brokers are back."""
INTERNAL_TOPICS = ("__consumer_offsets", "__transaction_state")


class UnderLoad:
    """A steady stream of clicks and two workers on a cluster; faults happen to it one after the other."""

    def __init__(self, scenario: Scenario, cluster: EmbeddedCluster, per_s: float) -> None:
        self.scenario = scenario
        self.cluster = cluster
        self._feed = scenario.endless_feed(per_s)
        self._workers = [
            scenario.worker(commit__interval_ms=50, app__instance_id=name) for name in ("a", "b")
        ]
        for worker in self._workers:
            worker.wait_for("shards_open", 120)
        self._until_all_publish(time.time(), 120)
        self._faults: list[tuple[str, float, float, float]] = []
        """Name, begin and end, and the longest gap that is allowed."""

    @contextmanager
    def fault(self, name: str, at_most: float = GAP_S) -> Iterator[None]:
        """What the block does is a fault; after it all brokers run again, and the replicas are in sync.

        Every partition has published sessions again by then, so that a gap belongs to one fault.
        """
        begin = time.time()
        yield
        self.heal()
        end = time.time()
        wait_until(self._is_whole, 120)
        self._until_all_publish(end, 180)
        self.scenario.outcome.faults[name] += 1
        self._faults.append((name, begin, end, at_most))

    def heal(self) -> None:
        for broker in self.cluster.brokers:
            if broker.is_running():
                broker.signal(signal.SIGCONT)
        self.cluster.start()

    def draw(self, count: int) -> list[EmbeddedKafka]:
        return self.scenario.chance.sample(self.cluster.brokers, count)

    def end(self) -> Outcome:
        """Measure the gaps, end the workers, and hold what was published against the oracle and a replay.

        A broker that takes itself for a leader when it isn't any more looks like an idle partition: the
        worker's clock goes on, and clicks that the leader took meanwhile come behind it. A replay knows an
        earlier `closed_at` then, and isn't asked.
        """
        outcome, topics = self.scenario.outcome, self.scenario.direct.topics
        self.scenario.cut_off(self._feed)
        for worker in self._workers:
            outcome.check(worker.process.poll() is None, f"a worker ended: {worker.last_words}")
        for name, begin, end, at_most in self._faults:
            of_clicks = self.scenario.longest_gap(topics.clicks, begin, end)
            outcome.times.setdefault(f"gap of clicks, {name}, s", []).append(round(of_clicks, 2))
            outcome.took(f"gap, {name}, s", self.scenario.longest_gap(topics.intents, begin, end), at_most)
        outcome.notes["log lines"] = sum(worker.log.count("\n") for worker in self._workers)
        end_all(outcome, self._workers)
        markers = [each.marker for each in self.scenario.markers().values() if each.marker]
        outcome.notes["records behind the clock"] = behind = sum(m.counters.clock_behind for m in markers)
        return self.scenario.settle(replayed=not behind)

    def _until_all_publish(self, since: float, timeout_s: float) -> None:
        """Until every partition has a committed session that was appended after this moment."""

        async def publish() -> bool:
            numbers = range(self.scenario.direct.topics.partitions)
            async with LogReader(arguments(self.scenario.direct)) as reader:
                starts = await reader.starts(topic, numbers, round(since * 1000))
                return all((await reader.rest(topic, starts)).values())

        topic = self.scenario.direct.topics.intents
        wait_until(lambda: asyncio.run(publish()), timeout_s)

    def _is_whole(self) -> bool:
        settings = self.scenario.direct
        return not asyncio.run(find_drift(settings.kafka, declared_topics(settings)))


def killed(
    scenario: Scenario, cluster: EmbeddedCluster, counts: Sequence[int], seconds: float, per_s: float
) -> Outcome:
    """So many brokers are killed at once, and started again after a while."""
    load = UnderLoad(scenario, cluster, per_s)
    for count in counts:
        with load.fault(f"{count} of 3 killed", _allowed(count, seconds)):
            for broker in load.draw(count):
                broker.kill()
            time.sleep(seconds)
    return load.end()


def frozen(
    scenario: Scenario, cluster: EmbeddedCluster, counts: Sequence[int], seconds: float, per_s: float
) -> Outcome:
    """So many brokers stop at once without a word (SIGSTOP), and go on after a while."""
    load = UnderLoad(scenario, cluster, per_s)
    for count in counts:
        with load.fault(f"{count} of 3 frozen", _allowed(count, seconds)):
            for broker in load.draw(count):
                broker.signal(signal.SIGSTOP)
            time.sleep(seconds)
    return load.end()


def rolled(scenario: Scenario, cluster: EmbeddedCluster, rounds: int, per_s: float) -> Outcome:
    """A rolling restart, as upgrades do it: the next broker once all replicas are in sync again."""
    load = UnderLoad(scenario, cluster, per_s)
    for _ in range(rounds):
        for broker in load.draw(len(cluster.brokers)):
            with load.fault("rolling restart of a broker"):
                broker.stop()
    return load.end()


def upgraded(scenario: Scenario, cluster: EmbeddedCluster, to: Sequence[str], per_s: float) -> Outcome:
    """The cluster goes from version to version: one broker after the other, then the features."""
    load = UnderLoad(scenario, cluster, per_s)
    for version in to:
        for broker in load.draw(len(cluster.brokers)):
            with load.fault(f"broker upgraded to {version}"):
                broker.stop()
                broker.jars = jars_of(version)
        with load.fault(f"features raised to {version}"):
            said = finalize(cluster.bootstrap, version)
        [scenario.outcome.notes["metadata.version"]] = re.findall(
            r"metadata\.version was upgraded to (\d+)", said
        )
    return load.end()


def moved(scenario: Scenario, cluster: EmbeddedCluster, times: int, per_s: float) -> Outcome:
    """All leaders and coordinators move to another broker."""
    load = UnderLoad(scenario, cluster, per_s)
    for number in range(1, times + 1):
        with load.fault("leaders moved"):
            _reassign(scenario, lambda replicas, by=number: _rotated(sorted(replicas), by))
            _elect_preferred_leaders(scenario)
    return load.end()


def removed(
    scenario: Scenario, cluster: EmbeddedCluster, times: int, seconds: float, per_s: float
) -> Outcome:
    """A broker is taken out while transactions run: its replicas go to the others, then it is killed.

    It comes back after a while, with replicas of everything.
    """
    load = UnderLoad(scenario, cluster, per_s)
    for _ in range(times):
        number = scenario.chance.randint(1, len(cluster.brokers))
        with load.fault("broker removed"):
            _reassign(scenario, lambda replicas, leaving=number: [n for n in replicas if n != leaving])
            cluster.brokers[number - 1].kill()
            time.sleep(seconds)
            cluster.start()
            _reassign(scenario, lambda replicas, back=number: [*replicas, back])
    return load.end()


def cut_off(
    scenario: Scenario, cluster: NamespacedCluster, times: int, seconds: float, per_s: float
) -> Outcome:
    """A broker loses the others from sight, while clients still reach all: it takes itself for a leader."""
    load = UnderLoad(scenario, cluster, per_s)
    for _ in range(times):
        with load.fault("broker cut off from the others", seconds + GOING_AGAIN_S):
            cluster.cut(scenario.chance.randint(1, len(cluster.brokers)))
            time.sleep(seconds)
            cluster.mend()
    return load.end()


def _allowed(count: int, seconds: float) -> float:
    """One of three may fail unnoticed; without two of them nothing can be written."""
    return GAP_S if count == 1 else seconds + GOING_AGAIN_S


def _rotated(replicas: list[int], by: int) -> list[int]:
    by %= len(replicas)
    return replicas[by:] + replicas[:by]


def _reassign(scenario: Scenario, change: Callable[[list[int]], list[int]]) -> None:
    """Give every partition of the app, and of Kafka's own topics, other replicas; wait until it has them."""
    names = [*(topic.name for topic in declared_topics(scenario.direct)), *INTERNAL_TOPICS]

    async def run() -> None:
        admin = AIOKafkaAdminClient(**arguments(scenario.direct))
        await admin.start()
        try:
            wanted = {
                topic["topic"]: {p["partition"]: change(p["replicas"]) for p in topic["partitions"]}
                for topic in await admin.describe_topics(names)
            }
            await _alter(admin, wanted)
            while not _is_so(await admin.describe_topics(names), wanted):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        finally:
            await admin.close()

    asyncio.run(asyncio.wait_for(run(), 90))


async def _alter(admin: Any, wanted: dict[str, dict[int, list[int]]]) -> None:
    topics = [
        (name, [(number, replicas, {}) for number, replicas in partitions.items()], {})
        for name, partitions in wanted.items()
    ]
    answer = await admin._send_to_controller(AlterPartitionReassignmentsRequest(30_000, topics, {}))
    codes = [partition[1] for _, partitions, *_ in answer.responses for partition in partitions]
    assert not answer.error_code, answer
    assert not any(codes), answer


def _is_so(topics: list[dict[str, Any]], wanted: dict[str, dict[int, list[int]]]) -> bool:
    return all(
        partition["replicas"] == wanted[topic["topic"]][partition["partition"]]
        and set(partition["isr"]) == set(partition["replicas"])
        for topic in topics
        for partition in topic["partitions"]
    )


def _elect_preferred_leaders(scenario: Scenario) -> None:
    admin = AdminClient({"bootstrap.servers": scenario.direct.kafka.bootstrap_servers, "log_level": 0})
    admin.elect_leaders(ElectionType.PREFERRED).result(60)

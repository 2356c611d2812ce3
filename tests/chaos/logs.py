"""Faults of the logs themselves: each has a defined answer, and none is a silent reset."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from streamer.kafka.topics import create_topics, declared_topics
from streamer.worker.changelog import STATE_VERSION
from tests.chaos.scenario import Outcome, Scenario, arguments, changed, end_all, seconds_until
from tests.worker.live import Worker, as_messages, committed, published, send, some_clicks, wait_until

HALF = 40
"""Visitors whose clicks come before the fault."""


def changelog_damaged(scenario: Scenario) -> Outcome:
    """The changelog is torn, then deleted: refused both times, with the way out."""
    _some_state(scenario)
    middles = _middles(scenario)
    _on_admin(scenario, lambda admin: admin.delete_records(middles))
    _refused(scenario, "changelog torn", "is torn", "another app.id")
    _on_admin(scenario, lambda admin: admin.delete_topics([scenario.settings.changelog]))
    time.sleep(1)
    asyncio.run(create_topics(scenario.settings.kafka, declared_topics(scenario.settings)))
    _refused(scenario, "changelog deleted", "has no state of partition", "another app.id")
    return scenario.outcome


def source_changed(scenario: Scenario) -> Outcome:
    """Clicks are trimmed beyond the marker; partitions are added; the topic is made anew."""
    outcome, topic = scenario.outcome, scenario.settings.topics.clicks
    _some_state(scenario)
    positions = {n: each.marker.position for n, each in scenario.markers().items() if each.marker}
    send(scenario.settings, as_messages(some_clicks(HALF, seed=78)))
    lost = {n: RecordsToDelete(before_offset=at + 3) for n, at in positions.items()}
    _on_admin(
        scenario, lambda admin: admin.delete_records({TopicPartition(topic, n): d for n, d in lost.items()})
    )
    worker = Worker(scenario.settings, "--drain")
    outcome.check(worker.end() == 0, f"trimmed clicks ended the worker: {worker.last_words}")
    outcome.check(worker.log.count('"clicks_lost"') == len(positions), "trimmed clicks were not reported")
    outcome.check(
        _lost(scenario) == 3 * len(positions), f"{_lost(scenario)} lost, expected {3 * len(positions)}"
    )
    outcome.faults["clicks trimmed beyond the marker"] += 1

    names = [each.name for each in declared_topics(scenario.settings)]
    _on_admin(scenario, lambda admin: admin.create_partitions({name: NewPartitions(6) for name in names}))
    time.sleep(1)
    worker = Worker(scenario.settings, "--drain")
    outcome.check(worker.end() == 0, f"partitions added to a drained app: {worker.last_words}")
    outcome.faults["partitions added"] += 1

    _on_admin(scenario, lambda admin: admin.delete_topics([topic]))
    time.sleep(1)
    asyncio.run(create_topics(scenario.settings.kafka, declared_topics(scenario.settings)))
    _refused(scenario, "clicks topic made anew", "was deleted and created again", "another app.id")
    return outcome


def trimmed_while_running(scenario: Scenario) -> Outcome:
    """Retention removes clicks that a running worker has not fetched: it goes on behind them and counts."""
    outcome, topic = scenario.outcome, scenario.settings.topics.clicks
    worker = scenario.worker(app__instance_id="w")
    worker.wait_for("shards_open")
    first = as_messages(some_clicks(HALF, seed=79))
    send(scenario.settings, first)
    wait_until(lambda: _received(scenario) == len(first))
    worker.signal(signal.SIGSTOP)
    # Two portions: the fetch that is under way takes the first along, and may have it in its socket.
    more = [as_messages(some_clicks(HALF, seed=seed)) for seed in (80, 81)]
    for portion in more:
        send(scenario.settings, portion)
        time.sleep(0.5)
    beyond = {
        TopicPartition(topic, number): RecordsToDelete(before_offset=end - 1)
        for number, (_, end) in scenario.bounds(topic).items()
    }
    _on_admin(scenario, lambda admin: admin.delete_records(beyond))
    worker.signal(signal.SIGCONT)
    outcome.faults["clicks trimmed under a running worker"] += 1
    sent = len(first) + sum(map(len, more))
    outcome.took(
        "going on, s", seconds_until(lambda: _received(scenario) + _lost(scenario) == sent), at_most=30
    )
    outcome.notes["lost"] = _lost(scenario)
    outcome.check(_lost(scenario) > 0, "nothing was lost: nothing was shown")
    outcome.check(worker.process.poll() is None, f"the worker ended: {worker.last_words}")
    end_all(outcome, [worker])
    return outcome


def newer_state(scenario: Scenario) -> Outcome:
    """A state that a newer version of the worker has written."""
    _some_state(scenario)
    record = msgspec.msgpack.encode(["marker", STATE_VERSION + 1, {"of": "another shape"}])
    _send(scenario, scenario.settings.changelog, record)
    _refused(
        scenario,
        "newer state",
        f"its state version is {STATE_VERSION + 1}, this worker reads",
        "Use the version of the worker that wrote it",
    )
    return scenario.outcome


def idle_producer_expired(environment: Any, seed: int, _: dict[str, Any]) -> Outcome:
    """The broker forgets the transactional ids of a shard that had nothing to commit for long."""
    properties = {
        "transactional.id.expiration.ms": "3000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
    }
    with environment.own_broker(properties=properties) as broker:
        scenario = Scenario(environment.settings(broker.bootstrap), seed)
        clicks = some_clicks(2 * HALF, seed=seed)
        scenario.clicks = clicks
        worker = scenario.worker()
        worker.wait_for("shards_open")
        send(scenario.settings, as_messages(clicks[: len(clicks) // 2]))
        scenario.until_published_more()
        time.sleep(8)
        send(scenario.settings, as_messages(clicks[len(clicks) // 2 :]))
        scenario.outcome.took("going again, s", scenario.until_published_more(), at_most=30)
        scenario.outcome.faults["transactional ids expired"] += 1
        scenario.outcome.notes["failed commits"] = worker.log.count('"commit_failed"')
        end_all(scenario.outcome, [worker])
        return scenario.settle()


def _received(scenario: Scenario) -> int:
    return sum(each.marker.counters.received for each in scenario.markers().values() if each.marker)


def _lost(scenario: Scenario) -> int:
    return sum(each.marker.counters.lost for each in scenario.markers().values() if each.marker)


def _some_state(scenario: Scenario) -> None:
    """Clicks, and a worker that has seen them and left their sessions open."""
    scenario.clicks = some_clicks(HALF, seed=77)
    send(scenario.settings, as_messages(scenario.clicks))
    worker = scenario.worker(commit__interval_ms=20)
    wait_until(lambda: _received(scenario) == len(scenario.clicks))
    end_all(scenario.outcome, [worker])


def _middles(scenario: Scenario) -> dict[TopicPartition, RecordsToDelete]:
    """Right behind the first image chunk of each partition's changelog: its marker stays."""
    records = committed(scenario.settings, scenario.settings.changelog).records
    images = {
        r.partition: r.offset for r in reversed(records) if msgspec.msgpack.decode(r.value)[0] == "images"
    }
    return {
        TopicPartition(scenario.settings.changelog, number): RecordsToDelete(before_offset=offset + 1)
        for number, offset in images.items()
    }


def _refused(scenario: Scenario, fault: str, *said: str) -> None:
    """A worker has to end with 1, say these words, and leave everything as it is."""
    outcome, before = scenario.outcome, len(published(scenario.settings))
    worker = Worker(changed(scenario.settings, {}))
    code = worker.end()
    outcome.check(code == 1, f"{fault}: exit {code}, expected 1")
    missing = [words for words in said if words not in worker.log]
    outcome.check(not missing, f"{fault}: {missing} not said in {worker.last_words}")
    outcome.check("Traceback" not in worker.log, f"{fault}: a traceback")
    outcome.check(len(published(scenario.settings)) == before, f"{fault}: something was published")
    outcome.faults[f"{fault}, refused"] += 1


def _on_admin(scenario: Scenario, act: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, Any]]) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(**arguments(scenario.settings))
        await admin.start()
        try:
            await act(admin)
        finally:
            await admin.close()

    asyncio.run(run())


def _send(scenario: Scenario, topic: str, value: bytes) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(**arguments(scenario.settings))
        await producer.start()
        await producer.send_and_wait(topic, value, partition=0)
        await producer.stop()

    asyncio.run(run())

"""The sink killed, again and again, at any moment; its server too. The store has to have what the topics say.

`python -m tests.sink.kills 50` kills it fifty times, in turns with its server.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import Settings, load_settings
from tests.conftest import names_of_its_own
from tests.sink.live import RedisServer, Sink, assert_same, drain, expected
from tests.sink.traffic import publish_traffic
from tests.worker.live import committed, wait_until

RECORDS_A_KILL = 1200
KEYS = 400
SHORTEST_S, LONGEST_S = 0.05, 1.0
"""From when a sink reads until it is killed."""
LONGEST_AFTER_ROWS_S = 0.5


def own_settings(bootstrap: str, **sink: object) -> Settings:
    """With topics of their own, which are there then."""
    settings = load_settings(
        overrides={
            "kafka.bootstrap_servers": bootstrap,
            "topics.partitions": 3,
            **{f"sink.{name}": value for name, value in sink.items()},
            **names_of_its_own(),
        },
        environ={},
    )
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return settings


def kill_while_rows_come(
    traffic: tuple[Settings, int, int, int, int],
    kills: int,
    start: Callable[[], Sink],
    rows: Callable[[], int],
) -> None:
    """Publish `traffic`, as `publish_traffic` takes it, and meanwhile start and kill a sink, shortly after
    there are more rows each time."""
    chance = random.Random(traffic[-1])
    publisher = threading.Thread(target=publish_traffic, args=traffic, daemon=True)
    publisher.start()
    for _ in range(kills):
        before = rows()
        sink = start()
        # Once all is published, a sink that was quick may have nothing left to add.
        wait_until(lambda before=before: rows() > before or not publisher.is_alive())  # type: ignore[misc]
        time.sleep(chance.uniform(0, LONGEST_AFTER_ROWS_S))
        sink.process.kill()
        sink.end()
    publisher.join()


def kill_again_and_again(settings: Settings, server: RedisServer, kills: int, seed: int) -> dict[str, int]:
    """Kill the sink while records come, every third time its server; returns the counts. Raises
    AssertionError where store and topics differ."""
    chance = random.Random(seed)
    now_ms = int(time.time() * 1000) - 10 * RECORDS_A_KILL * (kills + 1)
    traffic = (settings, RECORDS_A_KILL * (kills + 1), KEYS, now_ms, seed)
    publisher = threading.Thread(target=publish_traffic, args=traffic)
    publisher.start()
    for number in range(kills):
        sink = Sink(settings)
        sink.wait_for('"copying"')
        time.sleep(chance.uniform(SHORTEST_S, LONGEST_S))
        if number % 3 == 2:
            server.kill()
            server.start()
            time.sleep(chance.uniform(SHORTEST_S, LONGEST_S))
        assert sink.process.poll() is None, sink.log
        sink.process.kill()
        sink.end()
    publisher.join()
    drain(settings)
    assert_same(server, expected(settings))
    counts = server.counts()
    topics = settings.looked_up.values()
    assert counts["read"] == sum(len(committed(settings, topic).records) for topic in topics)
    assert counts["read"] == sum(counts[name] for name in ("written", "stale", "deleted", "bad"))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedKafka(Path(folder) / "kafka") as broker:
        server = RedisServer(Path(folder))
        try:
            settings = own_settings(broker.bootstrap, **{"redis.url": server.url})
            print(kill_again_and_again(settings, server, given.kills, given.seed))
        finally:
            server.kill()


if __name__ == "__main__":
    main()

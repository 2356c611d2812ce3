"""`streamer sink redis` on a real broker and a real Redis server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from streamer.kafka.ports import free_ports
from streamer.settings import Settings
from streamer.sink.copier import Copier
from streamer.sink.metrics import SinkMetrics
from streamer.sink.redis_store import RedisStore
from streamer.sink.source import Source, sources_of
from streamer.sink.store import Position
from tests.client.records import a_message, a_record, a_user
from tests.conftest import ROOT, RunStreamer
from tests.sink.growing import VISITORS, copy_while_partitions_are_added
from tests.sink.kills import kill_again_and_again, own_settings
from tests.sink.live import RedisServer, Sink, assert_same, drain, end, expected, publish
from tests.worker.live import ask, committed, make_anew, metric, wait_until

DOCS = (ROOT / "docs" / "sinks.md").read_text()
NOW_MS = int(time.time() * 1000)


def test_killed_at_any_moment_the_store_has_what_the_topics_say(bootstrap: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    try:
        counts = kill_again_and_again(
            own_settings(bootstrap, **{"redis.url": server.url}), server, kills=3, seed=5
        )
        assert all(counts.values())
    finally:
        server.kill()


@pytest.fixture
def settings(bootstrap: str, store: RedisServer) -> Settings:
    (port,) = free_ports(1)
    return own_settings(bootstrap, **{"metrics_port": port, "redis.url": store.url})


def publish_visitors(settings: Settings, first: int, count: int) -> None:
    messages = [a_message(f"v{n}", NOW_MS + n) for n in range(first, first + count)]
    publish(settings, [(settings.topics.visitors, None, *message) for message in messages])


def test_a_server_that_lost_everything_is_filled_again(settings: Settings, store: RedisServer) -> None:
    publish_visitors(settings, 0, 500)
    sink = Sink(settings)
    sink.wait_until_ready()
    store.client.flushall()
    publish_visitors(settings, 500, 10)
    wait_until(lambda: len(store.documents()) == 510)
    assert_same(store, expected(settings))
    sink.wait_until_ready()
    end(sink)
    assert "position_moved" in sink.log


def test_after_a_long_absence_it_reads_everything_again_and_sweeps_what_is_gone(
    settings: Settings, store: RedisServer
) -> None:
    publish_visitors(settings, 0, 5)
    drain(settings)
    store.client.hset("streamer:visitors:ghost", "visitor_id", "ghost")
    away = settings.model_copy(update={"sink": settings.sink.model_copy(update={"rebuild_after_s": 0.001})})
    sink = Sink(away)  # it is behind again and again
    wait_until(lambda: len(store.documents()) == 5)
    end(sink)
    assert "behind for longer than sink.rebuild_after_s" in sink.log
    assert_same(store, expected(settings))


def test_a_full_server_holds_it_up_and_nothing_is_lost(settings: Settings, store: RedisServer) -> None:
    publish_visitors(settings, 0, 100)
    sink = Sink(settings)
    sink.wait_until_ready()
    store.client.config_set("maxmemory", 1)
    publish_visitors(settings, 100, 300)
    wait_until(lambda: "it is full" in sink.readiness)
    assert ask(sink.port, "/readyz")[0] == 503
    assert ask(sink.port, "/livez")[0] == 200
    assert len(store.documents()) == 100
    store.client.config_set("maxmemory", 0)
    sink.wait_until_ready()
    wait_until(lambda: len(store.documents()) == 400)
    end(sink)
    assert_same(store, expected(settings))
    assert store.counts() == {"read": 400, "written": 400, "stale": 0, "deleted": 0, "bad": 0}


def test_erased_visitors_and_withdrawn_customers_go(settings: Settings, store: RedisServer) -> None:
    topics = settings.topics
    publish(settings, [(topics.visitors, None, *a_message(f"v{n}", NOW_MS)) for n in range(3)])
    publish(settings, [(topics.users, None, *a_user(f"u{n}", a_record("v0", NOW_MS))) for n in range(3)])
    sink = Sink(settings)
    sink.wait_until_ready()
    wait_until(lambda: len(store.documents()) == 6)
    for topic, key in ((topics.visitors, b"v1"), (topics.users, b"u1")):
        publish(settings, [(topic, number, key, None) for number in range(topics.partitions)])
    wait_until(lambda: len(store.documents()) == 4)
    everything = b" ".join(key + (store.client.dump(key) or b"") for key in store.client.scan_iter("*"))
    assert b"v1" not in everything
    assert b"u1" not in everything
    publish(settings, [(topics.users, None, *a_user("u1", a_record("v0", NOW_MS - 5)))])
    wait_until(lambda: b"streamer:users:u1" in store.documents())
    assert_same(store, expected(settings))
    assert metric(sink.port, "streamer_sink_records_total", view="users", outcome="deleted") == 1
    end(sink)


def test_two_sinks_do_the_work_of_one(settings: Settings, store: RedisServer) -> None:
    publish_visitors(settings, 0, 2000)
    other = settings.model_copy(update={"sink": settings.sink.model_copy(update={"metrics_port": 0})})
    sinks = [Sink(settings), Sink(other)]
    publish_visitors(settings, 1000, 2000)
    wait_until(lambda: store.counts()["read"] == 4000)
    for sink in sinks:
        end(sink)
    assert_same(store, expected(settings))


async def copy(settings: Settings, store: RedisStore) -> bool:
    """All that the topics have."""
    copier = Copier(settings, sources_of(settings), store, SinkMetrics(time.time), time.time)
    async with store:
        return await copier.run(None, drain=True)


def test_a_sink_that_starts_while_another_one_copies_goes_on_from_there(
    settings: Settings, store: RedisServer
) -> None:
    class Overtaken(RedisStore):
        """Another sink has copied what came, as soon as this one asks where the store stands."""

        is_alone = True

        async def position(self, source: Source, partition: int) -> Position | None:
            if self.is_alone:
                self.is_alone = False
                await asyncio.to_thread(publish_visitors, settings, 30, 30)
                await copy(settings, RedisStore(settings.sink.redis))
            return await super().position(source, partition)

    publish_visitors(settings, 0, 30)
    assert asyncio.run(copy(settings, RedisStore(settings.sink.redis)))
    assert asyncio.run(copy(settings, Overtaken(settings.sink.redis)))
    assert_same(store, expected(settings))


def test_shares_copy_their_partitions_and_another_format_is_written_anew(
    settings: Settings, store: RedisServer
) -> None:
    publish_visitors(settings, 0, 60)
    drain(settings, "--partitions", "0")
    assert 0 < len(store.documents()) < 60
    drain(settings, "--partitions", "1-2")
    assert_same(store, expected(settings))
    redis = settings.sink.redis.model_copy(update={"format": "json"})
    as_json = settings.model_copy(update={"sink": settings.sink.model_copy(update={"redis": redis})})
    log = drain(as_json)
    assert "format was changed" in log
    assert b'"visitor_id":"v7"' in store.client.get("streamer:visitors:v7")


def test_partitions_that_are_added_are_followed(settings: Settings, store: RedisServer) -> None:
    settings = copy_while_partitions_are_added(settings, lambda: RedisStore(settings.sink.redis))
    drain(settings)
    assert len(store.documents()) == VISITORS
    assert_same(store, expected(settings))
    assert store.counts()["read"] == len(committed(settings, settings.topics.visitors).records)


def test_health_and_metrics_are_told_and_documented(settings: Settings, store: RedisServer) -> None:
    publish_visitors(settings, 0, 10)
    sink = Sink(settings)
    sink.wait_until_ready()
    wait_until(lambda: metric(sink.port, "streamer_sink_records_total", outcome="written") == 10)
    assert metric(sink.port, "streamer_sink_lag_records") == 0
    text = ask(sink.port, "/metrics")[1]
    end(sink)
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE streamer_")}
    assert [name for name in names if f"`{name}`" not in DOCS and not name.endswith("_created")] == []


def test_a_topic_that_was_made_anew_ends_it(settings: Settings, run_streamer: RunStreamer) -> None:
    publish_visitors(settings, 0, 10)
    drain(settings)
    make_anew(settings, settings.topics.visitors)
    done = run_streamer("sink", "redis", "--drain", settings=settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the topic was made anew" in done.stderr


def test_a_server_that_cant_be_reached_ends_it_at_the_start(
    settings: Settings, run_streamer: RunStreamer
) -> None:
    redis = settings.sink.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    nowhere = settings.model_copy(update={"sink": settings.sink.model_copy(update={"redis": redis})})
    done = run_streamer("sink", "redis", settings=nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert "redis://127.0.0.1:1/0: it can't be used now" in done.stderr

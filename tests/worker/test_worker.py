"""The worker as its users see it: a process between real topics."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from streamer.kafka.embedded import EmbeddedKafka
from streamer.models.bundle import default_bundle
from streamer.rules_from_settings import session_rules
from streamer.schemas.build import WHY_PURE
from streamer.settings import Settings, load_settings
from streamer.worker.changelog import Marker, decode
from streamer.worker.commit_loop import COMMIT_AT
from tests.bad_clicks import BAD_CLICKS
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import (
    START_MS,
    Worker,
    alter_topic,
    as_messages,
    committed,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)
from tests.worker.test_ways_out import received

FAST = {
    "watermark.out_of_orderness_s": 0,
    "watermark.idle_after_s": 1,
    "watermark.idle_margin_s": 0.2,
    "session.gap_s": 2,
}


def test_a_drained_worker_has_published_every_session_once(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    clicks = some_clicks(300, seed=1)
    set_up(settings)
    send(settings, as_messages(clicks))
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert '"error"' not in worker.log
    assert published(settings) == oracle(clicks)
    intents = committed(settings, settings.topics.intents).decoded()
    embeddings = committed(settings, settings.topics.embeddings).decoded()
    visitors = committed(settings, settings.topics.visitors).decoded()
    assert len({record["session_id"] for record in intents}) == len(intents)
    assert {r["session_id"] for r in embeddings} == {r["session_id"] for r in intents}
    assert {r["visitor_id"] for r in visitors} == {click["visitor_id"] for click in clicks}
    assert committed(settings, settings.topics.late).records == []
    assert committed(settings, settings.topics.dlq).records == []


def test_outputs_are_in_the_partition_of_their_source_with_the_visitor_as_key(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings()
    set_up(settings)
    send(settings, as_messages(some_clicks(40, seed=2)))
    assert Worker(settings, "--drain").end() == 0
    source = {record.key: record.partition for record in committed(settings, settings.topics.clicks).records}
    for topic in (settings.topics.intents, settings.topics.embeddings, settings.topics.visitors):
        for record in committed(settings, topic).records:
            assert source[record.key] == record.partition


TOPIC_MAX_BYTES = 1024 * 1024


@pytest.mark.parametrize(
    ("gap_s", "before_s", "after_s", "sessions_s"),
    [
        (600, [0], [500, 1200], [(0, 500, 2), (1200, 1200, 1)]),
        (600, [0, 1000], [1500], [(0, 1500, 3)]),  # what was together stays so
        (600, [0], [1000], [(0, 0, 1), (1000, 1000, 1)]),
        (3600, [0], [3000, 6601], [(0, 3000, 2), (6601, 6601, 1)]),
    ],
)
def test_sessions_that_are_open_when_another_gap_is_accepted_go_on_under_it(
    fresh_settings: FreshSettings,
    gap_s: int,
    before_s: list[int],
    after_s: list[int],
    sessions_s: list[tuple[int, int, int]],
) -> None:
    settings, other = fresh_settings(), fresh_settings({"session.gap_s": gap_s})

    def clicks_at(times_s: list[int]) -> list[tuple[bytes, bytes]]:
        at = [{"timestamp": START_MS + time_s * 1000, "event_type": "click"} for time_s in times_s]
        return as_messages([{"visitor_id": "v", **click} for click in at])

    set_up(settings)
    send(settings, clicks_at(before_s))
    worker = Worker(settings)
    wait_until(lambda: received(settings) == len(before_s))
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    send(settings, clicks_at(after_s))
    refused = Worker(other, "--drain")
    assert refused.end() == 1
    assert "--accept-rules" in refused.last_words
    assert Worker(other, "--drain", "--accept-rules").end() == 0
    assert published(settings) == [
        ("v", START_MS + first * 1000, START_MS + last * 1000, count) for first, last, count in sessions_s
    ]
    records = committed(settings, settings.topics.intents).decoded()
    assert {record["rules_version"] for record in records} == {session_rules(other).version}


def test_idleness_closes_a_session_of_a_live_worker(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({**FAST, "topics.partitions": 1})
    set_up(settings)
    now_ms = int(time.time() * 1000)
    click = {"visitor_id": "v", "timestamp": now_ms, "event_id": "e", "event_type": "page_view"}
    worker = Worker(settings)
    worker.wait_for("worker_started")
    send(settings, as_messages([click]))
    wait_until(lambda: committed(settings, settings.topics.intents).records)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    (record,) = committed(settings, settings.topics.intents).decoded()
    arrival = committed(settings, settings.topics.clicks).records[0].timestamp
    assert record["close_reason"] == "idle"
    # t* = a0 + idle_after + (ended_at + gap - W), and W = min(event time, arrival) - 0
    watermark = min(now_ms, arrival)
    assert record["closed_at"] == arrival + 1000 + (now_ms + 2000 - watermark)


def test_a_worker_that_starts_says_why_it_runs_as_pure_python(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings()
    set_up(settings)
    worker = Worker(settings)
    worker.wait_for("worker_started")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    (started,) = (
        line for line in map(json.loads, worker.log.splitlines()) if line["event"] == "worker_started"
    )
    assert started["pure_python"] == WHY_PURE


def test_many_clicks_are_committed_before_their_time(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"commit.interval_ms": 30_000, "topics.partitions": 1})
    set_up(settings)
    now_ms = int(time.time() * 1000)
    clicks = [
        {"visitor_id": f"v{n}", "timestamp": now_ms, "event_id": f"e{n}", "event_type": "page_view"}
        for n in range(2 * COMMIT_AT)
    ]
    worker = Worker(settings)
    worker.wait_for("shards_open")
    send(settings, as_messages(clicks))
    wait_until(lambda: _committed_position(settings) > COMMIT_AT, timeout_s=20)
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log


def _committed_position(settings: Settings) -> int:
    last = decode(committed(settings, settings.changelog).records[-1].value)
    assert isinstance(last, Marker)
    return last.position


def test_bad_clicks_end_as_dead_letters_and_change_nothing_else(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    clicks = some_clicks(50, seed=5)
    set_up(settings)
    # Sound ones among them, with a time of today, would rightly make the clicks after them late.
    sent = [e for e in BAD_CLICKS if e.stage != "ok" and len(e.value or b"") < TOPIC_MAX_BYTES]
    bad = [(b"bad", each.value) for each in sent]
    messages = as_messages(clicks)
    send(settings, messages[:100] + bad + messages[100:])
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    dead = committed(settings, settings.topics.dlq)
    expected = sorted(each.reason for each in sent if each.stage in ("decode", "validate"))
    assert sorted(dead.headers("x-streamer-reason")) == expected
    values = {record.value for record in dead.records}
    assert values == {each.value for each in sent if each.stage in ("decode", "validate")}


def test_a_topic_with_create_time_is_refused(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"clicks.arrival": "create_time"})
    set_up(settings)
    send(settings, as_messages(some_clicks(2, seed=6)))
    strict = fresh_settings()
    worker = Worker(strict, "--drain")
    assert worker.end() == 1
    assert "message.timestamp.type=CreateTime, expected LogAppendTime" in worker.log
    assert not committed(settings, settings.changelog).records  # so that --from still counts
    assert Worker(settings, "--drain").end() == 0


def test_records_from_before_the_topic_had_log_append_time_are_dead_letters(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    clicks = some_clicks(2, seed=6)
    half = len(clicks) // 2
    by_producers, settings = fresh_settings({"clicks.arrival": "create_time"}), fresh_settings()
    set_up(by_producers)
    send(settings, as_messages(clicks[:half]))
    alter_topic(by_producers, settings.topics.clicks, message_timestamp_type="LogAppendTime")
    send(settings, as_messages(clicks[half:]))
    # Not half of them: a leader may append a little by the old type after the change was acknowledged.
    with_create_time = sum(r.timestamp_type == 0 for r in committed(settings, settings.topics.clicks).records)
    assert half <= with_create_time < len(clicks)
    assert Worker(settings, "--drain").end() == 0
    reasons = committed(settings, settings.topics.dlq).headers("x-streamer-reason")
    assert reasons == ["create_time"] * with_create_time
    verified = run_streamer("verify", settings=settings)
    assert verified.returncode == 0, verified.stderr
    replayed = run_streamer("dlq", "replay", "--reason", "create_time", settings=settings)
    assert f"{with_create_time} dead letters were replayed" in replayed.stderr
    doctor = run_streamer("doctor", settings=settings).stdout
    in_all = len(clicks) + with_create_time
    assert f"warn  arrival: {with_create_time} of the last {in_all} clicks have CreateTime" in doctor


def test_records_of_an_aborted_transaction_are_not_clicks(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)
    clicks = some_clicks(3, seed=8)

    async def send_in_transactions() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id=settings.topics.clicks
        )
        await producer.start()
        for abort in (True, False):
            await producer.begin_transaction()
            for key, value in as_messages(clicks):
                await producer.send(settings.topics.clicks, value, key=key)
            await (producer.abort_transaction() if abort else producer.commit_transaction())
        await producer.stop()

    asyncio.run(send_in_transactions())
    assert Worker(settings, "--drain").end() == 0
    assert published(settings) == oracle(clicks)


def test_a_broker_that_dies_while_running_is_waited_for(tmp_path: Path, own_names: dict[str, str]) -> None:
    clicks = some_clicks(100, seed=9)
    half = len(clicks) // 2
    with EmbeddedKafka(tmp_path / "kafka") as broker:
        settings = load_settings(
            overrides={"kafka.bootstrap_servers": broker.bootstrap, **own_names}, environ={}
        )
        set_up(settings)
        send(settings, as_messages(clicks[:half]))
        worker = Worker(settings)
        wait_until(lambda: len(published(settings)) > 5)
        broker.kill()
        time.sleep(3)
        broker.start()
        send(settings, as_messages(clicks[half:]))
        before = len(published(settings))
        wait_until(lambda: len(published(settings)) > before, timeout_s=90)
        assert worker.process.poll() is None, worker.log
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.log
        assert Worker(settings, "--drain").end() == 0
        assert published(settings) == oracle(clicks)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_a_frozen_broker_at_its_start_ends_when_it_is_told_to(
    tmp_path: Path, own_names: dict[str, str], number: signal.Signals
) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as broker:
        settings = load_settings(
            overrides={"kafka.bootstrap_servers": broker.bootstrap, **own_names}, environ={}
        )
        set_up(settings)
        worker = Worker(settings)
        worker.wait_for("worker_starts")
        broker.signal(signal.SIGSTOP)
        time.sleep(2)
        worker.signal(number)
        begin = time.monotonic()
        worker.end()
        assert time.monotonic() - begin < 11
        broker.signal(signal.SIGCONT)


def test_without_a_broker_at_the_start_a_worker_says_so_and_ends(fresh_settings: FreshSettings) -> None:
    nowhere = fresh_settings({"kafka.bootstrap_servers": "127.0.0.1:9", "kafka.connect_timeout_s": 1})
    worker = Worker(nowhere)
    assert worker.end() == 1
    assert "no Kafka broker answers at 127.0.0.1:9" in worker.log


def test_a_damaged_bundle_is_refused_before_anything_is_read(
    fresh_settings: FreshSettings, tmp_path: Path
) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(default_bundle(), damaged)
    (damaged / "encoder.onnx").write_bytes(b"\0")
    worker = Worker(fresh_settings({"model.bundle": str(damaged)}))
    assert worker.end() == 1
    assert "encoder.onnx" in worker.log
    assert "Traceback" not in worker.log


def test_of_two_workers_with_one_instance_id_the_newer_stays(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"app.instance_id": "twin"})
    set_up(settings)
    older = Worker(settings)
    older.wait_for("shards_open")
    newer = Worker(settings)
    assert older.end() == 1
    assert "another worker has joined group" in older.log
    newer.wait_for("shards_open")
    send(settings, as_messages(some_clicks(30, seed=10)))
    wait_until(lambda: published(settings))
    newer.signal(signal.SIGTERM)
    assert newer.end() == 0, newer.log


def test_group_offsets_decide_nothing(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    clicks = some_clicks(60, seed=11)
    messages = as_messages(clicks)
    set_up(settings)
    send(settings, messages[:100])
    worker = Worker(settings)
    worker.wait_for("shards_open")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    send(settings, messages[100:])

    async def commit_the_ends() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            group_id=settings.app.id,
            enable_auto_commit=False,
        )
        await consumer.start()
        tps = [TopicPartition(settings.topics.clicks, number) for number in range(settings.topics.partitions)]
        consumer.assign(tps)
        await consumer.commit(await consumer.end_offsets(tps))
        await consumer.stop()

    asyncio.run(commit_the_ends())
    assert Worker(settings, "--drain").end() == 0
    assert published(settings) == oracle(clicks)


def test_a_worker_ends_while_its_group_waits_for_one_that_was_killed(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    clicks = some_clicks(60, seed=12)
    set_up(settings)
    send(settings, as_messages(clicks))
    leaver, stayer, killed = workers = [Worker(settings) for _ in range(3)]
    for worker in workers:
        worker.wait_for("shards_open")
    killed.signal(signal.SIGKILL)
    leaver.signal(signal.SIGTERM)
    assert leaver.end() == 0, leaver.log
    time.sleep(3)  # a heartbeat tells the other one to join again, and to wait for the killed one
    stayer.signal(signal.SIGTERM)
    begin = time.monotonic()
    assert stayer.end() == 0, stayer.log
    assert time.monotonic() - begin < 5

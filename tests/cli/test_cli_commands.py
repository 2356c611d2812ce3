"""Commands against the real broker, each as a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import create_topics, declared_topics
from streamer.schemas.codec import encode
from streamer.settings import Settings
from tests import forks
from tests.conftest import FreshSettings, RunStreamer, as_environment, without_settings
from tests.sources.events import SEGMENT_PAGE

TYPED = "what a customer typed"


@pytest.fixture
def settings(fresh_settings: FreshSettings) -> Settings:
    return fresh_settings({"topics.partitions": 2})


@pytest.fixture
def topics(settings: Settings) -> Settings:
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    return settings


def write(settings: Settings, topic: str, value: bytes | None, headers: Any = (), key: bytes = b"v") -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            await producer.send_and_wait(topic, value, key, headers=list(headers))

    asyncio.run(run())


def intent() -> bytes:
    session = {
        "session_id": "0" * 32,
        "visitor_id": "v",
        "started_at": 1,
        "ended_at": 2,
        "closed_at": 3,
        "event_count": 5,
        "close_reason": "gap",
        "is_bot": False,
        "rules_version": "00000000",
        "model_version": "m@0",
        "taxonomy_version": "t1",
        "intents": [{"intent_id": "i1", "label": "mortgage \x1b[31m", "parent": "p", "probability": 0.75}],
        "top_intent": "i1",
        "abstained": False,
        "reasons": [
            {
                "click": 7,
                "event_id": "e",
                "event_type": "view \x1b[1m",
                "page_type": "faq",
                "contribution": 3.5,
            },
            {"click": 2, "event_id": "e", "event_type": "view", "page_type": None, "contribution": 0.25},
        ],
    }
    defaults = {"user_id": None, "is_final": True, "revision": 0, "supersedes": None, "abstain_reason": None}
    return encode("session_intent", defaults | session)


def test_topics_are_missing_then_created_then_as_declared(
    run_streamer: RunStreamer, settings: Settings
) -> None:
    before = run_streamer("topics", "check", settings=settings)
    assert before.returncode == 1
    assert before.stderr.count("topic is missing, expected there") == len(declared_topics(settings))
    created = run_streamer("topics", "create", "--json", settings=settings)
    assert created.returncode == 0
    assert len(json.loads(created.stdout)["created"]) == len(declared_topics(settings))
    after = run_streamer("topics", "check", "--json", settings=settings)
    assert (after.returncode, json.loads(after.stdout)) == (0, {"drift": []})
    again = run_streamer("topics", "create", settings=settings)
    assert (again.returncode, again.stderr.count("was there")) == (0, len(declared_topics(settings)))


def test_drift_is_exit_1_and_told(run_streamer: RunStreamer, topics: Settings) -> None:
    done = run_streamer("--set", "topics.partitions=3", "topics", "check", settings=topics)
    assert done.returncode == 1
    assert f"drift: {topics.topics.clicks}: number of partitions is 2, expected 3" in done.stderr


def test_produce_reads_standard_input_and_counts(run_streamer: RunStreamer, topics: Settings) -> None:
    lines = '{"visitor_id": "a"}\n\nnot json\n{"visitor_id": "b"}'
    done = run_streamer("produce", "-", "--json", settings=topics, stdin=lines)
    assert done.returncode == 0
    counts = json.loads(done.stdout)
    del counts["seconds"]
    assert counts == {
        "topic": topics.topics.clicks,
        "sent": 3,
        "without_key": 1,
        "blank": 1,
        "too_large": 0,
    }


def test_produce_says_in_words_what_it_did(
    run_streamer: RunStreamer, topics: Settings, tmp_path: Path
) -> None:
    (tmp_path / "clicks.jsonl").write_bytes(b'{"visitor_id": "a"}\n' + b"x" * 2_000_000)
    done = run_streamer("produce", "clicks.jsonl", settings=topics)
    assert done.returncode == 1
    assert done.stderr.startswith(f"1 clicks sent to {topics.topics.clicks} in ")
    assert "1 lines were not sent: larger than the topic's max.message.bytes" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("count", [12, 250])
def test_produce_says_which_source_its_lines_look_like(
    topics: Settings, run_streamer: RunStreamer, tmp_path: Path, count: int
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes((json.dumps({**SEGMENT_PAGE, "name": TYPED}).encode() + b"\n") * count)
    first = min(count, 100)
    done = run_streamer("produce", str(file), settings=topics)
    assert done.returncode == 0
    said = f"{first} of the first {first} records can't be read with clicks.source = native"
    assert done.stderr.count(f"warning: {said}; segment can read {first} of them\n") == 1
    assert TYPED not in done.stderr
    assert "warning" not in run_streamer("produce", str(file), "--source", "segment", settings=topics).stderr


def test_subscribe_decodes_what_is_ours(run_streamer: RunStreamer, topics: Settings) -> None:
    write(topics, topics.topics.intents, intent())
    done = run_streamer("subscribe", "intents", "--limit", "1", "--json", settings=topics)
    record = json.loads(done.stdout)
    assert (record["key"], record["offset"]) == ("v", 0)
    assert record["value"]["intents"][0]["probability"] == 0.75


def test_subscribe_prints_a_line_for_people_without_control_characters(
    run_streamer: RunStreamer, topics: Settings
) -> None:
    write(topics, topics.topics.intents, intent(), key=b"v\x1b[2J")
    done = run_streamer("subscribe", "intents", "--timeout", "1", settings=topics)
    assert done.returncode == 0
    why = r"+3.50  click 7  view \x1b[1m  faq; +0.25  click 2  view"
    assert rf"v\x1b[2J  mortgage \x1b[31m 0.75 ({why}), 5 clicks, closed by gap" in done.stdout
    assert "\x1b" not in done.stdout


def test_subscribe_says_what_it_waits_for(topics: Settings) -> None:
    program = [sys.executable, "-c", forks.MAIN]
    with subprocess.Popen(
        [*program, "subscribe", "embeddings", "--from", "latest", "--limit", "1"],
        env=without_settings() | as_environment(topics),
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith(f"waiting for records in {topics.topics.embeddings};")
        waiting.terminate()


def test_subscribe_goes_on_after_a_tombstone_and_a_foreign_record(
    run_streamer: RunStreamer, topics: Settings
) -> None:
    write(topics, topics.topics.visitors, None)
    write(topics, topics.topics.visitors, b"foreign")
    write(topics, topics.topics.visitors, None)
    done = run_streamer("subscribe", "visitors", "--limit", "3", "--json", settings=topics)
    erased, foreign, last = map(json.loads, done.stdout.splitlines())
    assert erased["value"] is None
    assert "first byte is 102" in foreign["error"]
    assert last["offset"] == 2


@pytest.mark.parametrize("feed", ["late", "dlq"])
@pytest.mark.parametrize("how", [(), ("--json",)])
def test_what_a_customer_typed_is_shown_only_when_asked_for(
    run_streamer: RunStreamer, topics: Settings, feed: str, how: tuple[str, ...]
) -> None:
    headers = [("x-streamer-reason", b"missing_timestamp"), ("own", TYPED.encode())]
    write(topics, getattr(topics.topics, feed), TYPED.encode(), headers)
    shown = run_streamer("subscribe", feed, "--limit", "1", *how, settings=topics).stdout
    assert "missing_timestamp" in shown
    assert TYPED not in shown
    raw = run_streamer("subscribe", feed, "--limit", "1", "--raw", *how, settings=topics).stdout
    assert raw.count(TYPED) == 2


def test_payload_that_is_no_text_is_base64(run_streamer: RunStreamer, topics: Settings) -> None:
    write(topics, topics.topics.dlq, b"\xff\xfe")
    done = run_streamer("subscribe", "dlq", "--limit", "1", "--raw", "--json", settings=topics)
    assert json.loads(done.stdout)["payload_base64"] == "//4="


def test_kafka_status_tells_a_running_from_a_stopped_broker(
    run_streamer: RunStreamer, kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    running = run_streamer("kafka", "status", "--data-dir", str(kafka.data_dir), "--json")
    assert running.returncode == 0
    assert json.loads(running.stdout)["bootstrap_servers"] == kafka.bootstrap
    stopped = run_streamer("kafka", "status", "--data-dir", str(tmp_path / "none"), "--json")
    assert (stopped.returncode, json.loads(stopped.stdout)["running"]) == (1, False)
    assert run_streamer("kafka", "stop", "--data-dir", str(tmp_path / "none")).returncode == 0


def test_kafka_start_finds_the_running_one(run_streamer: RunStreamer, kafka: EmbeddedKafka) -> None:
    done = run_streamer("kafka", "start", "--data-dir", str(kafka.data_dir), "--port", "0")
    assert done.returncode == 0
    assert f"Kafka already runs at {kafka.bootstrap}" in done.stderr


def test_default_data_and_cache_directories_can_be_moved(run_streamer: RunStreamer, tmp_path: Path) -> None:
    done = run_streamer("kafka", "status", "--json", environ={"STREAMER_STATE_DIR": str(tmp_path / "state")})
    assert json.loads(done.stdout)["data_dir"] == str(tmp_path / "state" / "kafka")


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "simulate", "--out", "s3://bucket/tables"),
        ("model", "train", "--out", "gs://bucket/bundle"),
        ("model", "fit", "--work", "s3://bucket/work"),
        ("model", "evaluate", "--out", "s3://bucket/report"),
        ("kafka", "start", "--data-dir", "s3://bucket/broker"),
    ],
)
def test_an_address_is_no_folder_of_this_machine(
    run_streamer: RunStreamer, arguments: tuple[str, ...]
) -> None:
    refused = run_streamer(*arguments)
    assert refused.returncode == 2
    assert f"{arguments[2]} {arguments[3].replace('//', '/')}: expected a file" in refused.stderr

"""The local Kafka: one per data directory, found by anybody, gone when it should be."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamer.kafka.embedded import EmbeddedKafka, EmbeddedKafkaError
from streamer.kafka.reach import answers
from streamer.kafka.topics import Topic, create_topics, find_drift
from streamer.settings import KafkaSettings

STARTER = """
import sys, time
from pathlib import Path
from streamer.kafka.embedded import EmbeddedKafka
with EmbeddedKafka(Path(sys.argv[1])) as kafka:
    print(kafka.pid, flush=True)
    time.sleep(600)
"""


def wait_until_gone(broker: EmbeddedKafka) -> None:
    deadline = time.monotonic() + 30
    while broker.is_running():
        assert time.monotonic() < deadline, "the broker still runs"
        time.sleep(0.05)


def test_a_second_start_finds_the_first(kafka: EmbeddedKafka) -> None:
    other = EmbeddedKafka(kafka.data_dir).start()
    assert (other.pid, other.bootstrap) == (kafka.pid, kafka.bootstrap)
    assert answers(other.bootstrap)


def test_a_second_start_on_another_port_is_refused(kafka: EmbeddedKafka) -> None:
    with pytest.raises(EmbeddedKafkaError, match=r"already runs on port .*, not 9: stop it first"):
        EmbeddedKafka(kafka.data_dir, port=9).start()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EmbeddedKafkaError, match=f"port {port} on 127.0.0.1 is taken by another program"):
            EmbeddedKafka(tmp_path, port).start()


def test_a_broker_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path, properties={"log.segment.bytes": "many"})
    with pytest.raises(EmbeddedKafkaError, match=r"Invalid value many for configuration log\.segment\.bytes"):
        broker.start()
    assert not broker.is_running()


def test_a_broker_that_does_not_answer_in_time_is_not_left_running(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path)
    with pytest.raises(EmbeddedKafkaError, match=r"does not answer at .* after 0 s; see .*kafka\.log"):
        broker.start(timeout_s=0)
    assert not broker.is_running()


def test_what_was_never_started_is_not_running(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "none")
    assert not broker.is_running()
    assert not broker.stop()
    with pytest.raises(EmbeddedKafkaError, match="no Kafka was started in"):
        _ = broker.bootstrap


def test_two_starts_at_once_are_one_and_kill_9_loses_neither_data_nor_address(tmp_path: Path) -> None:
    topic = Topic("kept", 3, 1, {"retention.ms": "-1"})
    first, second = EmbeddedKafka(tmp_path), EmbeddedKafka(tmp_path)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(EmbeddedKafka.start, (first, second)))
        assert first.pid == second.pid
        address, pid = first.bootstrap, first.pid
        kafka = KafkaSettings(bootstrap_servers=address)
        asyncio.run(create_topics(kafka, [topic]))

        first.kill()
        assert not second.is_running()
        assert not answers(address)

        second.start()
        assert second.bootstrap == address
        assert second.pid != pid
        assert asyncio.run(find_drift(kafka, [topic])) == []
        assert first.stop()
        assert not second.is_running()
        second.start()
        assert second.bootstrap == address
    finally:
        first.stop()
        second.stop()


def test_the_broker_of_a_with_statement_ends_with_its_process_even_after_kill_9(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        broker = EmbeddedKafka(tmp_path)
        assert broker.is_running()
        assert broker.pid == pid
        os.kill(owner.pid, signal.SIGKILL)
    wait_until_gone(broker)

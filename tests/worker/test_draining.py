"""A drain ends with 0 only when every partition that it answers for is drained, by whoever of the group."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from streamer.errors import UsageError
from streamer.worker.draining import Drain
from streamer.worker.kill_points import pass_by
from streamer.worker.options import DrainOptions, parse_scope
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import (
    Worker,
    as_messages,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)
from tests.worker.test_takeover import config


def test_partitions_of_a_worker_that_was_killed_are_waited_for_and_drained(
    fresh_settings: FreshSettings,
) -> None:
    """The group gives them away only when the dead member's session has timed out."""
    settings, clicks = fresh_settings(), some_clicks(200, seed=31)
    set_up(settings)
    send(settings, as_messages(clicks))
    killed = Worker(settings)
    killed.wait_for("shards_open")
    killed.process.kill()
    drain = Worker(settings, "--drain")
    assert drain.end() == 0, drain.log
    assert published(settings) == oracle(clicks)


def test_a_drain_names_the_worker_that_has_the_rest_and_ends_with_1_in_the_end(
    fresh_settings: FreshSettings,
) -> None:
    settings, clicks = fresh_settings(), some_clicks(200, seed=32)
    set_up(settings)
    send(settings, as_messages(clicks))
    other = Worker(settings)
    other.wait_for("shards_open")
    drain = Worker(settings, "--drain", "--timeout", "15")
    assert drain.end() == 1, drain.log
    assert "not drained after 15 s" in drain.last_words
    assert len(re.findall(r"partition \d at \d+ of \d+ \(\S+ at 127\.0\.0\.1\)", drain.last_words)) == 2
    share = Worker(settings, "--drain", "--partitions", "assigned")
    assert share.end() == 0, share.log
    assert other.process.poll() is None


def test_what_another_worker_has_drained_is_not_waited_for(fresh_settings: FreshSettings) -> None:
    settings, clicks = fresh_settings(), some_clicks(200, seed=33)
    set_up(settings)
    send(settings, as_messages(clicks))
    both = Worker(settings, "--drain", "--processes", "2")
    assert both.end() == 0, both.log
    assert published(settings) == oracle(clicks)


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, "1"), (signal.SIGINT, "2")])
def test_a_drain_that_is_stopped_half_way_ends_with_1(
    fresh_settings: FreshSettings, number: signal.Signals, processes: str
) -> None:
    """Here it waits for the partitions of a worker that runs on."""
    settings = fresh_settings()
    set_up(settings)
    send(settings, as_messages(some_clicks(20, seed=34)))
    other = Worker(settings)
    other.wait_for("shards_open")
    drain = Worker(settings, "--drain", "--processes", processes)
    drain.wait_for("shards_open")
    drain.signal(number)
    assert drain.end() == 1, drain.log
    assert "stopped by a signal before everything was drained" in drain.last_words


def test_clicks_behind_an_open_transaction_are_waited_for(fresh_settings: FreshSettings) -> None:
    """They are acknowledged, and nobody can read them yet."""
    settings, clicks = fresh_settings(), some_clicks(20, seed=35)
    set_up(settings)
    somebody = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "transactional.id": settings.app.id}
    )
    somebody.init_transactions()
    somebody.begin_transaction()
    for partition in range(settings.topics.partitions):
        somebody.produce(settings.topics.clicks, b"never committed", partition=partition)
    somebody.flush()
    send(settings, as_messages(clicks))
    drain = Worker(settings, "--drain", "--timeout", "6")
    assert drain.end() == 1, drain.log
    assert "(this worker, behind an open transaction)" in drain.last_words
    somebody.abort_transaction()
    drain = Worker(settings, "--drain")
    assert drain.end() == 0, drain.log
    assert published(settings) == oracle(clicks)


def processes_of(worker: Worker) -> list[int]:
    pid = worker.process.pid
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_process_of_several_that_is_killed_is_named(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    set_up(settings)
    worker = Worker(settings, "--processes", "2")
    wait_until(lambda: len(processes_of(worker)) == 2)
    os.kill(processes_of(worker)[0], signal.SIGKILL)
    assert worker.end() == 1
    assert re.search(r"worker process \d was killed by SIGKILL, so the other processes", worker.last_words)


def test_processes_of_a_worker_that_is_killed_end_by_themselves(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    set_up(settings)
    worker = Worker(settings, "--processes", "2")
    worker.wait_for("shards_open")
    processes = processes_of(worker)
    worker.signal(signal.SIGKILL)
    wait_until(lambda: not any(is_running(process) for process in processes), timeout_s=30)


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie, which nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("text", "scope"),
    [("all", "all"), ("assigned", "assigned"), ("3", frozenset({3})), ("0,12", frozenset({0, 12}))],
)
def test_a_scope_is_all_the_share_or_numbers(text: str, scope: object) -> None:
    assert parse_scope(text) == scope


@pytest.mark.parametrize("text", ["", "some", "1,", "-1", "1-3", "٣"])
def test_another_scope_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected all, assigned, or numbers"):
        parse_scope(text)


def test_a_partition_that_the_topic_lacks_is_refused(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    with pytest.raises(UsageError, match="has 4 partitions, 0 to 3"):
        Drain(DrainOptions(frozenset({1, 4})), config(settings, pass_by), {})


def test_options_of_a_drain_without_one_are_refused(run_streamer: RunStreamer) -> None:
    done = run_streamer("worker", "--timeout", "5")
    assert (done.returncode, "need --drain" in done.stderr) == (2, True)


def test_the_last_line_of_a_drain_says_what_was_drained(fresh_settings: FreshSettings) -> None:
    """And nothing is said of what Faust starts and stops."""
    settings = fresh_settings()
    clicks = some_clicks(10, seed=21)
    set_up(settings)
    send(settings, as_messages(clicks))
    drain = Worker(settings, "--drain")
    assert drain.end() == 0, drain.log
    lines = [orjson.loads(line) for line in drain.log.splitlines()]
    assert lines[-1]["event"] == "drained"
    assert (lines[-1]["clicks"], lines[-1]["sessions"]) == (len(clicks), len(published(settings)))
    assert 0 < lines[-1]["seconds"] < 90
    assert not [line for line in lines if line["event"].startswith("[^")]

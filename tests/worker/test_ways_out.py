"""What a worker refuses at its start, and that each way out it names leads on, from the command line."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from streamer.kafka.ports import free_ports
from streamer.kafka.topics import declared_topics
from streamer.settings import Settings
from streamer.worker.changelog import STATE_VERSION, Marker, StateTopics, decode, encode
from tests.conftest import FreshSettings, RunStreamer, names_of_its_own
from tests.identity.live import ON, clicks_with_logins, differing_users, say, some_links
from tests.worker.live import (
    Worker,
    as_messages,
    ask,
    committed,
    make_anew,
    metric,
    on_admin,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)


def work_through(
    settings: Settings,
    clicks: list[dict[str, Any]],
    *arguments: str,
    environ: Mapping[str, str] | None = None,
) -> None:
    """A worker that takes all of these in, and is stopped with its last sessions open."""
    send(settings, as_messages(clicks))
    before = received(settings)
    worker = Worker(settings, *arguments, environ=environ)
    wait_until(lambda: received(settings) == before + len(clicks))
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log


def markers(settings: Settings) -> dict[int, Marker]:
    """The last marker of each partition."""
    found = {}
    for record in committed(settings, settings.changelog).records:
        if isinstance(entry := decode(record.value), Marker):
            found[record.partition] = entry
    return found


def as_stored(found: dict[int, Marker]) -> dict[int, bytes]:
    return {number: encode(marker) for number, marker in found.items()}


def received(settings: Settings) -> int:
    return sum(marker.counters.received for marker in markers(settings).values())


def refused(settings: Settings, *saying: str) -> None:
    """Neither a worker nor a drain starts, nothing is written, and the doctor knows."""
    before = as_stored(markers(settings))
    for arguments in ((), ("--drain",)):
        worker = Worker(settings, *arguments)
        assert worker.end() == 1, worker.log
        for text in saying:
            assert text in worker.last_words
    assert as_stored(markers(settings)) == before


def another_app(settings: Settings, name: str) -> Settings:
    app = settings.app.model_copy(update={"id": f"{settings.app.id}-{name}"})
    return settings.model_copy(update={"app": app})


def test_a_deployment_with_the_app_id_of_another_topic_is_refused_and_given_its_own_reads_all(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    first = fresh_settings()
    clicks = some_clicks(10, seed=61)
    set_up(first)
    work_through(first, clicks)
    second = fresh_settings({**names_of_its_own(), "app.id": first.app.id})
    others = some_clicks(40, seed=62)
    set_up(second)
    send(second, as_messages(others))
    refused(second, f"was made from topic {first.topics.clicks}", "an app.id of its own")
    assert not published(second)
    doctor = run_streamer("doctor", settings=second)
    assert (doctor.returncode, f"from topic {first.topics.clicks}" in doctor.stdout) == (1, True)
    verify = run_streamer("verify", settings=second)
    assert (verify.returncode, f"from topic {first.topics.clicks}" in verify.stderr) == (1, True)

    own = another_app(second, "own")
    assert run_streamer("topics", "create", settings=own).returncode == 0
    assert Worker(own, "--drain").end() == 0
    assert published(own) == oracle(others)
    assert Worker(first, "--drain").end() == 0
    assert published(first) == oracle(clicks)


def test_a_topic_that_was_created_again_is_refused_however_long_it_is(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings()
    clicks = some_clicks(10, seed=63)
    set_up(settings)
    work_through(settings, clicks)
    closed = published(settings)
    make_anew(settings, settings.topics.clicks)
    others = some_clicks(40, seed=64)
    send(settings, as_messages(others))
    refused(settings, "was deleted and created again", "start over under another app.id")
    assert published(settings) == closed
    doctor = run_streamer("doctor", settings=settings)
    assert (doctor.returncode, "was deleted and created again" in doctor.stdout) == (1, True)

    anew = another_app(settings, "anew")
    assert run_streamer("topics", "create", settings=anew).returncode == 0
    assert Worker(anew, "--drain", "--share-outputs").end() == 0
    assert published(settings) == sorted(closed + oracle(others))


def test_a_topic_that_is_created_again_under_a_running_worker_ends_it(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings()
    set_up(settings)
    worker = Worker(settings)
    worker.wait_for("shards_open")
    make_anew(settings, settings.topics.clicks)
    assert worker.end(60) == 1
    assert "was deleted and created again" in worker.last_words


def test_a_state_from_before_topics_were_named_goes_on_and_names_them(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    clicks = some_clicks(20, seed=65)
    half = len(clicks) // 2
    set_up(settings)
    work_through(settings, clicks[:half])
    last = markers(settings)[0]
    assert last.topics.clicks == settings.topics.clicks
    before = msgspec.structs.replace(last, commit_number=last.commit_number + 1, chunks=0, gone=[])
    unnamed = 1 + Marker.__struct_fields__.index("topics")  # behind the tag
    append_to_changelog(settings, msgspec.msgpack.encode(msgspec.msgpack.decode(encode(before))[:unnamed]))
    assert markers(settings)[0].topics == StateTopics()
    work_through(settings, clicks[half:])
    assert markers(settings)[0].topics == last.topics
    assert Worker(settings, "--drain").end() == 0
    assert published(settings) == oracle(clicks)


def test_another_way_to_read_clicks_is_told_at_the_start_and_told_once(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    set_up(settings)
    send(settings, as_messages(some_clicks(5, seed=67)))
    changed = settings.clicks.model_copy(update={"visitor_from": "user_id", "arrival": "create_time"})
    otherwise = settings.model_copy(update={"clicks": changed})
    logs = []
    for each in (settings, otherwise, otherwise):
        worker = Worker(each, "--drain")
        assert worker.end() == 0, worker.log
        logs.append([line for line in worker.log.splitlines() if "clicks_read_otherwise" in line])
    assert [len(lines) for lines in logs] == [0, 1, 0]
    assert "clicks.arrival was log_append_time, is create_time" in logs[1][0]
    assert "clicks.source was native, is :user_id" in logs[1][0]


def append_to_changelog(settings: Settings, value: bytes, partition: int = 0) -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            await producer.send_and_wait(settings.changelog, value, partition=partition)

    asyncio.run(run())


def test_a_second_app_on_the_same_outputs_is_refused_unless_they_are_shared(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings()
    clicks = some_clicks(10, seed=66)
    set_up(settings)
    assert Worker(settings, "--drain").end() == 0  # nothing is published yet, and the outputs are taken
    second = another_app(settings, "second")
    assert run_streamer("topics", "create", settings=second).returncode == 0
    send(settings, as_messages(clicks))
    refused(second, f"topic {settings.topics.embeddings} is an output of another app", "--share-outputs")
    assert Worker(settings, "--drain").end() == 0
    refused(second, "is an output of another app")
    assert Worker(second, "--drain", "--share-outputs").end() == 0
    assert published(settings) == sorted(2 * oracle(clicks))
    for app in (second, settings):  # asked once
        assert Worker(app, "--drain").end() == 0
    assert published(settings) == sorted(2 * oracle(clicks))


def test_outputs_that_are_changed_to_those_of_another_app_are_refused(fresh_settings: FreshSettings) -> None:
    first, second = fresh_settings(), fresh_settings(names_of_its_own())
    for settings in first, second:
        set_up(settings)
        assert Worker(settings, "--drain").end() == 0
    topics = second.topics.model_copy(update={"visitors": first.topics.visitors})
    refused(second.model_copy(update={"topics": topics}), f"topic {first.topics.visitors} is an output")


def test_from_four_partitions_to_six_nothing_is_lost(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    (port,) = free_ports(1)
    settings = fresh_settings({"worker.metrics_port": port})
    larger = fresh_settings({"topics.partitions": 6})
    clicks = some_clicks(60, seed=67)
    third = len(clicks) // 3
    set_up(settings)
    send(settings, as_messages(clicks[:third]))
    worker = Worker(settings)
    wait_until(lambda: received(settings) == third)

    assert run_streamer("topics", "grow", settings=larger).returncode == 0
    worker.wait_for('"partitions_added"', timeout_s=30)
    assert metric(port, "streamer_unread_partitions") == 2
    status, said = ask(port, "/readyz")
    assert (status, "2 partitions were added" in said) == (503, True)
    send(settings, as_messages(clicks[third : 2 * third]))
    assert worker.process.poll() is None, worker.log
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log

    refusing = Worker(larger)
    assert refusing.end() == 1
    assert "open sessions of the 4 before: run 'streamer worker --drain'" in refusing.last_words
    drain = Worker(larger, "--drain")
    assert drain.end() == 0, drain.log
    assert {marker.partitions for marker in markers(larger).values()} == {4}
    assert sum(marker.counters.open() for marker in markers(larger).values()) == 0

    send(larger, as_messages(clicks[2 * third :]))
    again = Worker(larger, "--drain")
    assert again.end() == 0, again.log
    found = markers(larger)
    assert [found[number].partitions for number in range(6)] == 6 * [6]
    assert received(larger) == len(clicks)
    assert sum(count for *_, count in published(larger)) == len(clicks)
    verify = run_streamer("verify", settings=larger)
    assert verify.returncode == 0, verify.stdout


def test_ties_move_along_from_four_partitions_to_six(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    """Visitors log in, and are linked, before and after; an oracle that knows no partitions says whose."""
    settings = fresh_settings(ON)
    larger = fresh_settings(ON | {"topics.partitions": 6})
    clicks = clicks_with_logins(80, seed=68)
    links = some_links(clicks, random.Random(5), at_most=40)
    half = len(clicks) // 2
    set_up(settings)
    send(settings, as_messages(clicks[:half]))
    say(settings, *links[:20])
    worker = Worker(settings)
    worker.wait_for("shards_open")
    too_early = run_streamer("topics", "grow", settings=larger)
    assert too_early.returncode == 1
    assert "runs" in too_early.stderr or "has read" in too_early.stderr, too_early.stderr
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    drain = Worker(settings, "--drain")
    assert drain.end() == 0, drain.log

    grown = run_streamer("topics", "grow", "--json", settings=larger)
    assert grown.returncode == 0, grown.stdout + grown.stderr
    assert json.loads(grown.stdout)["moved_visitors"] > 0
    again = run_streamer("topics", "grow", "--json", settings=larger)
    assert (json.loads(again.stdout)["grown"], json.loads(again.stdout)["moved_visitors"]) == ([], 0)

    send(larger, as_messages(clicks[half:]))
    say(larger, *links[20:])
    last = Worker(larger, "--drain")
    assert last.end() == 0, last.log
    assert not differing_users(larger)
    verify = run_streamer("verify", settings=larger)
    assert verify.returncode == 0, verify.stdout


def test_partitions_that_somebody_added_wait_until_the_ties_are_moved(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    """Refused, drained with the old number, moved: each message names the next step."""
    settings = fresh_settings(ON)
    larger = fresh_settings(ON | {"topics.partitions": 6})
    clicks = clicks_with_logins(40, seed=69)
    half = len(clicks) // 2
    set_up(settings)
    work_through(settings, clicks[:half])
    for topic in declared_topics(larger):
        on_admin(settings, lambda admin, name=topic.name: admin.create_partitions({name: NewPartitions(6)}))
    refusing = Worker(larger)
    assert refusing.end() == 1
    assert "run 'streamer worker --drain'" in refusing.last_words
    for _ in range(2):  # the second has nothing left to do, and still goes by the old number
        drain = Worker(larger, "--drain")
        assert drain.end() == 0, drain.log
    refusing = Worker(larger)
    assert refusing.end() == 1
    assert "then run 'streamer migrate'" in refusing.last_words
    assert run_streamer("topics", "grow", settings=larger).returncode == 0
    send(larger, as_messages(clicks[half:]))
    last = Worker(larger, "--drain")
    assert last.end() == 0, last.log
    assert not differing_users(larger)


def append_marker_of_a_newer_version(settings: Settings) -> None:
    append_to_changelog(
        settings, msgspec.msgpack.encode(["marker", STATE_VERSION + 1, {"of": "another shape"}])
    )


def tear_the_changelog(settings: Settings) -> None:
    """Delete the first half of its records, which cuts a group in two."""
    last: dict[int, int] = {}
    for record in committed(settings, settings.changelog).records:
        if not isinstance(decode(record.value), Marker):
            last[record.partition] = record.offset
    to_delete = {
        TopicPartition(settings.changelog, number): RecordsToDelete(before_offset=offset + 1)
        for number, offset in last.items()
    }
    on_admin(settings, lambda admin: admin.delete_records(to_delete))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda settings: make_anew(settings, settings.changelog), "has no state of partition"),
        (tear_the_changelog, "is torn"),
        (append_marker_of_a_newer_version, f"its state version is {STATE_VERSION + 1}"),
    ],
)
def test_an_app_that_starts_over_from_a_time_publishes_what_was_open_and_nothing_from_before(
    fresh_settings: FreshSettings,
    run_streamer: RunStreamer,
    damage: Callable[[Settings], None],
    complaint: str,
) -> None:
    settings = fresh_settings()
    published_before, open_then = some_clicks(10, seed=68), some_clicks(10, seed=69)
    set_up(settings)
    send(settings, as_messages(published_before))
    assert Worker(settings, "--drain").end() == 0
    time.sleep(0.1)
    moment_ms = int(time.time() * 1000)  # the broker's clock is this machine's
    work_through(settings, open_then)
    damage(settings)
    refusing = Worker(settings)
    assert refusing.end() == 1
    assert complaint in refusing.last_words
    assert "start over under another app.id" in refusing.last_words

    anew = another_app(settings, "anew")
    assert run_streamer("topics", "create", settings=anew).returncode == 0
    over = Worker(anew, "--share-outputs", "--from", str(moment_ms), "--drain")
    assert over.end() == 0, over.log
    assert set(published(settings)) == {*oracle(published_before), *oracle(open_then)}
    assert Worker(anew, "--drain").end() == 0  # neither option is needed again

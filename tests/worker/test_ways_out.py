"""What a worker refuses at its start, and that each way out it names leads on, from the command line."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streamer.kafka.topic_metadata import topic_metadata
from streamer.settings import Settings
from streamer.worker.changelog import Marker, StateTopics, decode
from tests.conftest import FreshSettings, RunStreamer, names_of_its_own
from tests.worker.live import (
    Worker,
    as_messages,
    committed,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)


def on_admin(settings: Settings, act: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            await act(admin)
        finally:
            await admin.close()

    asyncio.run(run())


def make_anew(settings: Settings, *topics: str) -> None:
    on_admin(settings, lambda admin: admin.delete_topics([*topics]))
    wait_until(lambda: not exists(settings, topics[0]))
    set_up(settings)


def exists(settings: Settings, topic: str) -> bool:
    from streamer.kafka.topic_metadata import MissingTopicError

    try:
        asyncio.run(topic_metadata(settings.kafka, [topic]))
    except MissingTopicError:
        return False
    return True


def work_through(settings: Settings, clicks: list[dict[str, Any]], *arguments: str) -> None:
    """A worker that takes all of these in, and is stopped with its last sessions open."""
    send(settings, as_messages(clicks))
    before = received(settings)
    worker = Worker(settings, *arguments)
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


def received(settings: Settings) -> int:
    return sum(marker.counters.received for marker in markers(settings).values())


def refused(settings: Settings, *saying: str) -> None:
    """Neither a worker nor a drain starts, nothing is written, and the doctor knows."""
    before = markers(settings)
    for arguments in ((), ("--drain",)):
        worker = Worker(settings, *arguments)
        assert worker.end() == 1, worker.log
        for text in saying:
            assert text in worker.last_words
    assert markers(settings) == before


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
    append_to_changelog(settings, msgspec.msgpack.encode(["marker", *msgspec.to_builtins(before)[1:-1]]))
    assert markers(settings)[0].topics == StateTopics()
    work_through(settings, clicks[half:])
    assert markers(settings)[0].topics == last.topics
    assert Worker(settings, "--drain").end() == 0
    assert published(settings) == oracle(clicks)


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

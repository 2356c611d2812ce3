"""The view on a real broker."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from streamer.client import VisitorView
from streamer.errors import StreamerError
from streamer.kafka.client import client_arguments
from streamer.kafka.embedded import EmbeddedKafka
from streamer.kafka.topics import create_topics, declared_topics
from streamer.kafka.trimming import trim
from streamer.settings import Settings, load_settings
from tests.client.records import a_message
from tests.client.updates import SPACES, run
from tests.conftest import FreshSettings


def publish(settings: Settings, *messages: tuple[bytes, bytes | None]) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
        await producer.start()
        for key, value in messages:
            await producer.send(settings.topics.visitors, value, key=key)
        await producer.stop()

    asyncio.run(run())


def wait_for(condition: object, timeout_s: float = 20) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_view_has_what_was_there_and_follows_what_comes(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 2})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    closed_at = int(time.time() * 1000)
    publish(settings, *(a_message(f"v{n}", closed_at) for n in range(50)))
    spaces: list[str] = []
    with VisitorView(settings, on_new_space=spaces.append) as view:
        assert len(view) == 50
        assert view.age_s < 20
        publish(settings, (b"v1", None), a_message("v2", closed_at + 1, embedding_space="next"))
        wait_for(lambda: view.get("v1") is None)
        wait_for(lambda: (state := view.get("v2")) and state.embedding_space == "next")
        assert spaces == ["space", "next"]
        assert view.get("v3") is not None
    with VisitorView(settings, ttl_s=1, now=lambda: time.time() + 60) as view:
        assert view.get("v3") is None


def test_a_view_equals_the_topic_after_many_updates(fresh_settings: FreshSettings) -> None:
    outcome = run(fresh_settings({"topics.partitions": 2}), 12_000, 3_000)
    assert (outcome.following, outcome.begun_after) == (0, 0)
    assert outcome.spaces == list(SPACES)
    assert outcome.visitors - outcome.expired > 2_000
    assert outcome.expired > 100
    assert outcome.aborted > 0


def test_while_no_broker_answers_a_view_tells_what_it_has_and_how_old_it_is(
    tmp_path: Path, own_names: dict[str, str]
) -> None:
    closed_at = int(time.time() * 1000)
    with EmbeddedKafka(tmp_path / "kafka") as broker:
        settings = load_settings(
            overrides={"kafka.bootstrap_servers": broker.bootstrap, **own_names}, environ={}
        )
        asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
        publish(settings, a_message("v", closed_at))
        with VisitorView(settings) as view:
            wait_for(lambda: view.age_s < 1)
            broker.kill()
            wait_for(lambda: view.age_s > 2)
            assert view.get("v") is not None
            broker.start()
            publish(settings, a_message("v", closed_at + 1))
            wait_for(lambda: (state := view.get("v")) and state.closed_at == closed_at + 1)
            wait_for(lambda: view.age_s < 1)


def test_what_was_erased_while_a_view_was_interrupted_is_gone_from_it(fresh_settings: FreshSettings) -> None:
    """Also when compaction has left no tombstone: what isn't in the topic isn't in the view."""
    settings = fresh_settings({"topics.partitions": 1})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    closed_at = int(time.time() * 1000)
    publish(settings, a_message("gone", closed_at), a_message("stays", closed_at))
    with Interrupted(settings) as view:
        assert len(view) == 2
        asyncio.run(trim(client_arguments(settings.kafka), settings.topics.visitors, {0: 1}))
        view.interrupt.set()
        wait_for(lambda: view.get("gone") is None)
        assert view.get("stays") is not None


def test_a_view_tells_how_old_it_is_before_a_broker_had_any_record_for_it(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings({"topics.partitions": 2})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    with Interrupted(settings) as view:
        ages = [view.age_s]
        view.interrupt.set()
        wait_for(lambda: not view.interrupt.is_set())
        wait_for(lambda: ages.append(view.age_s) or ages[-1] < ages[-2])
        assert max(ages) < 20


class Interrupted(VisitorView):
    """Whose reading fails once, when it is told to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.interrupt = threading.Event()

    async def _poll(self, *reading: Any) -> None:
        poll = asyncio.ensure_future(super()._poll(*reading))
        while not poll.done() and not self.interrupt.is_set():
            await asyncio.wait({poll}, timeout=0.1)
        if self.interrupt.is_set():
            self.interrupt.clear()
            poll.cancel()
            raise KafkaConnectionError
        await poll


def test_a_view_of_no_topic_says_so(fresh_settings: FreshSettings) -> None:
    with pytest.raises(StreamerError, match="there is no topic"), VisitorView(fresh_settings()):
        pass

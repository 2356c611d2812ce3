"""What the live page reads, on a real broker."""

from __future__ import annotations

import asyncio
import time

import pytest

from streamer.kafka.topics import create_topics, declared_topics
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.ui.feed import Feed
from streamer.ui.state import Filter, PageState
from tests.client.records import a_record
from tests.conftest import FreshSettings
from tests.sink.growing import grow
from tests.sink.live import publish
from tests.worker.live import wait_until

pytestmark = pytest.mark.kafka


def an_intent(settings: Settings, partition: int, visitor: str) -> tuple[str, int, bytes, bytes]:
    fields = {name: value for name, value in a_record(visitor).items() if not name.startswith("embedding")}
    return settings.topics.intents, partition, visitor.encode(), codec.encode("session_intent", fields)


def test_partitions_that_are_added_are_followed(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    publish(settings, [an_intent(settings, 0, "before the page was opened")])
    state = PageState()

    async def follow() -> None:
        feed = Feed(settings, state, "latest", time.time, asks_every_s=0.2)
        following = asyncio.create_task(feed.follow())
        await asyncio.to_thread(wait_until, lambda: feed.connection.state == "live", 30)
        larger = await asyncio.to_thread(grow, settings, 2)
        both = [an_intent(larger, 1, "there"), an_intent(larger, 0, "here")]
        await asyncio.to_thread(publish, larger, both)
        await asyncio.to_thread(wait_until, lambda: state.sessions_seen == 2, 30)
        following.cancel()
        await asyncio.wait({following})

    asyncio.run(follow())
    assert {session.visitor_id for session in state.newest(Filter(), None)} == {"here", "there"}

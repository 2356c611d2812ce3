"""A topic's id tells it from a later topic of the same name."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamer.kafka.aiokafka_overrides.topics_request import (
    TopicAnswer,
    TopicsRequest,
    TopicsRequest_v8,
    TopicsResponse_v8,
    TopicsResponse_v10,
    answers_of,
)
from streamer.kafka.topic_metadata import MissingTopicError, TopicMetadata, topic_metadata
from streamer.kafka.topics import create_topics, declared_topics
from streamer.settings import Settings
from tests.conftest import FreshSettings


def metadata_of(settings: Settings) -> TopicMetadata:
    topic = settings.topics.clicks
    return asyncio.run(topic_metadata(settings.kafka, [topic]))[topic]


def test_a_topic_made_anew_has_another_id(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 3})
    topics = [topic for topic in declared_topics(settings) if topic.name == settings.topics.clicks]
    asyncio.run(create_topics(settings.kafka, topics))
    first = metadata_of(settings)
    assert first == metadata_of(settings)
    assert (first.partitions, len(first.topic_id)) == (3, 22)

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_topics([settings.topics.clicks])
        await admin.close()

    asyncio.run(delete())
    asyncio.run(create_topics(settings.kafka, topics))
    assert metadata_of(settings).topic_id != first.topic_id


def test_asking_for_a_missing_topic_does_not_create_it(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    for _ in range(2):
        with pytest.raises(MissingTopicError, match=f"there is no topic {settings.topics.clicks} at"):
            metadata_of(settings)


def test_a_broker_without_topic_ids_is_asked_in_the_version_that_it_knows() -> None:
    request = TopicsRequest(["clicks"]).prepare({3: (0, 9)})
    assert request == TopicsRequest_v8(["clicks"], False, False, True)
    response = TopicsResponse_v8(
        0, [], "cluster", 1, [(0, "clicks", False, [(0, 0, 1, 0, [], [], [])], 8)], 0
    )
    read = TopicsResponse_v8.decode(response.encode())
    assert list(answers_of(read)) == [TopicAnswer("clicks", 0, "", 1, 8)]


def test_an_id_of_zeros_is_none() -> None:
    partitions = [(0, 0, 1, 0, [1], [1], [], {})]
    response = TopicsResponse_v10(0, [], "c", 1, [(0, "clicks", bytes(16), False, partitions, 8, {})], 0, {})
    read = TopicsResponse_v10.decode(response.encode())
    assert list(answers_of(read)) == [TopicAnswer("clicks", 0, "", 1, 8)]

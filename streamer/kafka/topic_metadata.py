"""Number of partitions and id of topics. A topic made anew has another id (KIP-516)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from streamer.errors import StreamerError
from streamer.kafka.permissions import WHAT_TO_DO, NotPermittedError
from streamer.kafka.reach import connection
from streamer.settings import KafkaSettings

_NO_ERROR, _UNKNOWN_TOPIC, _NOT_PERMITTED = 0, 3, 29


class MissingTopicError(StreamerError):
    """There is no topic of one of these names."""


class TopicMetadata(NamedTuple):
    """What the cluster says of a topic."""

    name: str
    topic_id: str
    """As Kafka's tools print it; empty where brokers older than 2.8 give none."""
    partitions: int


async def topic_metadata(kafka: KafkaSettings, names: Iterable[str]) -> dict[str, TopicMetadata]:
    """Metadata of every topic; never creates one. Raises what `ask` raises, and BrokerError."""
    async with connection(kafka) as link:
        return await ask(link.send, names)


async def ask(send: Callable[[Any], Awaitable[Any]], names: Iterable[str]) -> dict[str, TopicMetadata]:
    """The same of a client that is there. Raises MissingTopicError, NotPermittedError, KafkaError."""
    from aiokafka.errors import for_code

    from streamer.kafka.aiokafka_overrides.topics_request import TopicsRequest, answers_of

    response = await send(TopicsRequest(list(names)))
    found, missing = {}, []
    for topic in answers_of(response):
        if topic.error_code == _UNKNOWN_TOPIC:
            missing.append(topic.name)
            continue
        if topic.error_code == _NOT_PERMITTED:
            raise NotPermittedError(f"not permitted to describe topic {topic.name}: {WHAT_TO_DO}")
        if topic.error_code != _NO_ERROR:
            raise for_code(topic.error_code)(topic.name)
        found[topic.name] = TopicMetadata(topic.name, topic.topic_id, topic.partitions)
    if missing:
        raise MissingTopicError(
            f"there is no topic {', '.join(missing)} at the brokers: create it with "
            "'streamer topics create', or check the topics settings"
        )
    return found

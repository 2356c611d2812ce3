"""Watching the topics of clicks while a worker runs: partitions that were added, a topic that was made anew.

The client itself would notice added partitions minutes later, and the topic's identity never.
"""

from __future__ import annotations

import asyncio

import structlog
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.reach import connection
from streamer.kafka.topic_metadata import MissingTopicError, TopicMetadata, ask
from streamer.worker.changelog import StateTopics
from streamer.worker.failure import Failure
from streamer.worker.metrics import Metrics
from streamer.worker.refused import MIGRATE, RefusedError
from streamer.worker.shard import ShardConfig
from streamer.worker.start_checks import check_source

LOOK_EVERY_S = 2.0

log = structlog.get_logger(__name__)


class SourceWatch:
    """Asks for the topic's metadata every few seconds, over a connection of its own."""

    def __init__(self, config: ShardConfig, metrics: Metrics, failure: Failure) -> None:
        self.unread_partitions = 0
        """Partitions of the topics that this worker doesn't use: they were added after its start, or to those
        of the state."""
        self.is_missing = False
        """Whether there is no topic of that name."""
        self._config = config
        self._metrics = metrics
        self._failure = failure
        self._topic = config.settings.session_source
        self._added: dict[str, int] = {}
        """Unread partitions by topic."""

    async def follow(self) -> None:
        """Runs until cancelled. Brokers that don't answer are noticed by those who need more of them."""
        while True:
            try:
                async with connection(self._config.settings.kafka) as link:
                    while True:
                        for topic in (await ask(link.send, self._topics())).values():
                            self.see(topic)
                        await asyncio.sleep(LOOK_EVERY_S)
            except RefusedError as error:
                self._failure.report(error)
                return
            except MissingTopicError:
                if not self.is_missing:
                    log.error("clicks_topic_missing", topic=self._topic)
                self.is_missing = True
            except (StreamerError, KafkaError, OSError) as error:
                log.debug("clicks_topic_not_seen", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY_S)

    def see(self, topic: TopicMetadata) -> None:
        """Take in what the cluster says of a topic. Raises RefusedError if it was made anew."""
        self.is_missing = False
        source, app_id = self._config.source, self._config.settings.app.id
        if source.unkeyed is not None and topic.name == source.unkeyed.name:
            used = source.unkeyed.partitions
            state = StateTopics(topic.name, source.unkeyed.topic_id)
        else:
            used, state = source.partitions, source.topics
        check_source(app_id, state, topic.name, topic.topic_id)
        unread = max(topic.partitions - used, 0)
        if unread > self._added.get(topic.name, 0):
            log.error(
                "partitions_added",
                topic=topic.name,
                partitions=topic.partitions,
                used=used,
                todo=MIGRATE,
            )
        self._added[topic.name] = unread
        self.unread_partitions = sum(self._added.values())
        self._metrics.unread_partitions.set(self.unread_partitions)

    def _topics(self) -> list[str]:
        unkeyed = self._config.source.unkeyed
        return [self._topic] if unkeyed is None else [self._topic, unkeyed.name]

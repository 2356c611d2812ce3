"""Watching the clicks topic while a worker runs: partitions that were added, a topic that was made anew.

The client itself would notice added partitions minutes later, and the topic's identity never.
"""

from __future__ import annotations

import asyncio

import structlog
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.reach import connection
from streamer.kafka.topic_metadata import MissingTopicError, TopicMetadata, ask
from streamer.worker.failure import Failure
from streamer.worker.metrics import Metrics
from streamer.worker.refused import RefusedError
from streamer.worker.shard import ShardConfig
from streamer.worker.start_checks import check_source

LOOK_EVERY_S = 2.0

log = structlog.get_logger(__name__)


class SourceWatch:
    """Asks for the topic's metadata every few seconds, over a connection of its own."""

    def __init__(self, config: ShardConfig, metrics: Metrics, failure: Failure) -> None:
        self.unread_partitions = 0
        """Partitions of the topic that this worker doesn't use: they were added to those of the state."""
        self.is_missing = False
        """Whether there is no topic of that name."""
        self._config = config
        self._metrics = metrics
        self._failure = failure
        self._topic = config.settings.topics.clicks

    async def follow(self) -> None:
        """Runs until cancelled. Brokers that don't answer are noticed by those who need more of them."""
        while True:
            try:
                async with connection(self._config.settings.kafka) as link:
                    while True:
                        self.see((await ask(link.send, [self._topic]))[self._topic])
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
        """Take in what the cluster says. Raises RefusedError if the topic was made anew."""
        self.is_missing = False
        check_source(self._config.settings.app.id, self._config.source.topics, topic.name, topic.topic_id)
        used = self._config.source.partitions
        unread = max(topic.partitions - used, 0)
        if unread > self.unread_partitions:
            log.error(
                "partitions_added",
                topic=topic.name,
                partitions=topic.partitions,
                used=used,
                todo="stop all workers, run 'streamer worker --drain' and 'streamer topics grow', then start "
                "them again",
            )
        self.unread_partitions = unread
        self._metrics.unread_partitions.set(unread)

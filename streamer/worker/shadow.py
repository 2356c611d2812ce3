"""A second bundle that scores along, before it goes live: same sessions, topics of its own.

It can't harm what is live: what it can't score is left out and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from streamer.kafka.aiokafka_overrides.packing import Message
from streamer.models.scorer import Scorer
from streamer.pipeline.records import RecordWriter, SessionRecords
from streamer.schemas.click import Session
from streamer.settings import TopicSettings

log = structlog.get_logger(__name__)


class Shadow:
    """Scores with one bundle and says which messages go to which topic.

    `failed` gets the number of sessions that it couldn't score.
    """

    def __init__(
        self, scorer: Scorer, rules_version: str, topics: TopicSettings, failed: Callable[[int], None]
    ) -> None:
        self._scorer = scorer
        self._writer = RecordWriter(scorer.bundle, rules_version)
        self._topics = topics
        self._failed = failed

    async def messages(self, sessions: Sequence[Session]) -> dict[str, list[Message]]:
        """Messages by topic for the sessions that could be scored."""
        try:
            records = await asyncio.to_thread(self._records, sessions)
        except Exception as error:
            log.warning("shadow_failed", sessions=len(sessions), error=type(error).__name__)
            self._failed(len(sessions))
            return {}
        self._failed(len(sessions) - len(records))
        return {
            self._topics.shadow_embeddings: [(record.key, record.embedding, []) for record in records],
            self._topics.shadow_intents: [(record.key, record.intent, []) for record in records],
        }

    def _records(self, sessions: Sequence[Session]) -> list[SessionRecords]:
        return self._writer.write_all(sessions, self._scorer.score(sessions))

"""Commits of shards, and what comes of one that fails: the shard is dropped and taken over again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import Counter

from streamer.worker.failure import Failure
from streamer.worker.open_shards import OpenShard, OpenShards
from streamer.worker.takeover_retries import Retries

log = structlog.get_logger(__name__)


class CommittedShard(OpenShard, Protocol):
    """A shard that makes its work durable."""

    async def commit(self, *, force: bool = False) -> Any:
        """What that did; None if there was nothing to do. Raises KafkaError."""


S = TypeVar("S", bound=CommittedShard)


class Commits(Generic[S]):
    """Of the shards of one stage."""

    def __init__(
        self,
        shards: OpenShards[S],
        retries: Retries,
        failure: Failure,
        failed: Counter,
        note: Callable[[Any], None],
    ) -> None:
        """`failed` counts transactions that failed; `note` is called with what a commit did."""
        self._shards = shards
        self._retries = retries
        self._failure = failure
        self._failed = failed
        self._note = note

    async def commit(self, shard: S, *, force: bool = False) -> None:
        """Raises only what no retry can mend."""
        try:
            committed = await shard.commit(force=force)
        except KafkaError as error:
            self._failed.inc()
            self._failure.report_if_refused(error)
            if self._shards.has(shard):
                log.warning(
                    "commit_failed",
                    topic=self._shards.topic,
                    partition=shard.number,
                    error=type(error).__name__,
                )
                await self._retries.drop_and_retry(shard)
        except Exception:
            if self._shards.has(shard):
                await self._shards.drop(shard.number)
            raise
        else:
            if committed is not None:
                self._note(committed)

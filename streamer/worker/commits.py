"""Commits of shards, and what comes of one that fails: the shard is dropped and taken over again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import Counter

from streamer.worker.failure import Failure
from streamer.worker.open_shards import OpenShard, OpenShards
from streamer.worker.takeover_retries import Retries

MIN_INTERVAL_PER_SHARD_S = 0.008
"""A transaction costs a client about 1 ms: this keeps a stage's commits below an eighth of a core."""
HURRIES_WITHIN = 500
"""Records that are to be read first, at most, where a commit shall not wait: while catching up, transactions
are to hold much."""
CATCHING_UP_S = 1.0
"""How long a commit may wait until it is full while enough records are there to fill it: each costs
milliseconds, and a click that is read late waits for its turn in the source more than for its commit."""

log = structlog.get_logger(__name__)


class CommittedShard(OpenShard, Protocol):
    """A shard that makes its work durable."""

    due: asyncio.Event
    """Set where the next commit should not wait for its time, and when there is none to come."""

    @property
    def hurries(self) -> bool:
        """Whether somebody waits for what a commit would publish: a customer has just logged in."""

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
        to_come: Callable[[], int] = lambda: 0,
    ) -> None:
        """`failed` counts transactions that failed; `note` is called with what a commit did; `to_come`: how
        many records a stage before is still to write into the source."""
        self._shards = shards
        self._retries = retries
        self._failure = failure
        self._failed = failed
        self._note = note
        self._to_come = to_come

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

    def at_most_every(self, interval_s: float) -> float:
        """Seconds between commits of a shard, so that there are not too many of all."""
        return max(interval_s, self._least_s())

    def hurries(self, shard: S) -> bool:
        """Whether somebody waits for a shard's next commit."""
        return shard.hurries and self._shards.lag(shard) <= HURRIES_WITHIN

    async def pause(self, shard: S, began: float, interval_s: float, full_at: int | None = None) -> None:
        """Until a shard's next commit is due, `interval_s` at most; the last began at monotonic `began` s.

        `full_at`: records of a full commit. While there are so many to fill it, it waits for them longer.
        """
        shard.due.clear()
        if not self.hurries(shard):
            await _within(interval_s, shard.due)
            if full_at is not None and self._uncommitted(shard) > full_at:
                await _within(CATCHING_UP_S - interval_s, shard.due)
        if self.hurries(shard):
            await asyncio.sleep(began + self._least_s() - time.monotonic())

    def _uncommitted(self, shard: S) -> int:
        """Records of the source that no commit has yet, those included that are still to be read, or to be
        written for it."""
        to_come = self._to_come() // max(len(self._shards.by_number), 1)
        return shard.position - shard.committed_position + self._shards.lag(shard) + to_come

    def _least_s(self) -> float:
        return MIN_INTERVAL_PER_SHARD_S * len(self._shards.by_number)


async def _within(limit_s: float, event: asyncio.Event) -> None:
    """Until the event, or so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()

"""What a worker does when the group's assignment changes."""

from __future__ import annotations

import asyncio
from typing import Any

from streamer.worker.commits import Commits
from streamer.worker.open_shards import OpenShards
from streamer.worker.takeover_retries import Retries

REVOKED_WITHIN_S = 8.0
"""How long commits may hold up a rebalance. What is not committed then is read again by the next owner."""


class Rebalance:
    """Opens what is newly assigned, drops what has moved on, commits before others take over."""

    def __init__(self, shards: OpenShards[Any], commits: Commits[Any], retries: Retries) -> None:
        self._shards = shards
        self._commits = commits
        self._retries = retries

    async def on_assigned(self) -> None:
        """Drop what is not assigned any more, go on with the rest, open what is new in the background."""
        assigned = self._shards.assigned()
        gone = self._shards.by_number.keys() - assigned
        await asyncio.gather(*(self._shards.drop(number) for number in gone))
        self._shards.joined, self._shards.rebalancing = True, False
        for number in self._shards.by_number:
            self._shards.seek(number)
        self._retries.open(self._shards.missing())

    async def on_revoked(self) -> None:
        """Make durable what was processed: whoever gets a partition goes on from there."""
        self._shards.rebalancing = True
        shards = list(self._shards.by_number.values())
        commits = [asyncio.ensure_future(self._commits.commit(shard)) for shard in shards]
        if commits:
            await asyncio.wait(commits, timeout=REVOKED_WITHIN_S)
        if self._shards.joined and self._shards.consumer is not None:
            await self._shards.consumer.commit()

    async def shut_down(self) -> None:
        """Commit what was processed and let go of every shard. Drains nothing."""
        await self.on_revoked()
        await asyncio.gather(*(self._shards.drop(number) for number in list(self._shards.by_number)))

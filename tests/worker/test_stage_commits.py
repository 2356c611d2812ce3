"""When an identity stage commits what it has taken in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from streamer.settings import Settings
from streamer.worker.stages.stage_table import _Commits

TURNS = 5


@dataclass
class Shard:
    hurries: bool = False
    commits: int = 0
    number: int = 0
    position: int = 0
    committed_position: int = 0
    due: asyncio.Event = field(default_factory=asyncio.Event)

    async def commit(self, *, force: bool = False) -> None:
        del force
        self.commits += 1


class Shards:
    """With one shard; a customer logs in at the turn number `TURNS` of its commits."""

    def __init__(self, shard: Shard) -> None:
        self.by_number = {0: shard}
        self.turns = 0
        self.commits_before = 0
        self.done = asyncio.Event()

    def has(self, _shard: Shard) -> bool:
        return not self.done.is_set()

    def lag(self, _shard: Shard) -> int:
        return 0

    def empty_fetch(self, shard: Shard) -> None:
        self.turns += 1
        if self.turns == TURNS:
            self.commits_before, shard.hurries = shard.commits, True
        if self.turns == 2 * TURNS:
            self.done.set()


async def _retried(_shard: Shard) -> None:
    """No shard is out of range."""


def test_only_a_login_is_committed_before_a_second_is_over() -> None:
    async def run() -> None:
        shards = Shards(shard := Shard())
        retries = SimpleNamespace(retry_if_out_of_range=_retried)
        settings = Settings(commit={"interval_ms": 10})
        config = SimpleNamespace(name="users", settings=settings, commit_at=2000, unhurried_s=1.0)
        metrics = SimpleNamespace(stage_committed=print, failed_commits=None)
        some: Any = (shards, retries, None, metrics, config)
        async with asyncio.timeout(20):
            await _Commits(*some).run(cast(Any, shard))
        assert (shards.commits_before, shard.commits) == (1, TURNS + 2)

    asyncio.run(run())

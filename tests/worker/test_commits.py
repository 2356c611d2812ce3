"""When a shard's next commit is due."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from streamer.worker import commits
from streamer.worker.commits import Commits, CommittedShard
from streamer.worker.open_shards import OpenShards

A_DAY_S = 86_400.0


@dataclass
class Shard:
    """As the pause sees one: with `lag` records of the source to read, and `position` read since a commit."""

    hurries: bool
    lag: int = 0
    position: int = 0
    committed_position: int = 0
    number: int = 0
    due: asyncio.Event = field(default_factory=asyncio.Event)


class Shards:
    def __init__(self, *shards: Shard) -> None:
        self.by_number = dict(enumerate(shards))

    def lag(self, shard: Shard) -> int:
        return shard.lag


FULL_AT = 1000


def pausing(shard: Shard, began: float, interval_s: float = A_DAY_S, to_come: int = 0) -> asyncio.Task[None]:
    shards = cast(OpenShards[CommittedShard], Shards(shard, Shard(hurries=False)))
    some: Any = None
    pausing_commits = Commits(shards, some, some, some, some, lambda: to_come)
    return asyncio.create_task(pausing_commits.pause(cast(CommittedShard, shard), began, interval_s, FULL_AT))


async def is_waiting(pause: asyncio.Task[None]) -> bool:
    """After it had its turn."""
    for _ in range(10):
        await asyncio.sleep(0)
    return not pause.done()


def test_who_has_logged_in_waits_for_no_interval() -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            await pausing(Shard(hurries=True), time.monotonic())

    asyncio.run(run())


@pytest.mark.parametrize("shard", [Shard(hurries=False), Shard(True, commits.HURRIES_WITHIN + 1)])
def test_others_wait_and_so_does_a_login_while_catching_up(shard: Shard) -> None:
    async def run() -> None:
        pause = pausing(shard, 0.0)
        assert await is_waiting(pause)
        shard.due.set()
        async with asyncio.timeout(10):
            await pause

    asyncio.run(run())


def test_commits_in_a_hurry_keep_their_distance() -> None:
    async def run() -> None:
        pause = pausing(Shard(hurries=True), time.monotonic() + A_DAY_S)
        assert await is_waiting(pause)
        pause.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("position", "lag", "to_come"),
    [(0, FULL_AT + 1, 0), (FULL_AT, 1, 0), (0, 1, 2 * FULL_AT)],
    ids=["to read", "read", "to be written for two shards"],
)
def test_a_commit_waits_until_it_is_full_while_there_is_enough_to_fill_it(
    monkeypatch: pytest.MonkeyPatch, position: int, lag: int, to_come: int
) -> None:
    monkeypatch.setattr(commits, "CATCHING_UP_S", A_DAY_S)

    async def run() -> None:
        shard = Shard(hurries=False, lag=lag, position=position)
        pause = pausing(shard, 0.0, interval_s=0, to_come=to_come)
        assert await is_waiting(pause)
        shard.due.set()
        async with asyncio.timeout(10):
            await pause

    asyncio.run(run())


@pytest.mark.parametrize(("lag", "catching_up_s"), [(FULL_AT, A_DAY_S), (FULL_AT + 1, 0.0)])
def test_it_waits_for_little_no_longer_and_for_much_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, lag: int, catching_up_s: float
) -> None:
    monkeypatch.setattr(commits, "CATCHING_UP_S", catching_up_s)

    async def run() -> None:
        async with asyncio.timeout(10):
            await pausing(Shard(hurries=False, lag=lag), 0.0, interval_s=0)

    asyncio.run(run())

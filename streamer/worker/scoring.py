"""Scoring for all shards of a worker, one call at a time; of many sessions, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from streamer.models.scorer import Scored, ScoreError
from streamer.schemas.click import Session

R = TypeVar("R")
Results = list[Scored | ScoreError]

FEW = 16
"""Sessions that are scored, or written, without a thread, in a millisecond or two: where all cores are busy,
a thread waits longer for its turns."""
MOST = 4000
"""Sessions of one call, unless one shard brings more: nobody waits for ever more others."""


class JointScoring:
    """What shards hand in while a call is under way goes into the next one together: a session takes less
    time the more there are, and its result doesn't depend on them."""

    def __init__(self, score: Callable[[Sequence[Session]], Results]) -> None:
        self._score = score
        self._waiting: list[tuple[Sequence[Session], asyncio.Future[Results]]] = []
        self._calls: asyncio.Task[None] | None = None

    async def score(self, sessions: Sequence[Session]) -> Results:
        """One entry per session, in order; raises what the scorer raises."""
        results: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        self._waiting.append((sessions, results))
        if self._calls is None:
            self._calls = asyncio.create_task(self._call())
        return await results

    async def _call(self) -> None:
        while self._waiting:
            together = [self._waiting.pop(0)]
            count = len(together[0][0])
            while self._waiting and count + len(self._waiting[0][0]) <= MOST:
                together.append(self._waiting.pop(0))
                count += len(together[-1][0])
            everything = [session for sessions, _ in together for session in sessions]
            try:
                scored = await beside(self._score, everything)
            except Exception as error:
                for _, results in together:
                    if not results.done():
                        results.set_exception(error)
                continue
            start = 0
            for sessions, results in together:
                end = start + len(sessions)
                if not results.done():  # who handed them in may have been cancelled
                    results.set_result(scored[start:end])
                start = end
        self._calls = None


async def beside(act: Callable[..., R], sessions: Sequence[Session], *more: Any) -> R:
    """`act(sessions, *more)`; in a thread, unless there are few."""
    if len(sessions) <= FEW:
        return act(sessions, *more)
    return await asyncio.to_thread(act, sessions, *more)

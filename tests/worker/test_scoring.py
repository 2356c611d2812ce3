"""Shards that score at the same time share calls, and each gets its own results."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from streamer.worker import scoring
from streamer.worker.scoring import JointScoring


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few sessions there are."""
    monkeypatch.setattr(scoring, "FEW", 0)


class Scorer:
    """Scores a number by its double, when it is let."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.go = threading.Event()

    def score(self, sessions: Any) -> Any:
        self.go.wait(10)
        self.calls.append(list(sessions))
        if "bad" in sessions:
            raise ValueError("it can't")
        return [2 * each for each in sessions]


async def hand_in(joint: JointScoring, *portions: list[Any]) -> list[asyncio.Task[Any]]:
    tasks = []
    for portion in portions:
        tasks.append(asyncio.create_task(joint.score(portion)))
        await asyncio.sleep(0)
    return tasks


def test_what_comes_during_a_call_goes_into_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "MOST", 5)
    scorer = Scorer()

    async def run() -> list[Any]:
        tasks = await hand_in(JointScoring(scorer.score), [1], [2, 3], [4, 5, 6], [7], [8, 9])
        scorer.go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [[2], [4, 6], [8, 10, 12], [14], [16, 18]]
    assert scorer.calls == [[1], [2, 3, 4, 5, 6], [7, 8, 9]]


def test_few_sessions_are_scored_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "FEW", 2)
    threads: list[threading.Thread] = []

    def score(sessions: Any) -> Any:
        threads.append(threading.current_thread())
        return sessions

    async def run() -> None:
        joint = JointScoring(score)
        await joint.score([1, 2])
        await joint.score([1, 2, 3])

    asyncio.run(run())
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_an_error_reaches_those_of_its_call_and_nobody_else() -> None:
    scorer = Scorer()

    async def run() -> list[Any]:
        joint = JointScoring(scorer.score)
        tasks = await hand_in(joint, [1], [2], ["bad"])
        scorer.go.set()
        first = await asyncio.gather(*tasks, return_exceptions=True)
        return [*first, await joint.score([3])]

    results = asyncio.run(run())
    assert results[0] == [2]
    assert [type(result) for result in results[1:3]] == [ValueError, ValueError]
    assert results[3] == [6]


def test_a_shard_that_is_cancelled_takes_nothing_from_others() -> None:
    scorer = Scorer()

    async def run() -> Any:
        tasks = await hand_in(JointScoring(scorer.score), [1], [2], [3])
        tasks[1].cancel()
        scorer.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, cancelled, last = asyncio.run(run())
    assert (first, last) == ([2], [6])
    assert isinstance(cancelled, asyncio.CancelledError)

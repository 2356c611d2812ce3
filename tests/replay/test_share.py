"""A member's share of a replay, without brokers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamer.replay import share
from streamer.replay.job import ENDED, Begun
from streamer.replay.job_topic import JobTopic
from streamer.replay.options import ReplayOptions
from streamer.replay.plan import PLAN_VERSION, Lane, Plan
from streamer.replay.stretch import Stretch
from streamer.settings import load_settings

PLAN = Plan(PLAN_VERSION, "topic:c", "c", "", None, None, "r", (), True, (Lane(0, 0, 1),))


class Told:
    """Values of the group, and the member whose partition 0 is."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    async def refresh(self) -> dict[str, bytes]:
        return self.found

    async def mine(self) -> set[int]:
        return {0}


class CutOff(share.Share):
    """Whose work the client library cancels once."""

    tries = 0
    told: Told

    async def _do(self, number: int) -> None:
        self.tries += 1
        if self.tries == 1:
            raise asyncio.CancelledError
        self.told.found[ENDED] = b""


def test_what_the_client_cancels_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "RETRY_AFTER_S", 0)
    job = JobTopic(load_settings(environ={}), "g", 1)
    options = ReplayOptions(Stretch(), "topic", (), None, 0, 1, "g")
    bench: Any = None
    told: Any = Told()
    cut_off = CutOff(job, options, Begun(PLAN, "t"), bench, lambda _, __: None, 1)
    cut_off.told = told
    asyncio.run(cut_off.work(told, told))
    assert cut_off.tries == 2

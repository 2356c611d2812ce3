"""A member's share of a replay, without brokers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamer.replay import group
from streamer.replay.engine import ReplayTask
from streamer.replay.group_topic import ENDED, GroupTopic
from streamer.replay.options import ReplayOptions
from streamer.replay.plan import PLAN_VERSION, PartitionPlan, ReplayPlan
from streamer.replay.time_range import TimeRange
from streamer.settings import load_settings

PLAN = ReplayPlan(PLAN_VERSION, "topic:c", "c", "", None, None, "r", (), True, (PartitionPlan(0, 0, 1),))


class Found:
    """Values of the group, and the member whose partition 0 is."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    async def refresh(self) -> dict[str, bytes]:
        return self.found

    async def mine(self) -> set[int]:
        return {0}


class CutOff(group.GroupWorker):
    """Whose work the client library cancels once."""

    tries = 0
    values: Found

    async def _do(self, number: int) -> None:
        self.tries += 1
        if self.tries == 1:
            raise asyncio.CancelledError
        self.values.found[ENDED] = b""


def test_what_the_client_cancels_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "RETRY_AFTER_S", 0)
    topic = GroupTopic(load_settings(environ={}), "g", 1)
    options = ReplayOptions(TimeRange(), "topic", (), None, 0, 1, "g")
    scorers: Any = None
    found: Any = Found()
    task = ReplayTask(topic.settings, options, PLAN, scorers)
    cut_off = CutOff(topic, task, "t", lambda _, __: None)
    cut_off.values = found
    asyncio.run(cut_off.work(found, found))
    assert cut_off.tries == 2

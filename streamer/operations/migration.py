"""`streamer migrate`: everything that more partitions take, in order, and on from wherever it was ended.

No journal is kept: how far it came is read off the topics and the state. A drain that is run again closes
what has come since. Ties that are where they belong are not moved again; no worker starts between them and
the new partitions of the clicks, which come last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from streamer.errors import UsageError
from streamer.kafka.topics import find_topic, too_few_partitions
from streamer.operations.growth import (
    Growth,
    GrowthError,
    Step,
    find_placing,
    grow,
    growing_topics,
    members_of,
    partitions_of_ties,
)
from streamer.settings import Settings
from streamer.worker.app import SESSION_TIMEOUT_S
from streamer.worker.options import DrainOptions, WorkerOptions
from streamer.worker.refused import MIGRATE
from streamer.worker.start_checks import check_start

LEAVES_WITHIN_S = SESSION_TIMEOUT_S + 5
"""A member that was killed, or has an `app.instance_id`, is in its group until its session times out."""
_LOOK_EVERY_S = 0.5


class Migration(NamedTuple):
    """What there is to do."""

    partitions: int
    """That every topic by visitor is to have."""
    drains: bool
    """Whether open sessions are to be closed first."""
    topics: dict[str, tuple[int, int]]
    """Partitions now and then, by topic."""
    ties: int | None
    """Partitions that the visitors' ties are in and have to leave; None: they stay."""
    members: list[str]
    """Workers that run, or have just ended: none may."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.drains and not self.topics and self.ties is None


async def look(settings: Settings, *, leave_clicks: bool = False) -> Migration:
    """What there is to do, or left to do; nothing is changed. `leave_clicks`: the clicks get their partitions
    from somebody else.

    Raises UsageError if the clicks have more partitions than wanted; GrowthError, RefusedError, BrokerError,
    TopicError, MissingTopicError, NotPermittedError, KafkaError.
    """
    wanted, topics = settings.topics.partitions, growing_topics(settings)
    if leave_clicks:
        topics = [topic for topic in topics if not topic.is_source]
    fewer = await too_few_partitions(settings.kafka, topics)
    of_ties = await partitions_of_ties(settings) if settings.identity.enabled else None
    clicks = await _partitions_of_clicks(settings)
    if clicks > wanted:
        raise UsageError(
            f"topics.partitions is {wanted} and {settings.session_source} has {clicks}: partitions can't be "
            f"taken away, so expected {clicks} or more"
        )
    members = await members_of(settings)
    if of_ties is not None and of_ties == wanted > clicks:  # nothing has been read since they were moved
        return Migration(wanted, False, fewer, None, members)
    started = await check_start(settings, WorkerOptions(drain=DrainOptions()))
    drains = clicks < wanted or started.partitions < clicks
    moving = of_ties if of_ties is not None and of_ties < wanted else None
    if moving is not None:
        await find_placing(settings, moving)
    return Migration(wanted, drains, fewer, moving, members)


def migrate(
    settings: Settings,
    plan: Migration,
    drain: Callable[[], None],
    on_step: Callable[[Step], None],
    *,
    leave_clicks: bool = False,
) -> Growth:
    """Do it. `drain` returns when everything is published, and raises StreamerError if it isn't.

    Raises what `look` raises, and GrowthError while a worker runs.
    """
    asyncio.run(_wait_until_alone(settings))
    if plan.drains:
        drain()
        on_step(Step.DRAINED)
        asyncio.run(_wait_until_alone(settings))
    return asyncio.run(grow(settings, on_step, leave_clicks=leave_clicks))


async def _partitions_of_clicks(settings: Settings) -> int:
    return (await find_topic(settings.kafka, settings.session_source)).partitions


async def _wait_until_alone(settings: Settings) -> None:
    """Raises GrowthError if a worker is still in its group when it would have been thrown out."""
    deadline = time.monotonic() + LEAVES_WITHIN_S
    while members := await members_of(settings):
        if time.monotonic() > deadline:
            raise GrowthError(f"a worker of {settings.app.id} runs, {members[0]}: {MIGRATE}")
        await asyncio.sleep(_LOOK_EVERY_S)

"""One member's share of a group's replay: its partitions, one after the other, as the group gives them.

A partition is done from the state that was committed last, under a claim that fences whoever had it. What
this member loses to another is dropped at once; what fails in passing is tried again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.replay.job import (
    ENDED,
    STATE,
    Begun,
    Ended,
    Head,
    LaneKeeper,
    Owned,
    Result,
    head_name,
    read_value,
)
from streamer.replay.job_topic import Claim, JobTopic, Values
from streamer.replay.lanes import do_lanes
from streamer.replay.member import Member
from streamer.replay.options import ReplayOptions
from streamer.replay.run import OnProgress, join_files
from streamer.replay.scoring import Bench
from streamer.replay.topic_sink import TopicSinkError
from streamer.replay.topic_source import TopicSourceError

LOOK_EVERY_S = 0.5
RETRY_AFTER_S = 3.0
"""Longer than a heartbeat: by then the group has said whether a partition is still this member's."""
RETRIES = 5
_PASSING = (KafkaError, TopicSinkError, TopicSourceError, OSError)
"""Also what a member meets with that was away while the others ended: its folder of rows is gone."""

log = structlog.get_logger(__name__)


class ShareError(StreamerError):
    """This member can't do what the group has given it."""


class Share:
    def __init__(
        self,
        job: JobTopic,
        options: ReplayOptions,
        begun: Begun,
        bench: Bench,
        on_progress: OnProgress,
        save_every: int,
    ) -> None:
        self.has_joined = False
        """Whether it was this member that joined the rows."""
        self.before = 0
        """Records that the group had done when this member came."""
        self._job = job
        self._options = options
        self._begun = begun
        self._bench = bench
        self._on_progress = on_progress
        self._save_every = save_every
        self._lanes = [lane.number for lane in begun.plan.lanes]
        self._heads: dict[int, Head] = {}
        self._number = -1
        """The partition that is being done, ..."""
        self._task: asyncio.Task[None] | None = None
        self._read = 0
        """... and its records so far."""
        self._failures = 0

    async def work(self, member: Member, values: Values) -> None:
        """Until the job has ended. `values`: of the group as a whole."""
        try:
            self._look(values)
            self.before = sum(head.read for head in self._heads.values())
            while ENDED not in await values.refresh():
                self._look(values)
                await self._go_on(await member.mine())
        finally:
            await self._stop()

    def _look(self, values: Values) -> None:
        for number in self._lanes:
            found = values.found.get(head_name(number))
            if found is not None:
                self._heads[number] = read_value(found, Head, self._job)
        others = sum(head.read for number, head in self._heads.items() if number != self._number)
        self._on_progress(others + self._read, self._begun.plan.records)

    async def _go_on(self, mine: set[int]) -> None:
        if self._task is None:
            number = next((n for n in sorted(mine) if self._is_due(n)), None)
            if number is None:
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                work = self._end() if number == self._job.whole else self._do(number)
                self._number, self._read, self._task = number, 0, asyncio.create_task(_by_itself(work))
        elif self._number not in mine:
            log.info("partition_given_up", partition=self._number)
            await self._stop()
        elif (await asyncio.wait({self._task}, timeout=LOOK_EVERY_S))[0]:
            await self._finish(self._task)

    def _is_due(self, number: int) -> bool:
        if number == self._job.whole:
            return all(self._is_done(lane) for lane in self._lanes)
        return number in self._lanes and not self._is_done(number)

    def _is_done(self, number: int) -> bool:
        return number in self._heads and self._heads[number].result is not None

    async def _finish(self, task: asyncio.Task[None]) -> None:
        self._task, self._number, self._read = None, -1, 0
        try:
            task.result()
            self._failures = 0
        except _PASSING as error:
            self._failures += 1
            log.warning("partition_failed", error=type(error).__name__, failures=self._failures)
            if self._failures > RETRIES:
                raise ShareError(
                    f"gave up after {self._failures} tries ({type(error).__name__}): run it again to go on"
                ) from None
            await asyncio.sleep(RETRY_AFTER_S)

    async def _stop(self) -> None:
        """Drop what is being done; what becomes of it is of no interest any more."""
        task = self._task
        self._task, self._number, self._read = None, -1, 0
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                log.info("partition_dropped", error=type(task.exception()).__name__)

    async def _do(self, number: int) -> None:
        async with Claim(self._job, number) as claim:
            async with Values(self._job, number) as values:
                found = (await values.refresh()).get(STATE)
            owned = read_value(found, Owned, self._job) if found else Owned(0, None)
            keeper = LaneKeeper(self._job, claim, owned)
            self._read = owned.state.snapshot.counters.received if owned.state else 0
            await keeper.take_over()
            log.info("partition_taken", partition=number, claimed=keeper.epoch)
            await do_lanes(
                self._job.settings,
                self._options,
                self._begun.plan,
                self._bench,
                keeper,
                {number: owned.state},
                self._count,
                self._save_every,
                folder=self._options.group_folder,
                mark=f"{keeper.epoch}-",
            )

    def _count(self, records: int) -> None:
        self._read += records

    async def _end(self) -> None:
        results: dict[int, Result] = {
            number: head.result for number, head in self._heads.items() if head.result is not None
        }
        async with Claim(self._job, self._job.whole) as claim:
            rows = await asyncio.to_thread(self._join, results)
            begun = Begun(msgspec.structs.replace(self._begun.plan, erased={}), self._begun.token)
            ended = msgspec.msgpack.encode(Ended(begun, results, rows))
            await claim.put({(self._job.whole, ENDED): ended})
        self.has_joined = True

    def _join(self, results: dict[int, Result]) -> int | None:
        folder = self._options.group_folder
        beside = folder / f"joined-{secrets.token_hex(4)}" if folder is not None else None
        lanes = {number: result.as_lane() for number, result in results.items()}
        return join_files(self._options, self._begun.plan, lanes, folder, beside)


async def _by_itself(work: Coroutine[Any, Any, None]) -> None:
    """A task's work, which the client library can't cancel."""
    with only_ours():
        await work

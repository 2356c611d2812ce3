"""A replay shared by the members of a consumer group, on as many machines as run the same command.

The group says whose each partition is. Its member runs it from the last checkpoint that was committed, under
a claim that fences whoever had it, as a worker takes over a shard; so a member that dies costs what it did
since. Whoever has the partition of the group as a whole joins the rows at the end. Every member ends with the
summary that a replay without a group has. Nothing of the live group is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiokafka.errors import KafkaError

from streamer.bundle_extras import warn_of_missing
from streamer.core.stored_state import encode_state
from streamer.errors import StreamerError, UsageError
from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.output_file import OutputError, cannot_write
from streamer.replay.customers import UserTotals, write_users
from streamer.replay.engine import SAVE_EVERY, ReplayTask, RowFolder, run_partitions
from streamer.replay.group_topic import (
    CHECKPOINT,
    ENDED,
    PLAN,
    ClaimedCheckpoint,
    CommittedValues,
    GroupCheckpointStore,
    GroupError,
    GroupMember,
    GroupPlan,
    GroupResult,
    GroupTopic,
    PartitionClaim,
    PartitionProgress,
    StoredResult,
    progress_name,
)
from streamer.replay.options import ReplayOptions
from streamer.replay.plan import ReplayPlan
from streamer.replay.run import (
    OnProgress,
    ReplaySummary,
    drafted,
    join_files,
    looked_up,
    require_writable,
    ties_of,
)
from streamer.replay.scoring import BundleScorers
from streamer.replay.sinks import TopicSinkError
from streamer.replay.topic_source import TopicSourceError
from streamer.rules_from_settings import session_rules
from streamer.settings import Settings

PLAN_LOOK_S = 0.2
LOOK_EVERY_S = 0.5
RETRY_AFTER_S = 3.0
"""Longer than a heartbeat: by then the group has said whether a partition is still this member's."""
RETRIES = 5
_PASSING = (KafkaError, TopicSinkError, TopicSourceError, OutputError, OSError)
"""What is tried again; a folder of rows is also gone if a member was away while the others ended."""

log = structlog.get_logger(__name__)


class GroupWorkerError(StreamerError):
    """This member can't do what the group has given it."""


def replay_in_group(
    settings: Settings, options: ReplayOptions, on_progress: OnProgress, save_every: int = SAVE_EVERY
) -> ReplaySummary:
    """Run a share of it, until all is done, by this member and by others.

    Raises StreamerError and BundleError for what the user can mend.
    """
    require_writable(options)

    async def run() -> ReplaySummary:
        with only_ours():
            return await _replay(settings, options, on_progress, save_every)

    try:
        return asyncio.run(run())
    except KafkaError as error:
        where = settings.kafka.bootstrap_servers
        raise GroupError(
            f"lost the brokers {where} ({type(error).__name__}): run it again to go on"
        ) from None


async def _replay(
    settings: Settings, options: ReplayOptions, on_progress: OnProgress, save_every: int
) -> ReplaySummary:
    started = time.monotonic()
    assert options.group is not None
    scorers = BundleScorers.load(
        options.bundles,
        session_rules(settings).version,
        memberships=settings.emit.memberships,
        reasons=settings.emit.reasons,
    )
    warn_of_missing(scorers.bundles, settings.clicks)
    topic = await GroupTopic.made(settings, options.group)
    folder = options.group_folder
    worker: GroupWorker | None = None
    async with CommittedValues(topic, topic.whole) as values:
        if ENDED not in await values.refresh():
            async with GroupMember(topic) as member:
                begun = await _agreed(options, topic, scorers, member, values)
                _require_shared(folder, begun.token)
                task = ReplayTask(settings, options, begun.plan, scorers, save_every)
                worker = GroupWorker(topic, task, begun.token, on_progress)
                await worker.work(member, values)
    ended = topic.read(values.found[ENDED], GroupResult)
    await _require_same(options, topic, scorers, ended.begun.plan)
    _require_there(options, topic)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    results = {number: result.restored() for number, result in ended.results.items()}
    received = sum(result.counters.received for result in ended.results.values())
    return ReplaySummary(
        ended.begun.plan,
        scorers,
        results,
        options.out,
        ended.rows,
        ended.users,
        time.monotonic() - started,
        before=received if worker is None else worker.before,
        # A member that comes after the end may be here for the report that the joining one didn't write.
        is_to_report=worker is None or worker.has_joined,
    )


async def _agreed(
    options: ReplayOptions,
    topic: GroupTopic,
    scorers: BundleScorers,
    member: GroupMember,
    values: CommittedValues,
) -> GroupPlan:
    """The plan that the group follows. It is made by whoever has the group as a whole, once."""
    while (begun := _found(await values.refresh(), topic)) is None:
        if topic.whole in await member.mine():
            with contextlib.suppress(KafkaError):  # the group has given it to another meanwhile
                await _propose(options, topic, scorers, values)
        await asyncio.sleep(PLAN_LOOK_S)
    await _require_same(options, topic, scorers, begun.plan)
    return begun


async def _propose(
    options: ReplayOptions, topic: GroupTopic, scorers: BundleScorers, values: CommittedValues
) -> None:
    async with PartitionClaim(topic, topic.whole) as claim:
        if _found(await values.refresh(), topic) is None:
            draft = await drafted(topic.settings, options, scorers)
            begun = GroupPlan(await looked_up(topic.settings, options, draft), secrets.token_hex(8))
            _mark(options.group_folder, begun.token)
            await claim.put({(topic.whole, PLAN): msgspec.msgpack.encode(begun)})


def _found(values: dict[str, bytes], topic: GroupTopic) -> GroupPlan | None:
    if ENDED in values:
        return topic.read(values[ENDED], GroupResult).begun
    return topic.read(values[PLAN], GroupPlan) if PLAN in values else None


async def _require_same(
    options: ReplayOptions, topic: GroupTopic, scorers: BundleScorers, begun: ReplayPlan
) -> None:
    mine = await drafted(topic.settings, options, scorers)
    mine.require_same(begun, f"topic {topic.name} holds a replay", "take another --group")


def _require_there(options: ReplayOptions, topic: GroupTopic) -> None:
    out = options.out_file
    if out is not None and not out.exists():
        raise UsageError(f"--group: {topic.name} has ended, and {out} isn't there: take another --group")


def _mark(folder: Path | None, token: str) -> None:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / token).touch()
        except OSError as error:
            raise cannot_write(folder, error) from None


def _require_shared(folder: Path | None, token: str) -> None:
    if folder is not None and not (folder / token).exists():
        raise UsageError(
            f"{folder} isn't what the group's first member made: --out has to be a file that all members see"
        )


class GroupWorker:
    """One member's share: its partitions, one after the other, as the group gives them.

    What this member loses to another is dropped at once; what fails in passing is tried again.
    """

    def __init__(self, topic: GroupTopic, task: ReplayTask, token: str, on_progress: OnProgress) -> None:
        self.has_joined = False
        """Whether it was this member that joined the rows."""
        self.before = 0
        """Records that the group had done when this member came."""
        self._topic = topic
        self._task = task
        self._token = token
        self._on_progress = on_progress
        self._numbers = [partition.number for partition in task.plan.partitions]
        self._progress: dict[int, PartitionProgress] = {}
        self._number = -1
        """The partition that is being done, ..."""
        self._running: asyncio.Task[None] | None = None
        self._read = 0
        """... and its records so far."""
        self._failures = 0

    async def work(self, member: GroupMember, values: CommittedValues) -> None:
        """Until the replay has ended. `values`: of the group as a whole."""
        try:
            self._look(values)
            self.before = sum(each.read for each in self._progress.values())
            while ENDED not in await values.refresh():
                self._look(values)
                await self._go_on(await member.mine())
        finally:
            await self._stop()

    def _look(self, values: CommittedValues) -> None:
        for number in self._numbers:
            found = values.found.get(progress_name(number))
            if found is not None:
                self._progress[number] = self._topic.read(found, PartitionProgress)
        others = sum(each.read for number, each in self._progress.items() if number != self._number)
        self._on_progress(others + self._read, self._task.plan.records)

    async def _go_on(self, mine: set[int]) -> None:
        if self._running is None:
            number = next((n for n in sorted(mine) if self._is_due(n)), None)
            if number is None:
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                work = self._end() if number == self._topic.whole else self._do(number)
                self._number, self._read, self._running = number, 0, asyncio.create_task(_by_itself(work))
        elif self._number not in mine:
            log.info("partition_given_up", partition=self._number)
            await self._stop()
        elif (await asyncio.wait({self._running}, timeout=LOOK_EVERY_S))[0]:
            await self._finish(self._running)

    def _is_due(self, number: int) -> bool:
        if number == self._topic.whole:
            return all(self._is_done(each) for each in self._numbers)
        return number in self._numbers and not self._is_done(number)

    def _is_done(self, number: int) -> bool:
        return number in self._progress and self._progress[number].result is not None

    async def _finish(self, running: asyncio.Task[None]) -> None:
        self._running, self._number, self._read = None, -1, 0
        try:
            running.result()
            self._failures = 0
        except _PASSING as error:
            self._failures += 1
            log.warning("partition_failed", error=type(error).__name__, failures=self._failures)
            if self._failures > RETRIES:
                reason = error if isinstance(error, StreamerError) else type(error).__name__
                raise GroupWorkerError(
                    f"gave up after {self._failures} tries ({reason}): run it again to go on"
                ) from None
            await asyncio.sleep(RETRY_AFTER_S)

    async def _stop(self) -> None:
        """Drop what is being done; its result is of no interest any more."""
        running = self._running
        self._running, self._number, self._read = None, -1, 0
        if running is not None:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled() and running.exception() is not None:
                log.info("partition_dropped", error=type(running.exception()).__name__)

    async def _do(self, number: int) -> None:
        async with PartitionClaim(self._topic, number) as claim:
            async with CommittedValues(self._topic, number) as values:
                found = (await values.refresh()).get(CHECKPOINT)
            claimed = self._topic.read(found, ClaimedCheckpoint) if found else ClaimedCheckpoint(0, None)
            store = GroupCheckpointStore(self._topic, claim, claimed)
            self._read = claimed.checkpoint.snapshot.counters.received if claimed.checkpoint else 0
            await store.take_over()
            log.info("partition_taken", partition=number, claimed=store.epoch)
            folder = self._task.options.group_folder
            rows = RowFolder(folder, f"{store.epoch}-") if folder is not None else None
            await run_partitions(self._task, {number: claimed.checkpoint}, store, rows, self._count)

    def _count(self, records: int) -> None:
        self._read += records

    async def _end(self) -> None:
        results = {number: each.result for number, each in self._progress.items() if each.result is not None}
        async with PartitionClaim(self._topic, self._topic.whole) as claim:
            rows, users = await asyncio.to_thread(self._join, results)
            begun = GroupPlan(msgspec.structs.replace(self._task.plan, erased={}), self._token)
            ended = encode_state(GroupResult(begun, results, rows, users))
            await claim.put({(self._topic.whole, ENDED): ended})
        self.has_joined = True

    def _join(self, results: dict[int, StoredResult]) -> tuple[int | None, list[UserTotals]]:
        folder = self._task.options.group_folder
        restored = {number: result.restored() for number, result in results.items()}
        rows = join_files(self._task, restored, folder, _new_file(folder))
        if folder is None:
            return rows, []
        return rows, write_users(self._task, restored, ties_of(self._task), folder, _new_file(folder))


def _new_file(folder: Path | None) -> Path | None:
    return None if folder is None else folder / f"joined-{secrets.token_hex(4)}"


async def _by_itself(work: Coroutine[Any, Any, None]) -> None:
    """A task's work, which the client library can't cancel."""
    with only_ours():
        await work

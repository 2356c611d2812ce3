"""Runs a replay from what was asked for to its summary, in one process or in several on this machine."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import msgspec

from streamer.bundle_extras import warn_of_missing
from streamer.errors import StreamerError, UsageError
from streamer.kafka.topic_metadata import topic_metadata
from streamer.models.processor import processor_kind
from streamer.pipeline.counters import ClickCounters, total_of
from streamer.replay.customers import UserTotals, write_users
from streamer.replay.digests import SCHEMA_OF, OutputDigests
from streamer.replay.engine import (
    SAVE_EVERY,
    OnDone,
    PartitionResult,
    ReplayTask,
    RowFolder,
    run_partitions,
)
from streamer.replay.file_source import FileSource
from streamer.replay.identity_inputs import ties_of_file, ties_of_topics
from streamer.replay.journal import Journal
from streamer.replay.options import FROM_TOPIC, ReplayOptions
from streamer.replay.partition_replay import SelectionCounters
from streamer.replay.plan import PLAN_VERSION, PartitionPlan, ReplayPlan
from streamer.replay.scoring import BundleScorers
from streamer.replay.sinks import prepare_topic
from streamer.replay.topic_source import ends_of, erased_visitors, topic_partitions
from streamer.replay.users import IdentityEvent
from streamer.rules_from_settings import session_rules
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.sources import source_version
from streamer.worker.memory import settle_memory

_LOOK_S = 0.2

OnProgress = Callable[[int, int], None]
"""(records done, of how many at most). The first call reports what was done before."""


class SourceChangedError(StreamerError):
    """The file isn't what it was when the replay began."""


class ProcessFailedError(StreamerError):
    """A process of the replay ended with an error; its own message went to the terminal before."""


@dataclass(frozen=True)
class ReplaySummary:
    plan: ReplayPlan
    scorers: BundleScorers
    results: dict[int, PartitionResult]
    out: str | None
    rows: int | None
    """Of the file that was written."""
    users: list[UserTotals]
    """By bundle; none where there are to be no records of customers."""
    seconds: float
    before: int
    """Records that were done when these seconds began."""
    is_to_report: bool = True
    """Whether a report of the file is this process's to write: one member of a group does, for all."""

    @property
    def selection(self) -> SelectionCounters:
        total = SelectionCounters()
        for result in self.results.values():
            total.add(result.selection)
        return total

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        selection = self.selection
        clicks = clicks_by_end(selection, total_of(result.counters for result in self.results.values()))
        done = clicks["read"] - self.before
        return {
            "source": self.plan.source,
            "from": self.plan.from_ms,
            "to": self.plan.to_ms,
            "rules_version": self.plan.rules_version,
            "processor": processor_kind(),
            "clicks": clicks,
            "adds_up": clicks["read"] == sum(clicks.values()) - clicks["read"],
            "sessions": {
                "selected": selection.sessions,
                "outside_the_stretch": selection.outside_sessions,
                "undetermined": selection.undetermined_sessions,
                "unscored": selection.unscored_sessions,
            },
            "closed_by": dict(sorted(selection.closed_by.items())),
            "dead_letters": dict(sorted(selection.dead.items())),
            "bundles": [
                {
                    "model_version": bundle.model_version,
                    "embedding_space": bundle.embedding_space,
                    "digests": self._digests(place).as_dict(),
                    "users": self.users[place].as_dict() if self.users else None,
                }
                for place, bundle in enumerate(self.scorers.bundles)
            ],
            "partitions": [self._partition(number) for number in sorted(self.results)],
            "out": self.out,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "clicks_per_s": round(done / self.seconds) if self.seconds else None,
        }

    def _digests(self, bundle: int) -> OutputDigests:
        total = OutputDigests()
        for result in self.results.values():
            total.merge(result.digests[bundle])
        return total

    def _partition(self, number: int) -> dict[str, Any]:
        partition = self.plan.partition(number)
        result = self.results[number]
        return {
            "partition": number,
            "offsets": [partition.start, partition.end],
            "read": result.counters.received,
            "sessions": result.selection.sessions,
            "undetermined": result.selection.undetermined_sessions,
            "digests": [digests.as_dict() for digests in result.digests],
        }


def replay(
    settings: Settings, options: ReplayOptions, on_progress: OnProgress, save_every: int = SAVE_EVERY
) -> ReplaySummary:
    """Run it, or go on with it where it was stopped.

    Raises StreamerError and BundleError for what the user can mend.
    """
    started = time.monotonic()
    require_writable(options)
    scorers = BundleScorers.load(
        options.bundles,
        session_rules(settings).version,
        memberships=settings.emit.memberships,
        reasons=settings.emit.reasons,
    )
    warn_of_missing(scorers.bundles, settings.clicks)
    with ExitStack() as stack:
        folder = options.journal_folder
        keeps = folder is not None
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamer-replay-")))
        journal = Journal(folder)
        stack.enter_context(journal.exclusively())
        plan = _planned(settings, options, scorers, journal)
        task = ReplayTask(settings, options, plan, scorers, save_every)
        before = journal.received(partition.number for partition in plan.partitions)
        results = _run_all(task, journal, before, on_progress)
        _require_unchanged(task)
        rows = join_files(task, results, folder)
        users = write_users(task, results, ties_of(task), folder)
        if keeps:
            journal.remove()
    seconds = time.monotonic() - started
    return ReplaySummary(plan, scorers, results, options.out, rows, users, seconds, before)


def require_writable(options: ReplayOptions) -> None:
    """What would fail after hours fails at once. Raises UsageError, or ImportError for a missing package."""
    if options.out_file is not None:
        import streamer.replay.rows  # noqa: F401

        for file in filter(None, (options.out_file, options.users_file)):
            if file.is_dir():
                raise UsageError(f"--out {options.out}: {file} is a folder, expected FILE.parquet")


async def drafted(settings: Settings, options: ReplayOptions, scorers: BundleScorers) -> ReplayPlan:
    """The plan without what is looked up: enough to decide whether a plan that was begun is the same."""
    file = None if options.source == FROM_TOPIC else FileSource(Path(options.source), settings.clicks)
    has_arrivals = file is None or file.is_dump
    log_append = settings.clicks.arrival == "log_append_time"
    topic = settings.session_source
    return ReplayPlan(
        version=PLAN_VERSION,
        source=f"topic:{topic}" if file is None else _digest_of(file.path),
        topic=topic if has_arrivals else "file",
        out=options.out or "",
        from_ms=options.time_range.from_ms,
        to_ms=options.time_range.to_ms,
        rules_version=scorers.rules_version,
        model_versions=tuple(scorers.model_versions),
        idle_closing=log_append and has_arrivals,
        early_every_ms=settings.emit.early_every_ms if has_arrivals else 0,
        at_login=settings.emits_at_login and has_arrivals,
        partitions=(),
        topic_id="" if file else (await topic_metadata(settings.kafka, [topic]))[topic].topic_id,
        identity=_identity_of(settings, options),
        links="" if options.links is None else _digest_of(options.links),
        memberships=settings.emit.memberships,
        reasons=settings.emit.reasons,
        clicks=source_version(settings.clicks),
        record_schemas=tuple(
            codec.schema_id(codec.schema(name)) for name in (*SCHEMA_OF.values(), "user_intent")
        ),
    )


async def looked_up(settings: Settings, options: ReplayOptions, draft: ReplayPlan) -> ReplayPlan:
    """The whole plan. Makes the output topic if there is to be one."""
    erased: dict[str, int] = {}
    side_ends: dict[str, dict[int, int]] = {}
    if options.source == FROM_TOPIC:
        partitions = await topic_partitions(settings, options.time_range, session_rules(settings))
        erased = await erased_visitors(settings)
        if draft.identity:
            topics = (settings.topics.links, settings.topics.erasures)
            side_ends = {topic: await ends_of(settings, topic) for topic in topics}
    else:
        partitions = FileSource(Path(options.source), settings.clicks).partitions()
    if options.out_topic is not None:
        ends = await prepare_topic(settings, options.out_topic, partitions)
        partitions = [msgspec.structs.replace(each, out_start=ends[each.number]) for each in partitions]
    return msgspec.structs.replace(draft, partitions=tuple(partitions), erased=erased, side_ends=side_ends)


def ties_of(task: ReplayTask) -> list[IdentityEvent]:
    """Links and erasures as the plan has them. Raises StreamerError."""
    plan, rules = task.plan, task.identity_rules
    if task.options.links is not None:
        return ties_of_file(task.options.links, rules, (each.number for each in plan.partitions))
    return asyncio.run(ties_of_topics(task.settings, rules, plan.side_ends))


def join_files(
    task: ReplayTask, results: Mapping[int, PartitionResult], folder: Path | None, beside: Path | None = None
) -> int | None:
    """The one file of all rows, by partition, each in order of closing; returns how many. `beside`: where
    it is until it is whole."""
    out = task.options.out_file
    if out is None or folder is None:
        return None
    from streamer.replay.rows import join_rows

    parts = (folder / name for each in task.plan.partitions for name in results[each.number].output.files)
    return join_rows(parts, out, beside)


def _planned(
    settings: Settings, options: ReplayOptions, scorers: BundleScorers, journal: Journal
) -> ReplayPlan:
    """The plan that was begun in the journal, or a new one, begun there now."""
    draft = asyncio.run(drafted(settings, options, scorers))
    begun = journal.begun()
    if begun is not None:
        draft.require_same(begun, f"{journal.folder} holds a replay", "delete the folder")
        return begun
    plan = asyncio.run(looked_up(settings, options, draft))
    journal.begin(plan)
    return plan


def _require_unchanged(task: ReplayTask) -> None:
    path = Path(task.options.source)
    if task.options.source != FROM_TOPIC and _digest_of(path) != task.plan.source:
        raise SourceChangedError(
            f"{path}: has changed while it was replayed; run it again when it is complete"
        )


def _identity_of(settings: Settings, options: ReplayOptions) -> str:
    """The rules in a few words; nothing if there are to be no records of customers."""
    if not (settings.identity.enabled and options.users):
        return ""
    return hashlib.sha256(repr(settings.identity).encode()).hexdigest()[:8]


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"file:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _run_all(
    task: ReplayTask, journal: Journal, before: int, on_progress: OnProgress
) -> dict[int, PartitionResult]:
    numbers = [partition.number for partition in task.plan.partitions]
    done = before

    def count(records: int) -> None:
        nonlocal done
        done += records
        on_progress(done, task.plan.records)

    count(0)
    if task.options.processes > 1 and len(numbers) > 1:
        _run_in_processes(task, journal.folder, count)
        # Every partition is done now: this reads the results back, and writes nothing.
        return _run_here(task, journal, numbers, lambda _: None)
    return _run_here(task, journal, numbers, count)


def _run_here(
    task: ReplayTask, journal: Journal, numbers: Iterable[int], on_done: OnDone
) -> dict[int, PartitionResult]:
    """Run these partitions in this process, each from its checkpoint in the journal on."""
    checkpoints = {number: journal.checkpoint(number) for number in numbers}
    for number, checkpoint in checkpoints.items():
        journal.drop_files_but(number, checkpoint.output.names if checkpoint else ())
    # A replay without a folder of its own can't be resumed, but its processes leave results in checkpoints.
    store = journal if task.options.journal_folder or task.options.processes > 1 else None
    return asyncio.run(run_partitions(task, checkpoints, store, RowFolder(journal.folder), on_done))


def _run_in_processes(task: ReplayTask, folder: Path, on_done: OnDone) -> None:
    """Run all partitions of the plan that was begun in the folder; what each process did is in its journal.

    Raises ProcessFailedError after stopping the other processes.
    """
    context = multiprocessing.get_context("spawn")
    shares = [share for share in _shares(task.plan.partitions, task.options.processes) if share]
    done: Any = context.Array("q", len(shares))
    settings, options, save_every = task.settings, task.options, task.save_every
    processes = [
        context.Process(target=_work, args=(settings, options, save_every, folder, share, done, place))
        for place, share in enumerate(shares)
    ]
    reported = 0
    for process in processes:
        process.start()
    try:
        while running := [process.sentinel for process in processes if process.is_alive()]:
            wait(running, _LOOK_S)
            on_done(sum(done) - reported)
            reported = sum(done)
            if any(process.exitcode for process in processes):
                break
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if any(process.exitcode for process in processes):
        raise ProcessFailedError("a process of the replay failed; run the same command to go on")


def _shares(partitions: Sequence[PartitionPlan], count: int) -> list[list[int]]:
    """Partitions by process, the largest first to whichever has least."""
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for partition in sorted(partitions, key=lambda each: -each.size):
        least = loads.index(min(loads))
        shares[least].append(partition.number)
        loads[least] += partition.size + 1
    return shares


def _work(
    settings: Settings,
    options: ReplayOptions,
    save_every: int,
    folder: Path,
    numbers: list[int],
    done: Any,
    place: int,
) -> None:
    """What a process does, and where in `done` it counts records."""
    settle_memory()
    parent = os.getppid()

    def count(records: int) -> None:
        done[place] += records
        if os.getppid() != parent:  # killed, and perhaps about to be run again
            os._exit(1)

    journal = Journal(folder)
    plan = journal.begun()
    assert plan is not None
    try:
        scorers = BundleScorers.load(
            options.bundles, plan.rules_version, memberships=plan.memberships, reasons=plan.reasons
        )
        _run_here(ReplayTask(settings, options, plan, scorers, save_every), journal, numbers, count)
    except StreamerError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        # Its text may hold what a customer typed.
        print(f"Error: unexpected {type(error).__name__} in a process of the replay", file=sys.stderr)
        sys.exit(1)


def clicks_by_end(selection: SelectionCounters, counters: ClickCounters) -> dict[str, int]:
    """Clicks read, and each of the places where they ended; all but `read` add up to `read`. Those in records
    that were revised are in the revisions, too: `revised` takes them off."""
    return {
        "read": counters.received,
        "in_sessions": selection.clicks,
        "revised": -counters.revised_clicks,
        "outside_the_stretch": selection.outside_clicks,
        "undetermined": selection.undetermined_clicks,
        "unscored": selection.unscored_clicks,
        "open_at_the_end": counters.open(),
        "late": counters.late,
        "dead_lettered": counters.dead_lettered,
        "duplicates": counters.duplicates,
        "filtered": counters.filtered,
    }

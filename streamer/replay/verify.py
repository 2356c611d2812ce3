"""Replays what a live worker has read and compares: the same log must have given the same records.

First the sessions, partition by partition, then the customers of all partitions.

What the log doesn't hold is read from live itself and reported: how far a worker has read, and when it was
drained. Partitions are compared one after the other; live's sessions of one are held in memory with their
records, some 1.5 kB each.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiokafka import TopicPartition

from streamer.core.rules import SessionRules
from streamer.errors import StreamerError
from streamer.kafka.client import client_arguments
from streamer.kafka.start import Start, as_time, offsets_at
from streamer.kafka.topic_metadata import topic_metadata
from streamer.models.processor import processor_kind
from streamer.pipeline.counters import ClickCounters
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.comparison import (
    UNDETERMINED,
    ComparisonResult,
    PublishedSession,
    SessionComparison,
    SessionKey,
    State,
    Versions,
)
from streamer.replay.digests import (
    SCHEMA_OF,
    TOLERANCE,
    Kind,
    OutputDigests,
    RecordHashes,
    canonical_body,
    hashes_of,
)
from streamer.replay.partition_replay import PartitionReplay
from streamer.replay.plan import PartitionPlan
from streamer.replay.scoring import BundleOutput, BundleScorers
from streamer.replay.served import ServedComparison, served_lookups
from streamer.replay.sources import replayed
from streamer.replay.time_range import TimeRange, UndeterminedSessions, UndeterminedSpans
from streamer.replay.topic_source import (
    PORTION,
    TopicSource,
    as_live,
    ends_of,
    erased_visitors,
    reading,
    topic_partitions,
)
from streamer.replay.user_comparison import UserComparison
from streamer.replay.verify_users import AT_WORK, INCOMPARABLE, ReplayedUsers
from streamer.rules_from_settings import session_rules
from streamer.schemas import codec
from streamer.schemas.click import Session
from streamer.settings import Settings
from streamer.worker.changelog import ChangelogError
from streamer.worker.log_reader import LogReader
from streamer.worker.start_checks import check_source

SCORE_AT_ONCE = 512
_MARGIN_MS = 600_000
"""Brokers' clocks may differ by less: a record may seem to be published before its session closed."""


@dataclass(frozen=True)
class VerifyTask:
    """What every partition is verified with."""

    settings: Settings
    rules: SessionRules
    scorers: BundleScorers
    asked: TimeRange
    erased: Mapping[str, int]
    count: Callable[[int], None]
    portion: int
    users: ReplayedUsers | None = None
    """None: there are no records of customers."""
    served: ServedComparison | None = None
    """None: what was served isn't compared."""


@dataclass
class PartitionReport:
    number: int
    plan: PartitionPlan
    time_range: TimeRange
    compared: ComparisonResult
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "partition": self.number,
            "offsets": [self.plan.start, self.plan.end],
            "from": self.time_range.from_ms,
            "to": self.time_range.to_ms,
            **self.compared.as_dict(),
            "notes": self.notes,
        }


@dataclass
class VerifyReport:
    partitions: list[PartitionReport]
    rules_version: str
    model_versions: list[str]
    users: UserComparison | None = None
    """None: live makes no records of customers."""
    served: ServedComparison | None = None
    """None: what was served isn't compared."""

    @property
    def result(self) -> State:
        """`equal` only if every partition is, and not if there was something, but nothing to compare."""
        states = [each.compared.state for each in self.partitions]
        if self.left_out and not self.sessions:
            states.append("undetermined")
        if self.users is not None:
            states.append(self.users.state)
        if self.served is not None:
            states.append(self.served.state)
        return (
            "different" if "different" in states else "undetermined" if "undetermined" in states else "equal"
        )

    @property
    def sessions(self) -> int:
        """Compared ones."""
        return sum(each.compared.sessions for each in self.partitions)

    @property
    def left_out(self) -> int:
        return sum(sum(each.compared.undetermined.values()) for each in self.partitions)

    def as_dict(self) -> dict[str, Any]:
        live, replayed = OutputDigests(), OutputDigests()
        for each in self.partitions:
            live.merge(each.compared.live)
            replayed.merge(each.compared.replayed)
        return {
            "result": self.result,
            "rules_version": self.rules_version,
            "processor": processor_kind(),
            "model_versions": self.model_versions,
            "sessions": self.sessions,
            "left_out": self.left_out,
            "live": live.as_dict(),
            "replay": replayed.as_dict(),
            "users": None if self.users is None else self.users.as_dict(),
            "served": None if self.served is None else self.served.as_dict(),
            "partitions": [each.as_dict() for each in self.partitions],
        }


async def verify(
    settings: Settings,
    time_range: TimeRange,
    bundles: Iterable[Path],
    on_progress: Callable[[int, int], None] = lambda _, __: None,
    portion: int = PORTION,
    *,
    with_served: bool = False,
) -> VerifyReport:
    """Compare live with its replay in the time range. Raises StreamerError and BundleError.

    Without `time_range.to_ms` everything is compared that live had committed when this began. `with_served`:
    what the look-up service has answered, too.
    """
    rules = session_rules(settings)
    scorers = BundleScorers.load(
        bundles, rules.version, memberships=settings.emit.memberships, reasons=settings.emit.reasons
    )
    plans = await topic_partitions(settings, time_range, rules)
    before = await live_states(settings, rules.version, [plan.number for plan in plans])
    total = sum(min(plan.end, s.position) - plan.start for plan in plans if (s := before.get(plan.number)))
    done = 0

    def count(records: int) -> None:
        nonlocal done
        done += records
        on_progress(done, total)

    count(0)
    served = await served_lookups(settings, time_range) if with_served else None
    erased = await erased_visitors(settings)
    with tempfile.TemporaryDirectory(prefix="streamer-verify-") as folder:
        users = None
        if settings.identity.enabled and await ends_of(settings, settings.topics.users):
            users = ReplayedUsers(settings, time_range, erased, Path(folder), len(plans))
            await users.begin()
        task = VerifyTask(settings, rules, scorers, time_range, erased, count, portion, users, served)
        reports = [await _partition(task, plan, before.get(plan.number)) for plan in plans]
        compared = None if users is None else await _compare_users(task, users, reports, before)
    return VerifyReport(reports, rules.version, scorers.model_versions, compared, served)


async def _compare_users(
    task: VerifyTask,
    users: ReplayedUsers,
    reports: Sequence[PartitionReport],
    before: Mapping[int, LivePosition],
) -> UserComparison:
    if any(report.compared.blockers for report in reports):
        users.because = INCOMPARABLE
    after = await live_states(task.settings, task.rules.version, [report.number for report in reports])
    if {n: each.commit_number for n, each in after.items()} != {
        n: each.commit_number for n, each in before.items()
    }:
        users.because = AT_WORK
    open_ids = [session_id for each in after.values() for session_id in each.open_ids]
    return await users.compare(open_ids, task.served)


def _unread(plan: PartitionPlan, time_range: TimeRange) -> PartitionReport:
    compared = ComparisonResult()
    if plan.size:
        compared.blockers.append("no worker has read this partition: there is nothing to compare with")
    return PartitionReport(plan.number, plan, time_range, compared)


async def _partition(task: VerifyTask, plan: PartitionPlan, state: LivePosition | None) -> PartitionReport:
    asked = task.asked
    if state is None:
        return _unread(plan, asked)
    live = await published(task.settings, plan.number, asked.read_from_ms(task.rules))
    after = (await live_states(task.settings, task.rules.version, [plan.number])).get(plan.number)
    # A worker at work may close more at this very moment of its clock: what it closed before is certain.
    is_quiet = after is not None and after.commit_number == state.commit_number
    known_until_ms = state.clock_ms + is_quiet
    to_ms = known_until_ms if asked.to_ms is None else min(asked.to_ms, known_until_ms)
    if asked.from_ms is not None and to_ms <= asked.from_ms:
        return _before_time_range(plan, asked, state)
    drained = {session.closed_at for session in live.values() if session.close_reason == "drain"}
    drains = tuple(sorted(at for at in drained if at <= to_ms))
    plan = msgspec.structs.replace(plan, end=min(plan.end, state.position), drains_ms=drains)
    time_range = TimeRange(asked.from_ms, to_ms)
    spans = UndeterminedSpans(task.rules.gap_ms)
    comparison = SessionComparison(
        live,
        time_range,
        UndeterminedSessions(plan.unread_until_ms, task.rules),
        spans,
        Versions(task.rules.version, task.scorers.model_versions),
        state.open_ids,
        task.erased,
    )
    if task.users is not None:
        task.users.leave_out(plan.unread_until_ms)
        for session in live.values():
            if not _is_replayed(session, task):
                task.users.leave_out(session.closed_at)
    replay = await _replayed(task, plan, time_range, state.clock_ms, comparison, spans)
    report = PartitionReport(plan.number, plan, time_range, comparison.finish())
    explain(report, task, state, replay)
    return report


def _before_time_range(plan: PartitionPlan, asked: TimeRange, state: LivePosition) -> PartitionReport:
    """Live's clock stands before the time range: fine if nothing has arrived since and nothing is open."""
    report = PartitionReport(plan.number, plan, asked, ComparisonResult())
    if plan.end > state.position or state.open_ids:
        report.compared.blockers.append(
            f"live has read only up to {as_time(state.clock_ms)}, before the time range"
        )
    else:
        report.notes.append(f"nothing has arrived since {as_time(state.clock_ms)}, and nothing was open then")
    return report


async def _replayed(
    task: VerifyTask,
    plan: PartitionPlan,
    time_range: TimeRange,
    clock_ms: int,
    comparison: SessionComparison,
    spans: UndeterminedSpans,
) -> PartitionReplay:
    settings = task.settings
    source = TopicSource(settings, {plan.number: plan}, task.portion)
    config = as_live(settings, task.rules, time_range)

    def leave_out(session: Session) -> None:
        spans.add(session)
        if task.users is not None:
            task.users.leave_out(session.closed_at)

    replay = PartitionReplay(config, plan, source.decode, whole=source.whole, on_undetermined=leave_out)
    waiting: list[Session] = []
    async for each in source.portions({plan.number: plan.start}):
        await replayed(source, replay, each.records, waiting)
        if each.is_last:
            waiting += replay.idle(clock_ms if time_range.to_ms is None else min(time_range.to_ms, clock_ms))
        task.count(len(each.records))
        if len(waiting) >= SCORE_AT_ONCE or each.is_last:
            await _compare(task, plan.number, waiting, comparison)
            waiting.clear()
    return replay


def _is_replayed(session: PublishedSession, task: VerifyTask) -> bool:
    """Whether the rules and a bundle at hand may make it again."""
    scorers = task.scorers
    return session.rules_version == task.rules.version and session.model_version in scorers.model_versions


async def _compare(
    task: VerifyTask, number: int, sessions: Sequence[Session], comparison: SessionComparison
) -> None:
    scorers = task.scorers
    for scored in scorers.score(sessions):
        outputs = {
            model: output
            for model, output in zip(scorers.model_versions, scored.outputs, strict=True)
            if output is not None
        }
        if not outputs:
            continue
        if task.served is not None:
            for output in outputs.values():
                task.served.replayed("visitors", scored.session.visitor_id, output.records.visitor)
        session, lives = scored.session, comparison.model_version(scored.session)
        comparison.add(session, {model: _hashes(output) for model, output in outputs.items()})
        if task.users is not None:
            await task.users.add(number, session, outputs.get(lives or "", next(iter(outputs.values()))))


def _hashes(output: BundleOutput) -> dict[Kind, RecordHashes]:
    return {
        "embeddings": hashes_of("embeddings", codec.body(output.records.embedding)),
        "intents": hashes_of("intents", codec.body(output.records.intent)),
    }


def explain(report: PartitionReport, task: VerifyTask, state: LivePosition, replay: PartitionReplay) -> None:
    """Notes on what the log doesn't show, and blockers where it makes differences meaningless."""
    compared, counters, asked = report.compared, state.counters, task.asked
    compared.leave_out(f"replayed, {UNDETERMINED}", replay.selection.undetermined_sessions)
    compared.leave_out("not scored by the replay", replay.selection.unscored_sessions)
    report.notes += _notes(report.plan, asked, state, replay.counters.received)
    if state.processor not in ("", processor_kind()):
        report.notes.append(
            f"live computes on {state.processor}, this replay on {processor_kind()}: the model's numbers may"
            f" differ, by at most {TOLERANCE}"
        )
    if compared.rounded:
        report.notes.append(
            f"{len(compared.rounded)} sessions are equal but for the model's numbers, which differ by at most"
            f" {TOLERANCE}, as on another kind of processor"
        )
    report.notes += [
        f"{count} records differ in nothing but what {setting} adds: live published them with another setting"
        for setting, count in compared.by_setting.items()
    ]
    if not compared.counts:
        return
    if state.rules_version != task.rules.version:
        compared.blockers.append(
            f"live has rules {state.rules_version}, the settings here give {task.rules.version}: verify with"
            " the settings of the worker"
        )
    if counters.clock_behind and counters.behind_at >= (asked.from_ms or 0):
        compared.blockers.append(
            f"{counters.clock_behind} records arrived behind a moment that live had taken for idle, the"
            f" last at {as_time(counters.behind_at)}: what it closed then isn't in the log"
        )


def _notes(plan: PartitionPlan, asked: TimeRange, state: LivePosition, received: int) -> list[str]:
    notes = []
    if asked.to_ms is not None and asked.to_ms > state.clock_ms:
        notes.append(f"live has read only up to {as_time(state.clock_ms)}: compared up to there")
    if plan.drains_ms:
        moments = ", ".join(map(as_time, plan.drains_ms[:5]))
        notes.append(f"live was drained at {moments}: replayed alike, for the log doesn't say so")
    if state.counters.lost:
        notes.append(f"{state.counters.lost} clicks were deleted from the topic before live read them")
    if received > state.counters.received and plan.start == 0:
        notes.append(
            f"live has read {state.counters.received} records, the log holds {received} up to its position:"
            " it began later than the log. Give --from a time after it began"
        )
    return notes


class LiveError(StreamerError):
    """What live has published can't be read."""


class LivePosition(NamedTuple):
    """Where the worker is in one partition, as of its last commit."""

    commit_number: int
    position: int
    """Offset of the next click it will read."""
    clock_ms: int
    counters: ClickCounters
    rules_version: str
    open_ids: frozenset[str]
    """Sessions that are open, or closed and still to be published."""
    processor: str = ""
    """Kind of processor of the last commit; empty: a worker that doesn't record it."""


async def live_states(settings: Settings, rules_version: str, numbers: list[int]) -> dict[int, LivePosition]:
    """By partition; those that no worker has read are left out. Raises LiveError, and RefusedError if the
    worker has read another topic."""
    clicks = (await topic_metadata(settings.kafka, [settings.session_source]))[settings.session_source]
    async with LogReader(client_arguments(settings.kafka)) as reader:
        try:
            found = await reader.recover(settings.changelog, numbers, lambda: None)
        except ChangelogError as error:
            raise LiveError(f"can't find out how far live is from {error}") from None
    for recovery in found.values():
        if recovery.marker is not None:
            check_source(settings.app.id, recovery.marker.topics, clicks.name, clicks.topic_id)
    return {
        number: LivePosition(
            marker.commit_number,
            marker.position,
            marker.clock.now,
            marker.counters,
            marker.rules_version,
            frozenset(window.session_id(rules_version) for window in recovery.sessions if window.is_open),
            marker.processor,
        )
        for number, recovery in found.items()
        if (marker := recovery.marker) is not None
    }


async def published(
    settings: Settings, number: int, from_ms: int | None
) -> dict[SessionKey, PublishedSession]:
    """Final sessions of a partition, in order of publishing: those published after `from_ms`, and some
    before. Committed records only."""
    found: dict[SessionKey, PublishedSession] = {}
    for kind in SCHEMA_OF:
        async for message in _messages(settings, getattr(settings.topics, kind), number, from_ms):
            _note(found, kind, message)
    return found


def _note(found: dict[SessionKey, PublishedSession], kind: Kind, message: bytes) -> None:
    name, record = codec.decode(message)
    if name != SCHEMA_OF[kind] or not record["is_final"]:
        return
    key = record["session_id"], record["closed_at"]
    if key not in found:
        found[key] = PublishedSession(
            **{f: record[f] for f in PublishedSession.__dataclass_fields__ if f != "hashes"}
        )
    found[key].hashes[kind].append(hashes_of(kind, canonical_body(kind, message)))


async def _messages(settings: Settings, topic: str, number: int, from_ms: int | None) -> AsyncIterator[bytes]:
    tp, lookup = TopicPartition(topic, number), SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
    async with reading(settings, topic) as consumer:
        start: Start = "earliest" if from_ms is None else max(from_ms - _MARGIN_MS, 0)
        at: int = (await offsets_at(consumer, [tp], start))[tp]
        end: int = (await consumer.end_offsets([tp]))[tp]
        consumer.assign([tp])
        consumer.seek(tp, at)
        while await consumer.position(tp) < end:
            fetched: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=200)
            for records in fetched.values():
                for record in records:
                    if record.value is not None:
                        yield await lookup.own(record.value)

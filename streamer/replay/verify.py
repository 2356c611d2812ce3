"""Replays what a live worker has read and compares: the same log must have given the same records.

What the log can't tell is taken from live itself and said in the report: how far a worker has read, and
when it was drained. Partitions are done one after the other; live's sessions of one are held in memory as
hashes, some 500 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from schemas import codec
from schemas.click import Session
from streamer.core.rules import SessionRules
from streamer.replay.comparison import TORN, Compared, Comparison, State
from streamer.replay.digests import Kind, OutputDigests, Print, print_of
from streamer.replay.live import LiveState, live_states, published
from streamer.replay.partition_replay import PartitionReplay
from streamer.replay.plan import Lane
from streamer.replay.scoring import Bench, Result
from streamer.replay.stretch import Chains, Stretch, TornSpans
from streamer.replay.topic_source import PORTION, TopicSource, erased_visitors, topic_lanes
from streamer.session_rules import session_rules
from streamer.settings import Settings

SCORE_AT_ONCE = 512


@dataclass(frozen=True)
class Job:
    """What every partition is verified with."""

    settings: Settings
    rules: SessionRules
    bench: Bench
    asked: Stretch
    erased: Mapping[str, int]
    count: Callable[[int], None]
    portion: int


@dataclass
class PartitionReport:
    number: int
    lane: Lane
    stretch: Stretch
    compared: Compared
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "partition": self.number,
            "offsets": [self.lane.start, self.lane.end],
            "from": self.stretch.from_ms,
            "to": self.stretch.to_ms,
            **self.compared.as_dict(),
            "notes": self.notes,
        }


@dataclass
class Report:
    partitions: list[PartitionReport]
    rules_version: str
    model_versions: list[str]

    @property
    def result(self) -> State:
        """`equal` only if every partition is."""
        states = [each.compared.state for each in self.partitions]
        return (
            "different" if "different" in states else "undetermined" if "undetermined" in states else "equal"
        )

    def as_dict(self) -> dict[str, Any]:
        live, replayed = OutputDigests(), OutputDigests()
        for each in self.partitions:
            live.merge(each.compared.live)
            replayed.merge(each.compared.replayed)
        return {
            "result": self.result,
            "rules_version": self.rules_version,
            "model_versions": self.model_versions,
            "sessions": sum(each.compared.sessions for each in self.partitions),
            "live": live.as_dict(),
            "replay": replayed.as_dict(),
            "partitions": [each.as_dict() for each in self.partitions],
        }


async def verify(
    settings: Settings,
    stretch: Stretch,
    bundles: Iterable[Path],
    on_progress: Callable[[int, int], None] = lambda _, __: None,
    portion: int = PORTION,
) -> Report:
    """Compare live with its replay in the stretch. Raises StreamerError and BundleError.

    Without `stretch.to_ms` everything is compared that live had committed when this began.
    """
    rules = session_rules(settings)
    bench = Bench.load(bundles, rules.version)
    lanes = await topic_lanes(settings, stretch, rules)
    before = await live_states(settings, rules.version, [lane.number for lane in lanes])
    total = sum(min(lane.end, s.position) - lane.start for lane in lanes if (s := before.get(lane.number)))
    done = 0

    def count(records: int) -> None:
        nonlocal done
        done += records
        on_progress(done, total)

    count(0)
    job = Job(settings, rules, bench, stretch, await erased_visitors(settings), count, portion)
    reports = [await _partition(job, lane, before.get(lane.number)) for lane in lanes]
    return Report(reports, rules.version, bench.model_versions)


def _unread(lane: Lane, stretch: Stretch) -> PartitionReport:
    compared = Compared()
    if lane.size:
        compared.blockers.append("no worker has read this partition: there is nothing to compare with")
    return PartitionReport(lane.number, lane, stretch, compared)


async def _partition(job: Job, lane: Lane, state: LiveState | None) -> PartitionReport:
    asked = job.asked
    if state is None:
        return _unread(lane, asked)
    live = await published(job.settings, lane.number, asked.read_from_ms(job.rules))
    after = (await live_states(job.settings, job.rules.version, [lane.number])).get(lane.number)
    # A worker at work may close more at this very moment of its clock: what it closed before is certain.
    is_quiet = after is not None and after.commit_number == state.commit_number
    known_until_ms = state.clock_ms + is_quiet
    to_ms = known_until_ms if asked.to_ms is None else min(asked.to_ms, known_until_ms)
    if asked.from_ms is not None and to_ms <= asked.from_ms:
        return _before_the_stretch(lane, asked, state)
    drained = {session.closed_at for session in live.values() if session.close_reason == "drain"}
    drains = tuple(sorted(at for at in drained if at <= to_ms))
    lane = msgspec.structs.replace(lane, end=min(lane.end, state.position), drains_ms=drains)
    stretch = Stretch(asked.from_ms, to_ms)
    torn = TornSpans(job.rules.gap_ms)
    comparison = Comparison(
        live,
        stretch,
        Chains(lane.unread_until_ms, job.rules),
        torn,
        job.rules.version,
        job.bench.model_versions,
        state.open_ids,
        job.erased,
    )
    replay = await _replayed(job, lane, stretch, state.clock_ms, comparison, torn)
    report = PartitionReport(lane.number, lane, stretch, comparison.finish())
    explain(report, job, state, replay)
    return report


def _before_the_stretch(lane: Lane, asked: Stretch, state: LiveState) -> PartitionReport:
    """Live's clock stands before the stretch: fine if nothing has arrived since and nothing is open."""
    report = PartitionReport(lane.number, lane, asked, Compared())
    if lane.end > state.position or state.open_ids:
        report.compared.blockers.append(f"live has read only up to {state.clock_ms}, before the stretch")
    else:
        report.notes.append(f"nothing has arrived since {state.clock_ms}, and nothing was open then")
    return report


async def _replayed(
    job: Job, lane: Lane, stretch: Stretch, clock_ms: int, comparison: Comparison, torn: TornSpans
) -> PartitionReplay:
    settings = job.settings
    source = TopicSource(settings, {lane.number: lane}, job.portion)
    replay = PartitionReplay(
        settings.topics.clicks,
        lane.number,
        stretch,
        job.rules,
        source.decode,
        start=lane.start,
        unread_until_ms=lane.unread_until_ms,
        idle_closing=settings.clicks.arrival == "log_append_time",
        early_every_ms=settings.emit.early_every_ms,
        drains_ms=lane.drains_ms,
        on_torn=torn.add,
    )
    waiting: list[Session] = []
    async for each in source.portions({lane.number: lane.start}):
        waiting += replay.process(each.records)
        if each.is_last:
            waiting += replay.silence(clock_ms if stretch.to_ms is None else min(stretch.to_ms, clock_ms))
        job.count(len(each.records))
        if len(waiting) >= SCORE_AT_ONCE or each.is_last:
            _compare(job.bench, waiting, comparison)
            waiting.clear()
    return replay


def _compare(bench: Bench, sessions: Sequence[Session], comparison: Comparison) -> None:
    for scored in bench.score(sessions):
        prints = {
            model: _prints(result)
            for model, result in zip(bench.model_versions, scored.results, strict=True)
            if result is not None
        }
        if prints:
            comparison.add(scored.session, prints)


def _prints(result: Result) -> dict[Kind, Print]:
    return {
        "embeddings": print_of("embeddings", codec.body(result.records.embedding)),
        "intents": print_of("intents", codec.body(result.records.intent)),
    }


def explain(report: PartitionReport, job: Job, state: LiveState, replay: PartitionReplay) -> None:
    """Notes on what the log didn't tell, and blockers where it makes differences meaningless."""
    compared, counters, asked = report.compared, state.counters, job.asked
    compared.leave_out(f"replayed, {TORN}", replay.tally.torn_sessions)
    compared.leave_out("not scored by the replay", replay.tally.unscored_sessions)
    report.notes += _notes(report.lane, asked, state, replay.counters.received)
    if not compared.counts:
        return
    if state.rules_version != job.rules.version:
        compared.blockers.append(
            f"live has rules {state.rules_version}, the settings here give {job.rules.version}: verify with"
            " the settings of the worker"
        )
    if counters.clock_behind and counters.behind_at >= (asked.from_ms or 0):
        compared.blockers.append(
            f"{counters.clock_behind} records arrived behind a moment that live had taken for silent, the"
            f" last at {counters.behind_at}: what it closed then can't be told from the log"
        )


def _notes(lane: Lane, asked: Stretch, state: LiveState, received: int) -> list[str]:
    notes = []
    if asked.to_ms is not None and asked.to_ms > state.clock_ms:
        notes.append(f"live has read only up to {state.clock_ms}: compared up to there")
    if lane.drains_ms:
        told = ", ".join(map(str, lane.drains_ms[:5]))
        notes.append(f"live was drained at {told}: replayed alike, for the log doesn't say so")
    if state.counters.lost:
        notes.append(f"{state.counters.lost} clicks were deleted from the topic before live read them")
    if received > state.counters.received and lane.start == 0:
        notes.append(
            f"live has read {state.counters.received} records, the log holds {received} up to its position:"
            " it began later than the log. Give --from a time after it began"
        )
    return notes

"""A model of what a load takes, from measured figures alone: `docs/capacity.md` has the formulae in words.

Everything is proportional to clicks, sessions, open sessions or commits. What is decided by hand is in
`Choices`; every other number comes from the result of `make bench`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from streamer.worker.commits import MIN_INTERVAL_PER_SHARD_S

GAP_AND_BOUND_S = 1800 + 120
DAY_S = 86_400


@dataclass(frozen=True)
class Load:
    """What comes in at its peak."""

    clicks_per_s: float
    clicks_per_session: float = 8
    active_s: float = 280
    """From a session's first click to its last."""
    visitors: float | None = None
    """With a latest record each, in the visitors topic; None: not asked."""

    @classmethod
    def of_visitors(cls, visitors: float, sessions_a_day: float = 2, peak: float = 3) -> Load:
        """Of so many a day, in its busiest hours, which have `peak` times the mean."""
        return cls(visitors * sessions_a_day * 8 / DAY_S * peak, visitors=visitors)


@dataclass(frozen=True)
class Choices:
    """What an operator decides."""

    busy: float = 0.6
    """Share of a core that a process may use: the rest is for catching up."""
    open_per_process: float = 2_000_000
    """Bounded by memory, and by how long a take-over may last."""
    interval_s: float = 1.0
    shards_per_process: float = 4
    replication: float = 3


@dataclass(frozen=True)
class Unit:
    """What one of each costs; bytes and seconds."""

    click_cpu_s: float
    commit_cpu_s: float | None
    """None, and so the next but one, where the machine was too busy to measure it."""
    broker_click_cpu_s: float
    broker_commit_cpu_s: float | None
    process_mb: float
    """Resident memory of a worker without sessions to speak of."""
    session_bytes: float
    """What an open session adds to that."""
    recovery_s: float
    """Of a take-over, for an open session: it goes by the changelog's bytes."""
    input_bytes: float
    changelog_bytes: float
    image_bytes: float
    """What the changelog holds for an open session."""
    output_bytes: float


def unit(found: Mapping[str, Any]) -> Unit:
    """From the result of the benchmarks, as `--out` keeps it. Raises KeyError if a part is missing."""
    model, state, partitions = found["throughput"]["with_model"], found["live_state"], found["partitions"]
    steady = partitions["steady"]
    fits = partitions["ms_per_commit"] is not None
    compared = partitions["kept_up"] if fits else [*map(int, steady)]
    few, many = steady[str(min(compared))], steady[str(max(compared))]
    changelog = found["changelog"]
    take_over_s_a_byte = (state["take_over_s"] - few["take_over_s"]) / (state["changelog_mb"] * 2**20)
    count, commits = state["open_sessions"], many["commits_per_s"] - few["commits_per_s"]
    return Unit(
        click_cpu_s=model["cpu_us"] / 1e6,
        commit_cpu_s=partitions["ms_per_commit"] / 1e3 if fits else None,
        broker_click_cpu_s=model["broker_us"] / 1e6,
        broker_commit_cpu_s=(many["broker_cpu"] - few["broker_cpu"]) / commits if fits else None,
        process_mb=few["rss_mb"],
        session_bytes=(state["rss_mb"] - few["rss_mb"]) * 2**20 / count,
        recovery_s=take_over_s_a_byte * changelog["bytes_per_session"],
        input_bytes=state["input_bytes"],
        changelog_bytes=changelog["bytes_per_click"],
        image_bytes=changelog["bytes_per_session"],
        output_bytes=found["outputs"]["bytes_per_session"],
    )


@dataclass(frozen=True)
class Plan:
    """What a load takes. Traffic is before replication."""

    sessions_per_s: float
    open_sessions: float
    processes_for_cpu: float
    processes_for_state: float
    processes: int
    partitions: int
    interval_s: float
    commits_per_s: float
    commit_cores: float | None
    broker_cores: float
    """For clicks; `broker_commit_cores` come on top."""
    broker_commit_cores: float | None
    memory_per_process_mb: float
    recovery_s: float
    input_mb_s: float
    changelog_mb_s: float
    output_mb_s: float
    disk_mb_s: float
    """All that brokers write, replicas too."""
    changelog_gb: float


def plan(load: Load, unit: Unit, choices: Choices) -> Plan:
    """The model."""
    sessions_per_s = load.clicks_per_s / load.clicks_per_session
    open_sessions = sessions_per_s * (load.active_s + GAP_AND_BOUND_S)
    for_cpu = load.clicks_per_s * unit.click_cpu_s / choices.busy
    for_state = open_sessions / choices.open_per_process
    processes = ceil(max(for_cpu, for_state))
    partitions = ceil(processes * choices.shards_per_process)
    interval_s = effective_interval_s(choices.interval_s, choices.shards_per_process)
    commits_per_s = partitions / interval_s
    traffic = (
        load.clicks_per_s * unit.input_bytes / 1e6,
        load.clicks_per_s * unit.changelog_bytes / 1e6,
        sessions_per_s * unit.output_bytes / 1e6,
    )
    return Plan(
        sessions_per_s=sessions_per_s,
        open_sessions=open_sessions,
        processes_for_cpu=for_cpu,
        processes_for_state=for_state,
        processes=processes,
        partitions=partitions,
        interval_s=interval_s,
        commits_per_s=commits_per_s,
        commit_cores=_times(commits_per_s, unit.commit_cpu_s),
        broker_cores=load.clicks_per_s * unit.broker_click_cpu_s,
        broker_commit_cores=_times(commits_per_s, unit.broker_commit_cpu_s),
        memory_per_process_mb=unit.process_mb + open_sessions / processes * unit.session_bytes / 2**20,
        recovery_s=open_sessions / processes * unit.recovery_s,
        input_mb_s=traffic[0],
        changelog_mb_s=traffic[1],
        output_mb_s=traffic[2],
        disk_mb_s=sum(traffic) * choices.replication,
        changelog_gb=open_sessions * unit.image_bytes * choices.replication / 1e9,
    )


def _times(count: float, of: float | None) -> float | None:
    return None if of is None else count * of


def effective_interval_s(interval_s: float, shards: float) -> float:
    """Of a worker process with so many partitions."""
    return max(interval_s, MIN_INTERVAL_PER_SHARD_S * shards)

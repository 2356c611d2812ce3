"""The model of cost, on units that make its arithmetic plain."""

from __future__ import annotations

import pytest

from benchmarks.capacity import Choices, Load, Unit, effective_interval_s, plan

UNIT = Unit(
    click_cpu_s=6e-6,
    commit_cpu_s=0.001,
    broker_click_cpu_s=2e-6,
    broker_commit_cpu_s=0.002,
    process_mb=100,
    session_bytes=2**20,
    recovery_s=1e-5,
    input_bytes=300,
    changelog_bytes=500,
    image_bytes=1000,
    output_bytes=800,
)


def test_cpu_asks_for_processes_where_sessions_are_short() -> None:
    of = plan(Load(1_000_000, clicks_per_session=8, active_s=80), UNIT, Choices(open_per_process=1e9))
    assert (of.processes, of.partitions) == (10, 40)
    assert of.commits_per_s == 40
    assert (of.commit_cores, of.broker_cores, of.broker_commit_cores) == pytest.approx((0.04, 2, 0.08))


def test_open_sessions_ask_for_processes_where_there_are_many() -> None:
    of = plan(Load(1_000_000, clicks_per_session=8, active_s=80), UNIT, Choices())
    assert of.open_sessions == 250_000_000
    assert (of.processes, of.memory_per_process_mb, of.recovery_s) == (125, 2_000_100, 20)


def test_traffic_is_by_click_and_by_session_and_times_the_replicas() -> None:
    of = plan(Load(1_000_000), UNIT, Choices())
    assert (of.input_mb_s, of.changelog_mb_s, of.output_mb_s, of.disk_mb_s) == (300, 500, 100, 2700)


def test_visitors_of_a_day_come_in_its_busiest_hours() -> None:
    assert Load.of_visitors(86_400, sessions_a_day=1, peak=2).clicks_per_s == 16


@pytest.mark.parametrize(("shards", "interval_s"), [(4, 0.25), (31, 0.25), (100, 0.8)])
def test_the_interval_is_stretched_with_many_shards(shards: int, interval_s: float) -> None:
    assert effective_interval_s(0.25, shards) == interval_s

"""How figures are made of measurements."""

from __future__ import annotations

import pytest

from benchmarks.heartbeat import Stalls
from benchmarks.latency import latency
from benchmarks.pacing import due_by
from benchmarks.pairs import Run, Spread, percentile, ratios, spread
from benchmarks.partitions import Steady, fitted
from benchmarks.processes import PendingOutputs, middle_rate, scaling
from benchmarks.replaying import replayed
from benchmarks.tables import lines


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 201)]
    assert percentile(values, 0.5) == 100
    assert percentile(values, 0.99) == 198
    assert percentile(reversed(values), 1) == 200
    assert percentile([7.0], 0.01) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_ratio_belongs_to_its_own_round() -> None:
    assert ratios([(1, 2), (10, 15), (2, 8)]) == Spread(2, 1.5, 4)
    assert str(spread([0.123, 12.34, 1234])) == "12.3 [0.12, 1,234]"


def test_percentiles_are_taken_of_each_round() -> None:
    quiet, busy = [1.0] * 100, [float(value) for value in range(1, 101)]
    found = latency([quiet, busy])
    assert (found.p50, found.p99, found.sessions) == (Spread(25.5, 1, 50), Spread(50, 1, 99), 200)


def test_the_rate_is_that_of_the_middle() -> None:
    start_up = [0] * 10
    steadily = [1000 + 10 * each for each in range(80)]
    tail = [60_000] * 10
    assert middle_rate([*start_up, *steadily, *tail]) == pytest.approx(100)


def test_several_processes_can_do_no_more_than_the_cores_allow() -> None:
    one = PendingOutputs(100, Run(cpu_s=10, wall_s=10, broker_cpu_s=2, clicks=1000))
    two = PendingOutputs(150, Run(cpu_s=10, wall_s=6, broker_cpu_s=2.5, clicks=1000))
    found = scaling([(one, two)], cores=2)
    assert (found.rate_ratio.median, found.cpu_ratio.median, found.bound.median) == (1.5, 1, 1.6)


def test_replay_is_compared_by_clicks_a_cpu_second() -> None:
    live, replay = Run(2, 9, 0, 1000), Run(1, 9, 0, 1000)
    assert replayed([(live, replay)]).vs_live.median == 2


def test_a_commit_costs_what_the_cpu_rises_by() -> None:
    steady = {
        count: Steady(cpu, 0, commits, 1, 1, 1)
        for count, cpu, commits in ((4, 0.1, 16), (64, 0.2, 100), (256, 0.3, 116))
    }
    found = fitted(steady)
    assert found.ms_per_commit == pytest.approx(2)
    assert found.base_cpu == pytest.approx(0.068)
    assert found.predicted_cpu[64] == pytest.approx(0.268)
    without = fitted({**steady, 256: Steady(0.9, 0, 20, 1, 1, 1)})
    assert without.kept_up == [4, 64]
    assert without.ms_per_commit == pytest.approx(100 / 84)


def test_nothing_is_said_of_commits_where_they_did_not_keep_up() -> None:
    steady = {4: Steady(0.2, 0, 10, 80, 1, 1), 256: Steady(0.18, 0, 52, 3000, 18, 1)}
    assert fitted(steady).ms_per_commit is None


def test_a_stall_is_the_longest_time_without_a_beat() -> None:
    wall, cpu = iter([0.0, 0.002, 0.060, 0.062]), iter([0.0, 0.001, 0.031, 0.032])
    stalls = Stalls(lambda: next(wall), lambda: next(cpu))
    for _ in range(3):
        stalls.beat(0.002)
    assert stalls.take() == pytest.approx((0.056, 0.030))
    assert stalls.take() == (0, 0)


def test_clicks_are_due_by_the_clock_and_not_by_what_was_sent() -> None:
    assert (due_by(0, 2000), due_by(0.0005, 2000), due_by(1, 2000)) == (1, 2, 2001)


def test_figures_are_printed_by_name_or_side_by_side() -> None:
    found = latency([[1.0]])
    assert list(lines(found))[-1].split() == ["sessions", "1"]
    header, row = lines({"250": found})
    assert header.split() == ["p50", "p99", "sessions"]
    assert row.split()[0] == "250"

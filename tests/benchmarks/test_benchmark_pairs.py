"""Ratios of runs made in turn."""

from __future__ import annotations

import pytest

from benchmarks.pairs import Run, compare, table


def run(cpu_s: float, wall_s: float = 1.0, broker_cpu_s: float = 0.0) -> Run:
    return Run(cpu_s, wall_s, broker_cpu_s, clicks=1_000_000)


def test_a_program_is_compared_with_the_yardstick_of_its_own_round() -> None:
    slow_machine, quiet_machine = (run(10), run(20)), (run(5), run(15))
    compared = compare([slow_machine, quiet_machine, slow_machine])
    assert compared.cpu_ratio == 2
    assert (compared.lowest, compared.highest) == (2, 3)
    assert (compared.cpu_us, compared.yardstick_us) == (20, 10)


def test_a_rate_is_relative_too_and_the_higher_the_faster() -> None:
    assert compare([(run(1, wall_s=5), run(1, wall_s=20))]).rate_ratio == 0.25


def test_start_up_is_taken_off_but_not_from_the_broker() -> None:
    assert run(3, 5, 2).less(run(1, 1, 3)) == run(2, 4, 2)


def test_a_run_that_takes_no_longer_than_start_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="1000000 clicks took no longer than none"):
        run(1).less(run(1))


def test_the_table_has_a_line_for_each_program() -> None:
    lines = table({"core": compare([(run(4), run(5, broker_cpu_s=1))])}).splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["core", "1.25", "[1.25,", "1.25]", "1.00", "5.00", "1.00"]

"""Outcomes of two periods: a planted change is found, and what didn't change is alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamer.models.evaluation.outcome_drift import outcome_drift
from streamer.models.evaluation.probe.rows import KnownSessions, Outcome
from streamer.models.evaluation.splits import FEWEST_ROWS
from streamer.models.evaluation.task_rows import CONVERSION_DAYS, DAY_MS, ClosedSessions

VISITORS = 1600


def a_period(
    start_day: int, loan_if_wanted: float, card: float = 0.3, flip: bool = False, visitors: int = VISITORS
) -> tuple[KnownSessions, list[Outcome]]:
    """One session of each visitor. Half of them want a loan, which the vector shows, and take it with this
    probability; a card is taken whatever the vector shows. `flip`: the vector shows the opposite."""
    chance = np.random.default_rng(start_day)
    wants = chance.random(visitors) < 0.5
    shown = wants != flip
    vectors = np.stack([shown + chance.normal(size=visitors) * 0.1, chance.normal(size=visitors)], axis=1)
    closed = start_day * DAY_MS + np.arange(visitors)
    owners = tuple(f"v{n}" for n in range(visitors))
    outcomes = [
        Outcome(owner, at + 1, name, "")
        for name, taken in (
            ("loan", wants & (chance.random(visitors) < loan_if_wanted)),
            ("card", chance.random(visitors) < card),
        )
        for owner, at, did in zip(owners, closed.tolist(), taken, strict=True)
        if did
    ]
    return KnownSessions(ClosedSessions(owners, closed - 1, closed), (), vectors, "space"), outcomes


def compared(*periods: tuple[KnownSessions, list[Outcome]]) -> dict[str, Any]:
    (before, first), (after, later) = periods
    last = Outcome("v0", 10_000 * DAY_MS, "loan", "")
    return outcome_drift(before, after, [*first, *later, last], np.random.default_rng(0))


def verdicts(found: dict[str, Any], key: str) -> dict[str, str]:
    return {each["outcome"]: each["verdict"] for each in found[key]}


def test_the_same_world_a_month_later_is_alike() -> None:
    found = compared(a_period(10, 0.6), a_period(60, 0.6))
    assert set(verdicts(found, "rates").values()) == {"alike"}
    assert set(verdicts(found, "claimed_over_true").values()) == {"alike"}
    assert found["ece"]["verdict"] == "alike"


def test_an_outcome_that_grows_rare_moves_and_the_other_does_not() -> None:
    found = compared(a_period(10, 0.8), a_period(60, 0.2))
    assert verdicts(found, "rates") == {"loan": "moved a lot", "card": "alike"}
    (loan,) = (each for each in found["rates"] if each["outcome"] == "loan")
    assert loan["before"]["value"] == pytest.approx(0.4, abs=0.05)
    assert loan["after"]["value"] == pytest.approx(0.1, abs=0.03)
    assert loan["change"]["high"] < -0.5
    # The head goes on claiming what was true before: four times too much.
    (claimed,) = (each for each in found["claimed_over_true"] if each["outcome"] == "loan")
    assert claimed["verdict"] == "moved a lot"
    assert claimed["after"]["value"] == pytest.approx(4, rel=0.4)
    assert claimed["before"]["value"] == pytest.approx(1, rel=0.25)


def test_calibration_can_go_wrong_while_no_rate_moves() -> None:
    found = compared(a_period(10, 0.6), a_period(60, 0.6, flip=True))
    assert verdicts(found, "rates")["loan"] == "alike"
    assert found["ece"]["after"]["low"] > found["ece"]["before"]["high"]
    assert found["ece"]["verdict"] == "moved a lot"


def test_sessions_whose_outcomes_are_not_known_yet_are_left_out() -> None:
    before, first = a_period(10, 0.6)
    after, later = a_period(60, 0.6)
    last = Outcome("v0", (60 + CONVERSION_DAYS) * DAY_MS + 9, "loan", "")
    found = outcome_drift(before, after, [*first, *later, last], np.random.default_rng(0))
    assert found == {
        "skipped": f"0 sessions after to test on, expected at least {FEWEST_ROWS} that closed"
        f" {CONVERSION_DAYS} days before the last outcome"
    }


def test_an_outcome_that_nobody_has_any_more_has_no_ratio() -> None:
    found = compared(a_period(10, 0.6), a_period(60, 0.0, card=0.3))
    (claimed,) = (each for each in found["claimed_over_true"] if each["outcome"] == "loan")
    assert claimed["after"]["value"] is None
    assert verdicts(found, "rates")["loan"] == "moved a lot"

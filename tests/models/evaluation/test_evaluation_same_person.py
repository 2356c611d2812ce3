"""Whether two sessions are one person's, on made-up people who have sites that they like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.evaluation.real import same_person
from streamer.models.evaluation.real.few_labels import TEST
from streamer.models.evaluation.real.same_person import (
    AVERAGED,
    BY_HAND,
    GAP_MS,
    SESSIONS,
    evaluate,
    sessions_of_people,
)
from streamer.models.evaluation.result_store import ResultStore
from tests.models.evaluation.test_evaluation_trivago import event, write

DAY_MS = 86_400_000
TINY = {"dim": 8, "heads": 2, "hidden": 16, "batch": 32, "min_count": 1, "epochs": 1, "weight_visitor": 1.0}


def people(folder: Path, days: int = 4, clicks: int = 6, own: float = 0.7) -> Path:
    """A session a day each, at the same time; so many of its clicks on one of twenty sites."""
    rng = np.random.default_rng(0)
    rows = []
    for person in range(60):
        for day in range(days):
            for step in range(clicks):
                site = person % 20 if rng.random() < own else int(rng.integers(20))
                at = day * DAY_MS + step * 1_000
                rows.append(event(person, day * clicks + step, at, page_type=f"site-{site}.example"))
    write(folder, "catchme150.events", rows)
    return folder


def test_people_with_sites_of_their_own_are_told_apart_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "alike").mkdir()
    stores = [ResultStore(tmp_path / name, tmp_path / name / "cache") for name in ("one", "other")]
    found = evaluate(people(tmp_path), TEST[0], {"contrast": TINY}, (1,), stores[0])
    alike = evaluate(people(tmp_path / "alike", own=0.0), TEST[0], {}, (1,), stores[1])
    assert set(found["auc"]) == {BY_HAND, "contrast", f"{AVERAGED}: contrast"}
    assert found["auc"][BY_HAND]["value"] > 0.9
    assert found["rows"]["sessions"] == 4 * found["rows"]["people"]
    for name, gain in found["gain_over_hand"].items():
        apart = found["auc"][name]["value"] - found["auc"][BY_HAND]["value"]
        assert gain["value"] == pytest.approx(apart)
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert alike["auc"][BY_HAND]["low"] < 0.5 < alike["auc"][BY_HAND]["high"]


def test_a_session_ends_after_the_gap_and_not_at_it(tmp_path: Path) -> None:
    stamps = [0, GAP_MS, 2 * GAP_MS + 1]
    rows = [event(0, step, at, page_type="a.example") for step, at in enumerate(stamps)]
    write(tmp_path, "catchme150.events", rows)
    assert [session.event_count for session in sessions_of_people(tmp_path)] == [2, 1]


def test_of_a_day_one_session_is_asked_and_of_a_person_no_more_than_the_others_have(tmp_path: Path) -> None:
    sessions = sessions_of_people(people(tmp_path, days=SESSIONS + 3, clicks=2))
    twice = [*sessions, *sessions]
    drawn = same_person._drawn(twice)
    assert len(drawn) == 60 * SESSIONS
    assert len({(each.visitor_id, each.started_at // DAY_MS) for each in drawn}) == len(drawn)
    assert not same_person._drawn(sessions_of_people(people(tmp_path, clicks=1)))


def test_intervals_have_the_variance_of_seeds() -> None:
    """One seed is always right, the other always wrong."""
    one, other = np.triu_indices(6, k=1)
    person = np.arange(6) // 2
    right = (person[one] == person[other]).astype(np.float64)
    found = same_person._resampled([right, -right], person[one], person[other])
    assert found.value == 0.5
    assert set(found.draws[np.isfinite(found.draws)].tolist()) == {0.0, 0.5, 1.0}

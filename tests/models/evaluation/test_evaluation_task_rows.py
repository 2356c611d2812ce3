"""Who knew what when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamer.models.evaluation.features import NEVER, FeatureTable, LeakError, join_tables, require_known
from streamer.models.evaluation.task_rows import (
    CONVERSION_DAYS,
    DAY_MS,
    FRESH_DAYS,
    ClosedSessions,
    Outcomes,
    app_only,
    conversion_rows,
    session_features,
    tile_rows,
)

SESSIONS = ClosedSessions(("v-1", "v-2", "v-1"), np.array([100, 200, 900]), np.array([2_000, 2_100, 3_000]))


def user(number: int, link: str | None, holdings: tuple[str, ...] = ()) -> dict[str, Any]:
    profile = {"age": 40, "tenure_months": 12, "device": "mobile", "holdings": list(holdings)}
    return {"user_id": f"u-{number}", "linked_visitor_id": link, **profile}


def seen(number: int, time: int, clicked: str | None) -> dict[str, Any]:
    return {"user_id": f"u-{number}", "time": time, "tiles": ["A", "B"], "clicked": clicked}


def outcomes(
    impressions: list[dict[str, Any]] | None = None, conversions: list[tuple[int, int, str]] | None = None
) -> Outcomes:
    """User 1 is linked to v-1, user 2 to v-2, user 3 to nobody."""
    users = [user(1, "v-1", ("P",)), user(2, "v-2"), user(3, None)]
    bought = [
        {"user_id": f"u-{u}", "time": time, "product": product} for u, time, product in conversions or []
    ]
    return Outcomes(users, impressions or [], bought)


@pytest.mark.parametrize(
    ("time", "session"),
    [
        (2_000, None),
        (2_001, 0),
        (3_000, 0),
        (3_001, 2),
        (3_000 + FRESH_DAYS * DAY_MS, 2),
        (3_001 + FRESH_DAYS * DAY_MS, None),
    ],
)
def test_an_impression_knows_the_last_session_closed_strictly_before_and_at_most_a_week_ago(
    time: int, session: int | None
) -> None:
    rows = tile_rows(outcomes([seen(1, time, "B")]), SESSIONS)
    assert rows.decisions.session.tolist() == ([] if session is None else [session])


def test_impressions_without_a_click_or_without_a_link_are_no_tile_rows() -> None:
    rows = tile_rows(outcomes([seen(1, 2_500, None), seen(3, 2_500, "A"), seen(2, 2_500, "B")]), SESSIONS)
    assert rows.decisions.visitor_ids == ("v-2",)
    assert rows.clicked.tolist() == [1]
    assert rows.shown.tolist() == [[0, 1]]


def test_a_sessions_conversions_are_those_after_it_closed_and_within_the_horizon() -> None:
    end = 2_001 + CONVERSION_DAYS * DAY_MS
    times = [(1, 2_000, "P"), (1, 2_001, "Q"), (1, end - 1, "R"), (1, end, "S"), (2, 2_500, "T")]
    rows = conversion_rows(outcomes(conversions=times), SESSIONS)
    first = rows.decisions.session.tolist().index(0)
    assert rows.bought[first].tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_every_session_of_a_linked_user_is_a_conversion_row() -> None:
    rows = conversion_rows(outcomes(), SESSIONS)
    assert sorted(zip(rows.decisions.visitor_ids, rows.decisions.session.tolist(), strict=True)) == [
        ("v-1", 0),
        ("v-1", 2),
        ("v-2", 1),
    ]


def test_app_features_hold_nothing_of_their_own_or_a_later_moment() -> None:
    early = [seen(1, 1_000, "A"), seen(1, 2_500, "B")]
    late = [*early, seen(1, 2_600, "B"), seen(1, 9_000, "A")]
    bought = [(1, 2_500, "Q"), (1, 9_000, "R"), (2, 1, "Q"), (2, 2, "R")]
    rows = tile_rows(outcomes(early, bought), SESSIONS)
    before = app_only(outcomes(early, bought), rows.decisions)
    after = app_only(outcomes(late, [*bought, (1, 2_501, "P")]), rows.decisions)
    assert np.array_equal(before.values, after.values)
    assert before.known_at.tolist() == [1_000]


def test_app_features_without_any_history_were_known_from_the_beginning() -> None:
    rows = tile_rows(outcomes([seen(2, 2_500, "B")]), SESSIONS)
    assert app_only(outcomes([seen(2, 2_500, "B")]), rows.decisions).known_at.tolist() == [NEVER]


def test_a_feature_from_after_the_outcome_is_caught() -> None:
    rows = tile_rows(outcomes([seen(1, 2_500, "A"), seen(2, 2_600, "B")]), SESSIONS)
    clicked = FeatureTable("next_click", np.ones((2, 1)), rows.decisions.at + 1)
    with pytest.raises(
        LeakError, match=r"next_click: 2 of 2 rows know too much, first row 0: known at 2501, decided at 2500"
    ):
        join_tables([clicked], rows.decisions.at)


def test_a_feature_from_the_very_moment_of_the_decision_is_caught() -> None:
    with pytest.raises(LeakError, match="first row 1"):
        require_known(FeatureTable("f", np.ones((2, 1)), np.array([4, 5])), np.array([5, 5]))


def test_the_session_that_closed_after_the_decision_is_caught() -> None:
    rows = tile_rows(outcomes([seen(1, 2_500, "A")]), SESSIONS)
    wrong = session_features("peek", np.ones((3, 2)), SESSIONS, rows.decisions)
    later = FeatureTable("peek", wrong.values, SESSIONS.closed_at[[2]])
    with pytest.raises(LeakError, match="peek"):
        require_known(later, rows.decisions.at)
    require_known(wrong, rows.decisions.at)


def test_fading_adds_a_copy_that_shrinks_with_the_time_since_the_session() -> None:
    at = 2_000 + 3 * DAY_MS
    rows = tile_rows(outcomes([seen(2, at + 100, "A")]), SESSIONS)
    table = session_features("s", np.full((3, 2), 5.0), SESSIONS, rows.decisions, fading_days=3.0)
    assert table.values[0] == pytest.approx([5.0, 5.0, 5.0 / np.e, 5.0 / np.e])


def test_features_with_nan_are_refused_with_their_row() -> None:
    with pytest.raises(ValueError, match="features f: row 1 has NaN"):
        FeatureTable("f", np.array([[1.0], [np.nan]]), np.array([0, 0]))


def test_true_intents_are_found_by_visitor_and_start() -> None:
    truth = [
        {"visitor_id": "v-1", "start": 900, "intents": ["b", "a"]},
        {"visitor_id": "v-2", "start": 200, "intents": []},
        {"visitor_id": "v-3", "start": 100, "intents": ["a"]},
    ]
    assert SESSIONS.true_intents(truth, ["a", "b"]).tolist() == [-1, -1, 1]

from __future__ import annotations

import numpy as np
import pytest

from streamer.models.timing import (
    DWELL_Z_LIMIT,
    MAX_DURATION_MS,
    TIME_IDS,
    durations,
    standardized,
    time_bucket,
)
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, Session
from tests.models.hand_made import a_click, a_session, of_length


def _durations(*sessions: Session) -> tuple[list[int], list[int]]:
    clicks = [click for session in sessions for click in session.clicks]
    lengths = np.array([len(session.clicks) for session in sessions])
    dwell, gap = durations(sessions, lengths, clicks)
    return dwell.tolist(), gap.tolist()


def test_a_missing_dwell_is_the_gap_to_the_next_click_and_the_last_has_none() -> None:
    session = a_session(a_click(0), a_click(700), a_click(900, dwell_ms=40))
    assert _durations(session) == ([700, 200, 40], [-1, 700, 200])


def test_a_dwell_that_is_given_counts() -> None:
    assert _durations(a_session(a_click(0, dwell_ms=0), a_click(700)))[0] == [0, -1]


def test_gaps_do_not_reach_into_the_next_session() -> None:
    alone = _durations(of_length(2))
    assert _durations(of_length(2), of_length(2)) == (alone[0] * 2, alone[1] * 2)


def test_the_gap_across_clicks_that_were_not_kept_is_missing() -> None:
    dwell, gap = _durations(of_length(KEPT_CLICKS, cut=1))
    assert dwell[HEAD_CLICKS - 1] == gap[HEAD_CLICKS] == -1
    assert (dwell.count(-1), gap.count(-1)) == (2, 2)


def test_a_session_of_exactly_the_kept_clicks_has_no_cut() -> None:
    assert _durations(of_length(KEPT_CLICKS))[1].count(-1) == 1


def test_durations_end_at_a_day() -> None:
    assert _durations(a_session(a_click(0), a_click(MAX_DURATION_MS + 1)))[0][0] == MAX_DURATION_MS


@pytest.mark.parametrize(
    ("duration_ms", "bucket"),
    [(-1, 0), (0, 1), (1, 2), (249, 2), (250, 3), (499, 3), (500, 4), (2_047_999, 15), (2_048_000, 16)],
)
def test_buckets_begin_at_their_edge(duration_ms: int, bucket: int) -> None:
    assert time_bucket(np.array([duration_ms])).tolist() == [bucket]
    assert bucket < TIME_IDS


def test_a_standardized_dwell_is_limited_and_0_where_missing() -> None:
    z = standardized(np.array([-1, 0, 1000, MAX_DURATION_MS]), mean=0.0, std=0.1)
    assert z.tolist() == [0.0, 0.0, pytest.approx(DWELL_Z_LIMIT), DWELL_Z_LIMIT]

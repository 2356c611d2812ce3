"""The rows of a probe: joined with what was known before, labelled with what came after."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.models.evaluation.probe import rows as probe_module
from streamer.models.evaluation.probe.rows import (
    ANY,
    FEWEST_OWNERS,
    NONE,
    Outcome,
    ProbeError,
    ProbeRows,
    TeamFeatures,
    probe_rows,
)
from streamer.models.evaluation.task_rows import ClosedSessions
from tests.models.evaluation.probe_world import DAY_MS, HOUR_MS, a_session, known

WITHIN = 3 * DAY_MS
BEGIN = 10 * DAY_MS
END = Outcome("nobody", 100 * DAY_MS, "loan", "o, line 99")
"""By then every row's time is over."""


def rows_of(outcomes: list[Outcome], people: int = 60, **options: object) -> ProbeRows:
    """Everybody has a session that closed at BEGIN, and a row an hour later."""
    sessions = [a_session(n, f"v{n}", BEGIN) for n in range(people)]
    at = np.full(people, BEGIN + HOUR_MS)
    features = TeamFeatures([f"v{n}" for n in range(people)], at, {"age": [float(n) for n in range(people)]})
    vectors = np.arange(people, dtype=np.float64)[:, None]
    return probe_rows(features, outcomes, known(sessions, vectors), WITHIN, **options)  # type: ignore[arg-type]


def outcomes_of(people: range, name: str = "loan", after_ms: int = DAY_MS) -> list[Outcome]:
    return [Outcome(f"v{n}", BEGIN + after_ms, name, f"o, line {n}") for n in people]


def test_a_row_is_labelled_with_the_first_outcome_in_time() -> None:
    many = [
        *outcomes_of(range(25), "loan", HOUR_MS),
        *outcomes_of(range(25), "card", DAY_MS),
        *outcomes_of(range(25, 45), "card", HOUR_MS + WITHIN),
        *outcomes_of(range(45, 60), "card", HOUR_MS - 1),
        END,
    ]
    rows = rows_of(many)
    assert rows.classes == (NONE, "loan")
    assert rows.labels.tolist() == [1] * 25 + [0] * 35
    as_one = rows_of(many, as_one=True)
    assert as_one.classes == (NONE, ANY)
    assert rows_of(many, wanted=["c*"]).classes == (NONE, "card")


def test_rows_without_an_outcome_can_be_left_out() -> None:
    rows = rows_of([*outcomes_of(range(20)), *outcomes_of(range(20, 45), "card"), END], with_none=False)
    assert rows.classes == ("card", "loan")
    assert rows.left_out == {"no outcome in time": 15}


def test_rows_whose_time_is_not_over_are_left_out() -> None:
    outcomes = outcomes_of(range(30), after_ms=HOUR_MS + WITHIN - 1)
    assert len(rows_of(outcomes).labels) == 60
    early = [*outcomes[:-1], Outcome("v29", BEGIN + HOUR_MS + WITHIN - 2, "loan", "o, line 29")]
    with pytest.raises(ProbeError, match=r"none is left.*left out: 60 outcome not known yet"):
        rows_of(early[29:])


@settings(max_examples=60, deadline=None)
@given(
    closed=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 20)), max_size=12),
    at=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 21)), min_size=1, max_size=12),
)
def test_a_row_has_the_last_session_that_closed_strictly_before_it(
    closed: list[tuple[str, int]], at: list[tuple[str, int]]
) -> None:
    """Beside people enough that the probe accepts the rows."""
    enough = [f"v{n}" for n in range(2 * FEWEST_OWNERS)]
    sessions = [a_session(n, owner, BEGIN + hour * HOUR_MS) for n, (owner, hour) in enumerate(closed)]
    sessions += [a_session(100 + n, owner, BEGIN) for n, owner in enumerate(enough)]
    owners = [owner for owner, _ in at] + enough
    times = [BEGIN + hour * HOUR_MS for _, hour in at] + [BEGIN + 1] * len(enough)
    features = TeamFeatures(owners, np.array(times), {"row": [float(row) for row in range(len(owners))]})
    outcomes = [Outcome(owner, BEGIN + 2, "loan", "x") for owner in enough[:FEWEST_OWNERS]]
    vectors = np.arange(len(sessions), dtype=np.float64)[:, None]
    found = probe_rows(features, [*outcomes, END], known(sessions, vectors), WITHIN)
    expected = {}
    for row, (owner, time) in enumerate(zip(owners, times, strict=True)):
        before = [s for s in sessions if s.visitor_id == owner and s.closed_at < time]
        if before:
            expected[float(row)] = max(s.closed_at for s in before)
    joined = zip(found.inputs.columns["row"], found.inputs.sessions, strict=True)
    assert {row: session.closed_at for row, session in joined} == expected
    for session, vector in zip(found.inputs.sessions, found.inputs.embeddings, strict=True):
        assert sessions[int(vector[0])] is session
    assert found.left_out.get("no session before", 0) == len(owners) - len(expected)


def test_a_session_known_only_later_is_not_joined_before() -> None:
    sessions = [a_session(n, f"v{n}", BEGIN) for n in range(60)]
    closed = ClosedSessions.of(sessions)
    late = ClosedSessions(closed.visitor_ids, closed.started_at, closed.closed_at, closed.closed_at + DAY_MS)
    of_people = known(sessions, np.zeros((60, 1)))
    later = probe_module.KnownSessions(late, sessions, of_people.embeddings, "space")
    owners = [f"v{n}" for n in range(60)]
    features = TeamFeatures(owners, np.full(60, BEGIN + HOUR_MS), {"age": [1.0] * 60})
    with pytest.raises(ProbeError, match="60 no session before"):
        probe_rows(features, [*outcomes_of(range(30), after_ms=2 * DAY_MS), END], later, WITHIN)


def test_too_many_rows_are_sampled_by_owner_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "MOST_ROWS", 50)
    outcomes = [*outcomes_of(range(30)), END]
    one, other = rows_of(outcomes), rows_of(outcomes)
    assert len(one.owners) == 50
    assert one.owners == other.owners
    assert one.left_out == {"sampled out": 10}


@pytest.mark.parametrize(
    ("outcomes", "options", "message"),
    [
        ([], {}, "outcomes: none"),
        ([END], {}, r"o, line 99: no session precedes the outcome 'loan'"),
        (
            [*outcomes_of(range(30)), Outcome("v1", BEGIN, "card", "o, line 7"), END],
            {},
            r"o, line 7: no session precedes the outcome 'card'",
        ),
        ([*outcomes_of(range(30)), END], {"wanted": ["lend*"]}, r"--outcome 'lend\*': no such outcome"),
        (
            [outcome for n in range(9) for outcome in outcomes_of(range(3), f"o{n}")],
            {},
            r"9 different ones, expected at most 8; choose by --outcome among 'o0'",
        ),
        ([*outcomes_of(range(60)), END], {}, r"all 60 are 'loan', expected at least two classes"),
        ([*outcomes_of(range(19)), END], {}, r"rows labelled 'loan': too few, of 19 visitors or customers"),
    ],
)
def test_what_can_not_be_measured_is_an_error_with_its_place_and_what_was_expected(
    outcomes: list[Outcome], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        rows_of(outcomes, **options)

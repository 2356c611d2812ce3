"""One session, one customer: a click of another user closes the session and starts the next."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome
from tests.core.partition import BOUND, GAP, RULES, Partition
from tests.core.test_core_equals_naive import ALL_RULES, Stopped, random_records

Click = tuple[int, str | None]
Summary = tuple[int, int, str | None, str]


def sessions_of(*clicks: Click, arrival: int | None = None, rules: SessionRules = RULES) -> list[Summary]:
    """(started_at, ended_at, user, close_reason) in closing order, of clicks by time and user."""
    partition = Partition(rules)
    for at, user in clicks:
        assert partition.click(at, user=user, arrival=arrival) is Outcome.JOINED
    return [(s.started_at, s.ended_at, s.user_id, s.close_reason) for s in partition.drain()]


def test_click_of_another_user_closes_the_session_and_starts_the_next() -> None:
    assert sessions_of((5000, "a"), (5100, "b")) == [
        (5000, 5000, "a", "user_change"),
        (5100, 5100, "b", "drain"),
    ]


def test_session_closes_at_the_arrival_of_the_other_users_click() -> None:
    partition = Partition()
    partition.click(5000, user="a")
    partition.click(5100, user="b", arrival=5700)
    assert [session.closed_at for session in partition.closed] == [5700]


def test_clicks_before_the_login_belong_to_who_logs_in() -> None:
    assert sessions_of((5000, None), (5100, "a"), (5200, None)) == [(5000, 5200, "a", "drain")]


def test_login_that_arrives_before_the_clicks_it_comes_after_is_the_same() -> None:
    assert sessions_of((5100, "a"), (5000, None), arrival=5100) == [(5000, 5100, "a", "drain")]


def test_anonymous_clicks_after_a_change_of_users_are_the_next_users() -> None:
    assert sessions_of((5000, "a"), (5100, None), (5200, "b"), (5300, None)) == [
        (5000, 5100, "a", "user_change"),
        (5200, 5300, "b", "drain"),
    ]


def test_older_click_of_the_user_before_closes_the_session_as_any_other_does() -> None:
    assert sessions_of((5000, "a"), (5100, "b"), (5050, "a"), arrival=5100) == [
        (5000, 5000, "a", "user_change"),
        (5100, 5100, "b", "user_change"),
        (5050, 5050, "a", "drain"),
    ]


EARLIER, BETWEEN, LATER = 5000, 5000 + GAP, 5000 + 2 * GAP


@pytest.mark.parametrize(
    ("earlier", "later", "between", "expected"),
    [
        (None, None, None, [(EARLIER, LATER, None, "drain")]),
        ("a", None, None, [(EARLIER, LATER, "a", "drain")]),
        (None, "b", None, [(EARLIER, LATER, "b", "drain")]),
        ("a", None, "a", [(EARLIER, LATER, "a", "drain")]),
        (None, None, "a", [(EARLIER, LATER, "a", "drain")]),
        ("a", "a", None, [(EARLIER, LATER, "a", "drain")]),
        ("a", "b", None, [(EARLIER, EARLIER, "a", "user_change"), (BETWEEN, LATER, "b", "drain")]),
        ("a", "b", "b", [(EARLIER, EARLIER, "a", "user_change"), (BETWEEN, LATER, "b", "drain")]),
        ("a", None, "b", [(EARLIER, EARLIER, "a", "user_change"), (BETWEEN, LATER, "b", "drain")]),
        ("a", "b", "a", [(LATER, LATER, "b", "user_change"), (EARLIER, BETWEEN, "a", "drain")]),
        (None, "b", "a", [(LATER, LATER, "b", "user_change"), (EARLIER, BETWEEN, "a", "drain")]),
        (
            "a",
            "b",
            "c",
            [
                (EARLIER, EARLIER, "a", "user_change"),
                (LATER, LATER, "b", "user_change"),
                (BETWEEN, BETWEEN, "c", "drain"),
            ],
        ),
    ],
)
def test_click_between_two_sessions(
    earlier: str | None, later: str | None, between: str | None, expected: list[Summary]
) -> None:
    clicks = ((EARLIER, earlier), (LATER, later), (BETWEEN, between))
    assert sessions_of(*clicks, arrival=LATER) == expected


def test_cap_and_change_of_users_at_once_close_both_sessions() -> None:
    rules = replace(RULES, max_events=1)
    assert sessions_of((EARLIER, "a"), (LATER, "b"), (BETWEEN, "a"), arrival=LATER, rules=rules) == [
        (EARLIER, EARLIER, "a", "max_events"),
        (LATER, LATER, "b", "user_change"),
        (BETWEEN, BETWEEN, "a", "drain"),
    ]


def test_end_event_of_another_user_ends_both_sessions() -> None:
    partition = Partition()
    partition.click(5000, user="a")
    partition.click(5100, user="b", event_type="logout")
    assert [(s.user_id, s.close_reason) for s in partition.closed] == [
        ("a", "user_change"),
        ("b", "explicit"),
    ]


def test_late_click_of_another_user_changes_nothing() -> None:
    partition = Partition()
    for at in (8000, 9000):
        partition.click(at, user="a")
    partition.click(9000 + GAP, visitor="bob", arrival=8001 + GAP + BOUND)
    partition.click(8001 + GAP + BOUND, visitor="bob")
    assert partition.click(8000, "old", user="b", arrival=8001 + GAP + BOUND) is Outcome.LATE
    assert (8000, 9000) in partition.open_spans


def test_click_sent_again_changes_no_user() -> None:
    partition = Partition()
    partition.click(5000, "first", user="a")
    partition.click(5100, user="b")
    assert partition.click(5000, "first", user="a", arrival=5200) is Outcome.DUPLICATE
    assert partition.open_spans == [(5100, 5100)]


@pytest.mark.parametrize("rules", ALL_RULES.values(), ids=ALL_RULES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_no_session_has_clicks_of_two_users(rules: SessionRules, seed: int) -> None:
    dice = random.Random(seed)
    records = [record._replace(event_id=f"e{record.place}") for record in random_records(dice, most=60)]
    user_of = {record.event_id: record.user for record in records}
    for session in Stopped(rules, dice).run(records).sessions:
        users = {user_of[click.event_id] for click in session.clicks} - {None}
        assert users == ({session.user_id} if session.user_id else set())

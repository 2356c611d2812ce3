"""Rows of the semantics table: same session, bounds and order, merging, duplicates, user and id."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.core.session import session_id
from streamer.core.sessionizer import Outcome
from tests.core.partition import BOUND, GAP, RULES, Partition, a_click

# -- same session?


@pytest.mark.parametrize("gap", [0, 1, GAP - 1, GAP])
def test_click_within_the_gap_joins_the_gap_itself_included(gap: int) -> None:
    partition = Partition()
    partition.clicks(5000, 5000 + gap)
    assert partition.open_spans == [(5000, 5000 + gap)]


def test_click_one_ms_beyond_the_gap_starts_another_session() -> None:
    partition = Partition()
    partition.clicks(5000, 5000 + GAP + 1)
    assert partition.open_spans == [(5000, 5000), (6001, 6001)]


@pytest.mark.parametrize("gap", [1, GAP - 1, GAP])
def test_out_of_order_click_extends_a_session_at_its_start(gap: int) -> None:
    partition = Partition()
    partition.click(5000)
    partition.click(5000 - gap, arrival=5000)
    assert partition.open_spans == [(5000 - gap, 5000)]


def test_out_of_order_click_one_ms_beyond_the_gap_has_its_own_session() -> None:
    partition = Partition()
    partition.click(6000)
    partition.click(4999, arrival=6000)
    assert partition.open_spans == [(4999, 4999), (6000, 6000)]


def test_visitors_share_no_session() -> None:
    partition = Partition()
    partition.clicks(5000, visitor="ann")
    partition.clicks(5000, visitor="bob")
    assert partition.open_spans == [(5000, 5000), (5000, 5000)]


@pytest.mark.parametrize("at", [5501, 5999, 6000])
def test_out_of_order_click_within_the_gap_of_two_sessions_merges_them(at: int) -> None:
    partition = Partition()
    partition.clicks(5000, 6501)
    partition.click(at, arrival=6501)
    assert partition.open_spans == [(5000, 6501)]
    assert partition.drain()[0].event_count == 3


@pytest.mark.parametrize(
    ("at", "spans"), [(5500, [(5000, 5500), (6501, 6501)]), (6001, [(5000, 5000), (6001, 6501)])]
)
def test_click_one_ms_too_far_from_one_of_two_sessions_joins_the_other(
    at: int, spans: list[tuple[int, int]]
) -> None:
    partition = Partition()
    partition.clicks(5000, 6501)
    partition.click(at, arrival=6501)
    assert partition.open_spans == spans


def test_three_sessions_of_a_visitor_become_one_by_two_merges() -> None:
    partition = Partition()
    partition.clicks(5000, 6100, 7200)
    for at in (6700, 5500):
        partition.click(at, arrival=7200)
    assert partition.open_spans == [(5000, 7200)]


def test_clicks_of_a_session_are_ordered_by_timestamp_then_event_id() -> None:
    partition = Partition()
    for at, event_id in [(5050, "b"), (5000, "z"), (5050, "a"), (5000, "y")]:
        partition.click(at, event_id, arrival=5050)
    [session] = partition.drain()
    assert [(click.timestamp, click.event_id) for click in session.clicks] == [
        (5000, "y"),
        (5000, "z"),
        (5050, "a"),
        (5050, "b"),
    ]


# -- duplicates


def test_repeated_event_id_within_an_open_session_counts_once() -> None:
    partition = Partition()
    partition.click(5000, "x")
    assert partition.click(5000, "x", arrival=5040) is Outcome.DUPLICATE
    assert partition.drain()[0].event_count == 1


def test_of_a_repeated_event_id_with_another_timestamp_the_first_in_log_order_wins() -> None:
    partition = Partition()
    partition.click(5000, "x", user="first")
    assert partition.click(5060, "x", user="second") is Outcome.DUPLICATE
    [session] = partition.drain()
    assert (session.started_at, session.ended_at, session.user_id) == (5000, 5000, "first")


def test_repeated_event_id_of_another_visitor_is_another_click() -> None:
    partition = Partition()
    partition.click(5000, "x", visitor="ann")
    assert partition.click(5000, "x", visitor="bob") is Outcome.JOINED


def test_repeated_event_id_in_another_session_of_the_visitor_counts_until_they_merge() -> None:
    partition = Partition()
    partition.click(5000, "x")
    assert partition.click(6500, "x") is Outcome.JOINED
    assert partition.sessionizer.merged_duplicates == 0


def test_repeat_of_a_click_in_a_closed_session_is_a_click_of_its_own() -> None:
    partition = Partition()
    partition.click(5000, "x")
    partition.click(8001, visitor="bob")
    assert partition.spans == [(5000, 5000)]
    assert partition.click(5001, "x", arrival=8001) is Outcome.JOINED


def test_duplicate_does_not_move_the_watermark() -> None:
    partition = Partition()
    partition.click(5200, "x", arrival=5000)
    partition.click(5200, "x", arrival=5200)
    assert partition.watermark == 3000


def test_duplicate_does_not_hit_a_cap() -> None:
    partition = Partition(replace(RULES, max_events=2))
    partition.click(5000, "x")
    partition.click(5001, "y")
    assert partition.click(5000, "x", arrival=5001) is Outcome.DUPLICATE
    assert partition.closed == []


@pytest.mark.parametrize(
    ("first", "repeat", "span"), [(5000, 6500, (5000, 5750)), (6500, 5000, (5750, 6500))]
)
def test_at_a_merge_the_first_in_log_order_stays_and_the_repeat_is_uncounted(
    first: int, repeat: int, span: tuple[int, int]
) -> None:
    partition = Partition()
    partition.click(first, "x", arrival=6500)
    partition.click(repeat, "x", arrival=6500)
    assert partition.sessionizer.open_events == 2
    partition.click(5750, "y", arrival=6500)
    assert partition.sessionizer.merged_duplicates == 1
    assert partition.sessionizer.open_events == 2
    [session] = partition.drain()
    assert (session.started_at, session.ended_at) == span
    assert session.event_count == 2
    assert sorted(click.event_id for click in session.clicks) == ["x", "y"]


def test_session_whose_end_a_merge_brought_forward_closes_at_its_new_end() -> None:
    partition = Partition()
    partition.click(5000, "x", arrival=6500)
    partition.click(6500, "x", arrival=6500)
    partition.click(5750, "y", arrival=6500)
    partition.click(5750 + GAP + BOUND, visitor="bob")
    assert partition.closed == []
    partition.click(5750 + GAP + BOUND + 1, visitor="bob")
    assert partition.spans == [(5000, 5750)]


# -- who and what


def test_user_id_survives_a_merge_from_either_side() -> None:
    for early, late in [("u1", None), (None, "u1"), ("u1", "u1")]:
        partition = Partition()
        partition.click(5000, user=early)
        partition.click(6500, user=late)
        partition.click(5750, arrival=6500)
        assert partition.drain()[0].user_id == "u1"


def test_session_id_is_128_bits_over_visitor_start_first_event_id_and_rules() -> None:
    ids = {
        session_id("ann", a_click(5000, "x"), "00000000"),
        session_id("anne", a_click(5000, "x"), "00000000"),
        session_id("ann", a_click(5001, "x"), "00000000"),
        session_id("ann", a_click(5000, "y"), "00000000"),
        session_id("ann", a_click(5000, "x"), "00000001"),
        session_id("ann 5", a_click(5000, "x"), "00000000"),
        session_id("ann 4:5000", a_click(5000, "x"), "00000000"),
    }
    assert len(ids) == 7
    assert {len(bytes.fromhex(each)) for each in ids} == {16}


def test_session_id_depends_on_no_later_click_and_on_no_field_but_the_event_id() -> None:
    one, other = Partition(), Partition()
    one.click(5000, "x", user="u", crawler=True)
    other.click(5000, "x", event_type="login")
    other.click(5500, "y")
    assert one.drain()[0].session_id == other.drain()[0].session_id

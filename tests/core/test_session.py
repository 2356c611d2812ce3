"""What an open session retains: the first and last clicks and every event_id, in bytes that come back."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.core.session import OpenSession, event_hash, open_session
from streamer.core.stored_state import encode_state, state_decoder
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, TAIL_CLICKS, Click
from tests.core.partition import a_click

COMPACT_AT = 2 * KEPT_CLICKS

Place = tuple[int, str]


def window_of(clicks: list[Click], offset: int = 0) -> OpenSession:
    """A session of these clicks, that came in this order."""
    window = open_session("ann", clicks[0], event_hash(clicks[0].event_id), offset, 0)
    for click in clicks[1:]:
        offset += 1
        window.add(click, event_hash(click.event_id), offset)
    return window


def places(clicks: list[Click]) -> list[Place]:
    return [(click.timestamp, click.event_id) for click in clicks]


def first_and_last(every: list[Place]) -> list[Place]:
    every = sorted(every)
    return every if len(every) <= KEPT_CLICKS else every[:HEAD_CLICKS] + every[-TAIL_CLICKS:]


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=3), seed=st.integers(0, 2**32))
@example(sizes=[KEPT_CLICKS], seed=1)
@example(sizes=[KEPT_CLICKS + 1], seed=1)
@example(sizes=[COMPACT_AT - 1], seed=1)
@example(sizes=[COMPACT_AT], seed=1)
@example(sizes=[COMPACT_AT, COMPACT_AT + 1], seed=1)
def test_retained_clicks_are_the_first_and_last_of_all_whatever_the_order_and_merges(
    sizes: list[int], seed: int
) -> None:
    dice = random.Random(seed)
    clicks = [a_click(dice.randint(0, 300), f"{dice.randint(0, 9)}-{n}") for n in range(sum(sizes))]
    pieces, start = [], 0
    for size in sizes:
        pieces.append(window_of(clicks[start : start + size], start))
        start += size
    whole = pieces.pop(dice.randrange(len(pieces)))
    for piece in pieces:
        assert whole.absorb(piece) == 0
    assert places(whole.clicks()) == first_and_last(places(clicks))
    assert whole.event_count == len(clicks)
    assert (whole.started_at, whole.ended_at) == (
        min(click.timestamp for click in clicks),
        max(click.timestamp for click in clicks),
    )


def test_fields_of_clicks_in_the_middle_are_let_go() -> None:
    window = window_of([a_click(at, str(at)) for at in range(10_000)])
    assert window.event_count == 10_000
    assert len(window.retained) < COMPACT_AT * 40


def test_every_field_of_a_retained_click_comes_back() -> None:
    full = Click(
        5000, "x", "search", "home", "/a/b", 7, "größe", "box", "loans", "p1", 9.5, "mobile", "www.a.example"
    )
    assert window_of([full]).clicks() == [full]


def test_open_session_is_the_same_after_its_way_through_the_changelog() -> None:
    window = window_of([a_click(at, str(at)) for at in range(200)])
    window.user_id = "user"
    window.crawler = True
    restored = state_decoder(OpenSession).decode(encode_state(window))
    assert restored.to_row() == window.to_row()
    restored.add(a_click(201, "201"), b"12345678", 201)
    assert restored.event_count == 201


def test_a_row_has_every_field_and_stays_as_it_was() -> None:
    window = window_of([a_click(timestamp, f"e{timestamp}") for timestamp in range(1, 2 * COMPACT_AT)])
    window.user_id, window.crawler, window.beside_closed = "u1", True, True
    window.opened_at, window.early_at, window.revision, window.published = 5, 7, 2, "a b"
    row = window.to_row()
    restored = OpenSession.from_row(row)
    assert 0 not in row
    window.add(a_click(10_000, "later"), event_hash("later"), 10_000)
    assert restored.to_row() == row != window.to_row()


@pytest.mark.parametrize("known", ["e0", "e1", "e149"])
def test_event_id_is_known_even_when_the_fields_of_its_click_are_gone(known: str) -> None:
    window = window_of([a_click(at, f"e{at}") for at in range(150)])
    assert window.holds(event_hash(known))
    assert not window.holds(event_hash("e150"))


def test_bytes_that_only_look_like_an_event_id_are_not_taken_for_one() -> None:
    lookalike = b"BBBBBBBB"
    at = int.from_bytes(lookalike, "little")
    window = open_session("ann", a_click(at, "x"), b"AAAAAAAA", 1, 0)
    assert not window.holds(lookalike)
    window.add(a_click(at, "y"), lookalike, 2)
    assert window.holds(lookalike)


@pytest.mark.parametrize("named", [0, 1])
def test_a_merged_session_has_the_user_of_either(named: int) -> None:
    windows = [window_of([a_click(5, "a")]), window_of([a_click(8, "b")], 1)]
    windows[named].user_id = "user"
    windows[0].absorb(windows[1])
    assert windows[0].user_id == "user"

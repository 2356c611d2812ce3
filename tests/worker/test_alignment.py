"""Partitions that are written into one log are read in step."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from streamer.worker.stages.alignment import PATIENCE_S, Alignment

SLACK_MS = 1000


def seen(next_ms: dict[int, int | None], now_s: float = 0.0) -> Alignment:
    alignment = Alignment(SLACK_MS)
    alignment.see(next_ms, now_s)
    return alignment


def test_a_partition_may_be_ahead_of_the_others_by_the_slack() -> None:
    alignment = seen({0: 5000, 1: 7000, 2: None})
    assert alignment.limit(1, 0.0) == 5000 + SLACK_MS
    assert alignment.limit(2, 0.0) == 5000 + SLACK_MS


def test_the_one_that_is_behind_waits_for_the_next() -> None:
    assert seen({0: 5000, 1: 9000}).limit(0, 0.0) == 9000 + SLACK_MS


def test_those_that_are_read_to_their_end_hold_up_nobody() -> None:
    assert seen({0: 5000, 1: None}).limit(0, 0.0) == inf


def test_one_that_does_not_move_is_waited_for_a_while() -> None:
    alignment = seen({0: 5000, 1: 90_000}, now_s=100.0)
    assert alignment.limit(1, 100.0 + PATIENCE_S - 1) == 5000 + SLACK_MS
    assert alignment.limit(1, 100.0 + PATIENCE_S) == inf


def test_one_that_moves_is_waited_for_anew() -> None:
    alignment = seen({0: 5000, 1: 90_000}, now_s=100.0)
    alignment.see({0: 6000, 1: 90_000}, 100.0 + PATIENCE_S)
    assert alignment.limit(1, 100.0 + PATIENCE_S) == 6000 + SLACK_MS


def test_who_holds_up_a_record_is_known() -> None:
    assert seen({0: 5000, 1: 9000, 2: None}).behind(9000) == [0]


@given(st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 10**6), min_size=1))
def test_somebody_always_goes_on(next_ms: dict[int, int | None]) -> None:
    alignment = seen(next_ms)
    waiting = {number: at for number, at in next_ms.items() if at is not None}
    assert not waiting or any(at <= alignment.limit(number, 0.0) for number, at in waiting.items())

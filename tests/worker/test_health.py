"""What counts as live and as ready, from plain values."""

from __future__ import annotations

import pytest

from streamer.worker.health import HealthSnapshot, HeldUp, Limits, StallWatch, not_live, not_ready

LIMITS = Limits(stalled_after_s=60, max_lag=1000, answered_within_s=10)
BOTH, ONE = frozenset({0, 1}), frozenset({0})
WELL = HealthSnapshot(joined=True, assigned=BOTH, recovered=BOTH, lag={0: 0, 1: 1000})


def test_a_worker_that_keeps_up_is_live_and_ready() -> None:
    assert not_live(WELL, LIMITS) == []
    assert not_ready(WELL, LIMITS) == []


def test_a_member_without_partitions_is_ready() -> None:
    assert not_ready(HealthSnapshot(joined=True, unanswered_for=100), LIMITS) == []


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (HealthSnapshot(joined=False), "not a member"),
        (
            HealthSnapshot(joined=True, assigned=frozenset({0, 1}), recovered=frozenset({1})),
            "[0] are not recovered",
        ),
        (
            HealthSnapshot(joined=True, assigned=ONE, recovered=ONE, unanswered_for=11),
            "11 s",
        ),
        (HealthSnapshot(joined=True, lag={0: 1001, 1: 5}), "{0: 1001}"),
        (HealthSnapshot(joined=True, unread_partitions=2), "2 partitions were added"),
        (HealthSnapshot(joined=True, lag={0: 5}, held_up={0: HeldUp(7, 60)}), "beyond offset 7: a producer"),
        (
            HealthSnapshot(joined=True, lag={0: 5}, held_up={0: HeldUp(7, 60)}, source="changes"),
            "a producer of changes",
        ),
        (
            HealthSnapshot(
                joined=True, assigned=ONE, recovered=ONE, unanswered_for=11, topic_is_missing=True
            ),
            "does not exist",
        ),
    ],
)
def test_what_makes_a_worker_not_ready_is_said(snapshot: HealthSnapshot, reason: str) -> None:
    (said,) = not_ready(snapshot, LIMITS)
    assert reason in said
    assert not_live(snapshot, LIMITS) == []


def test_a_transaction_that_is_open_for_a_while_is_nothing_to_report() -> None:
    assert not_ready(HealthSnapshot(joined=True, lag={0: 5}, held_up={0: HeldUp(7, 59)}), LIMITS) == []


def test_lag_without_a_finished_batch_for_a_minute_is_not_live() -> None:
    (said,) = not_live(HealthSnapshot(joined=True, lag={0: 3, 1: 4}, stalled_for=60), LIMITS)
    assert said == "no batch finished for 60 s, 7 records behind"


def test_a_stall_begins_with_the_lag_not_with_the_last_batch() -> None:
    watch = StallWatch(now=0)
    assert watch.seen(100, lag=0, finished=1) == 0
    assert watch.seen(101, lag=5, finished=1) == 1
    assert watch.seen(150, lag=5, finished=1) == 50
    assert watch.seen(151, lag=5, finished=2) == 0
    assert watch.seen(160, lag=5, finished=2) == 9

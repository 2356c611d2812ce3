"""What the measurement of provisional records counts."""

from __future__ import annotations

import pytest

from benchmarks.early import Cost, Published, figures

FINAL_MS = 2_000_000
LAST_CLICK_MS = 100_000


def published(
    session_id: str, closed_at: int, top: str | None, *, supersedes: str | None = None, is_final: bool = False
) -> Published:
    return Published(session_id, supersedes, closed_at, LAST_CLICK_MS, is_final, top)


def final(session_id: str, top: str | None, supersedes: str | None = None) -> Published:
    return published(session_id, FINAL_MS, top, supersedes=supersedes, is_final=True)


def test_early_records_are_held_against_the_final_one_whatever_id_they_had() -> None:
    records = [
        published("a", 30_000, None),
        published("b", 60_000, "cards", supersedes="a"),
        published("c", 130_000, "cards"),
        published("d", 30_000, "cards"),
        final("b", "cards"),
        final("c", "loans"),
        final("d", None),
        final("e", "cards"),
    ]
    found = figures(30, records, [Cost(1.0, 0.2), Cost(0.5, 0.1), Cost(0.25, 0.04)])
    assert (found.sessions, found.provisional_per_session, found.with_provisional) == (4, 1.0, 0.75)
    assert (found.first_is_right, found.first_is_wrong, found.some_is_right) == (0, 0.5, 0.5)
    assert found.gained_s == 1940
    assert found.while_browsing == pytest.approx(1 / 3)
    assert (found.extra_cpu, found.extra_us_per_record) == (0.5, pytest.approx(25_000))

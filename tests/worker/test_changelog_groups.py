"""The changelog's bookkeeping: what may be trimmed, what is rewritten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.worker.changelog_groups import REWRITE_MIN, REWRITE_RATIO, REWRITE_STEP, StateLog

VISITORS = st.lists(st.sampled_from("abcdef"), unique=True)
COMMITS = st.lists(st.tuples(VISITORS, VISITORS), min_size=1, max_size=40)


@given(COMMITS)
def test_what_is_kept_from_the_trim_offset_on_has_the_latest_image_of_everyone(
    commits: list[tuple[list[str], list[str]]],
) -> None:
    log = StateLog()
    written: list[tuple[int, list[str]]] = []
    latest: dict[str, int] = {}
    for number, (changed, closed) in enumerate(commits, start=1):
        gone = [visitor for visitor in closed if visitor in latest and visitor not in changed]
        offset = number * 10
        log.committed(number, offset, list(changed), gone)
        written.append((offset, changed))
        latest.update(dict.fromkeys(changed, offset))
        for visitor in gone:
            del latest[visitor]
    trim = log.trim_offset
    assert trim is not None
    assert trim <= written[-1][0], "the newest marker has to stay"
    assert all(offset >= trim for offset in latest.values())


def test_a_session_that_never_changes_is_moved_so_that_the_log_can_be_trimmed() -> None:
    log = StateLog()
    log.committed(1, 0, ["still"], [])
    for number in range(2, 3 * REWRITE_MIN):
        changed = [f"busy-{number % 50}"]
        stale = [visitor for visitor in log.stale(len(changed)) if visitor not in changed]
        log.committed(number, number, changed + stale, [])
    assert log.trim_offset is not None
    assert log.trim_offset > REWRITE_MIN / 2


def test_a_large_group_is_moved_bit_by_bit() -> None:
    """Half of it still counts, and each commit changes little."""
    log = StateLog()
    visitors = [f"visitor {n}" for n in range(20 * REWRITE_STEP)]
    log.committed(1, 0, list(visitors), [])
    first = 2 + int(2 * REWRITE_RATIO)
    for number in range(2, first):
        log.committed(number, number, visitors[::2], [])
    for number in range(first, first + 24):
        stale = log.stale(1)
        assert len(stale) <= REWRITE_STEP + 2
        log.committed(number, number, [*stale, "busy"], [])
    assert log.trim_offset is not None
    assert log.trim_offset > 0


def test_nothing_is_rewritten_while_the_log_is_short() -> None:
    log = StateLog()
    for number in range(1, 100):
        log.committed(number, number, ["a"], [])
    assert log.stale(1) == []

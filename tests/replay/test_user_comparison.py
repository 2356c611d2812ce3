"""Customers of live against those of the replay: what is equal, what differs, and what nobody can tell."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.identity.rules import DAY_MS, IdentityRules
from streamer.replay.user_comparison import ERASED, OPEN, UNREAD, Unknown, UserComparison, compare_users
from streamer.schemas import codec
from tests.identity.stages import record_of, session

RULES = IdentityRules(lookback_ms=3 * DAY_MS, history_ms=9 * DAY_MS)
START = 1_795_000_000_000


def record(user: str = "u1", *numbers: int, **more: Any) -> dict[str, Any]:
    """Of sessions of these numbers, the latest of which closed at START."""
    sessions = [
        session(n, f"v{n}", START - place * DAY_MS, user, **more) for place, n in enumerate(numbers or (1,))
    ]
    return codec.decode(record_of(user, sessions, RULES, "login", 1.0))[1]


def compared(
    live: dict[str, Any] | None, mine: dict[str, Any] | None, unknown: Unknown | None = None
) -> UserComparison:
    sides = [{} if each is None else {"u1": each} for each in (live, mine)]
    return compare_users(sides[0], sides[1], unknown or Unknown(), RULES)


def test_equal_records_are_equal_whatever_was_not_read() -> None:
    found = compared(record(), record(), Unknown(START, because="live was at work"))
    assert (found.state, found.users, found.rounded) == ("equal", 1, 0)


@pytest.mark.parametrize(
    ("live", "mine", "how"),
    [
        (None, record(), "missing"),
        (record(), None, "extra"),
        (record("u1", 1), record("u1", 2), "different"),
        (record(), record(close_reason="idle"), "different"),
        (record(), {**record(), "confidence": 1 - 1e-6}, "different"),
        (record("u1", 1, 2), {**record("u1", 1, 2), "sessions": 3}, "different"),
        (record(), {**record(), "embedding": [1 / 8 + 2e-5, -1.0]}, "different"),
    ],
)
def test_what_differs_is_named(live: Any, mine: Any, how: str) -> None:
    found = compared(live, mine)
    assert (found.state, found.counts, found.named) == ("different", {how: 1}, {how: ["u1"]})


def test_numbers_of_the_model_may_differ_in_their_last_digits() -> None:
    mine = record("u1", 1, 2)
    rounded = {
        **mine,
        "embedding": [number + 9e-6 for number in mine["embedding"]],
        "profile_embedding": [number - 9e-6 for number in mine["profile_embedding"]],
        "profile": [{**each, "probability": each["probability"] + 9e-6} for each in mine["profile"][::-1]],
    }
    found = compared(rounded, mine)
    assert (found.state, found.users, found.rounded) == ("equal", 1, 1)


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        (Unknown(START - 12 * DAY_MS), UNREAD),
        (Unknown(open_ids=("s002",)), OPEN),
        (Unknown(erased_users={"u1"}), ERASED),
        (Unknown(because="live was at work"), "live was at work"),
    ],
)
def test_a_difference_that_nobody_can_judge_is_counted(unknown: Unknown, reason: str) -> None:
    found = compared(record("u1", 1, 2), record("u1", 1), unknown)
    assert (found.state, found.undetermined, found.counts) == ("undetermined", {reason: 1}, {})


def test_a_difference_counts_where_all_that_it_depends_on_was_read() -> None:
    found = compared(record("u1", 1, 2), record("u1", 1), Unknown(START - 12 * DAY_MS - 1, {"s003"}, {"u2"}))
    assert found.counts == {"different": 1}


def test_a_provisional_record_is_for_a_session_that_is_open() -> None:
    assert compared(record(is_final=False), None).undetermined == {OPEN: 1}

"""Notes of window ends come up in time, whatever lies between them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.timers import Deadlines

BUCKET_MS, NEVER = 1024, 1 << 62
"""As the module has them, where they are numbers of C."""


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**64), reach=st.sampled_from((10, 100 * BUCKET_MS, 10**12)))
def test_notes_come_up_once_and_never_late(seed: int, reach: int) -> None:
    dice = random.Random(seed)
    deadlines = Deadlines()
    waiting: dict[str, int] = {}
    horizon = dice.randrange(-reach, reach)
    for number in range(40):
        for each in range(dice.randrange(4)):
            waiting[f"v{number}.{each}"] = end = dice.randrange(horizon - BUCKET_MS, horizon + reach)
            deadlines.note(f"v{number}.{each}", end)
        assert deadlines.first <= min(waiting.values(), default=NEVER)
        horizon += dice.randrange(reach)
        for visitor in deadlines.take(horizon):
            assert waiting.pop(visitor) < horizon + BUCKET_MS
        assert min(waiting.values(), default=NEVER) > horizon


@pytest.mark.parametrize("apart", [1, 2, 1000, 10**9])
def test_the_first_end_is_known_to_a_bucket(apart: int) -> None:
    deadlines = Deadlines()
    for number in (5, 3, 4):
        deadlines.note(f"v{number}", number * apart * BUCKET_MS + 7)
    for number in (3, 4, 5):
        assert deadlines.first // BUCKET_MS == number * apart
        assert deadlines.take(number * apart * BUCKET_MS + 7) == {f"v{number}"}
    assert deadlines.first == NEVER

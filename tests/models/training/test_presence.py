"""A session with two intents shows both: a probability for each, beside the one distribution over all."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import Calibration, from_json, to_json
from models.training.presence import presence_metrics, with_presence
from models.training.teacher import Float32

PLAIN = Calibration(temperature=1.0, min_probability=0.5, max_novelty=9.0, min_clicks=2)


def two_in_five(count: int = 2000) -> tuple[Float32, Float32]:
    """What a student says and what the teacher gave: two sessions in five have two intents of four."""
    rng = np.random.default_rng(0)
    soft = np.zeros((count, 4), np.float32)
    first = rng.integers(0, 4, count)
    second = (first + rng.integers(1, 4, count)) % 4
    two = rng.random(count) < 0.4
    rows = np.arange(count)
    soft[rows, first] = np.where(two, 2 / 3, 1)
    soft[rows[two], second[two]] = 1 / 3
    said = soft + rng.gamma(0.5, 0.08, soft.shape)
    return (said / said.sum(1, keepdims=True)).astype(np.float32), soft


def test_presence_is_calibrated_for_each_intent() -> None:
    said, soft = two_in_five()
    fitted = with_presence(PLAIN, said, soft)
    found = presence_metrics(fitted, said, soft)
    assert found is not None
    assert found["ece"] < 0.03
    assert found["sessions_with_two"] == pytest.approx(0.4, abs=0.05)
    assert found["both_found"] > 0.8
    shown = fitted.presence(said)
    assert shown is not None
    assert shown.sum(1).mean() == pytest.approx(1.4, abs=0.1)


def test_presence_grows_with_probability_and_row_by_row() -> None:
    said, soft = two_in_five()
    fitted = with_presence(PLAIN, said, soft)
    shown = fitted.presence(said)
    assert shown is not None
    order = np.argsort(said[0])
    assert (np.diff(shown[0][order]) >= 0).all()
    for row in range(64):
        alone = fitted.presence(said[row : row + 1])
        assert alone is not None
        assert alone.tobytes() == shown[row : row + 1].tobytes()


def test_where_nothing_is_to_tell_apart_there_is_no_presence() -> None:
    one = np.ones((50, 1), np.float32)
    assert with_presence(PLAIN, one, one) == PLAIN
    assert PLAIN.presence(one) is None
    assert presence_metrics(PLAIN, one, one) is None


def test_it_is_kept_with_the_calibration_and_half_of_it_is_refused() -> None:
    said, soft = two_in_five(200)
    fitted = with_presence(PLAIN, said, soft)
    assert from_json(to_json(fitted)) == fitted
    for wrong in ('"presence_offset": null', '"presence_offset": 1000'):
        text = to_json(fitted).replace(f'"presence_offset": {fitted.presence_offset}', wrong)
        with pytest.raises(ValueError, match="presence"):
            from_json(text)

from __future__ import annotations

import numpy as np
import pytest

from streamer.models.calibration import Calibration, from_json, to_json

FITTED = Calibration(temperature=2.0, min_probability=0.5, max_novelty=10.0, min_clicks=2)


def test_a_calibration_reads_back_the_same_bytes() -> None:
    assert to_json(from_json(to_json(FITTED))) == to_json(FITTED)


@pytest.mark.parametrize(
    ("found", "instead", "reason"),
    [
        ('"temperature": 2.0', '"temperature": 0', "temperature is 0"),
        ('"min_probability": 0.5', '"min_probability": 1.5', "min_probability is 1.5"),
        ('"min_clicks": 2', '"min_clicks": -1', "min_clicks is -1"),
        ('"max_novelty": 10.0', '"max_novelty": "far"', "can't be read"),
    ],
)
def test_values_out_of_bounds_are_refused(found: str, instead: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_json(to_json(FITTED).replace(found, instead))


def test_probabilities_are_a_softmax_at_the_temperature() -> None:
    (row,) = FITTED.probabilities(np.array([[2.0, 0.0]], np.float32))
    assert row.tolist() == pytest.approx([np.e / (1 + np.e), 1 / (1 + np.e)])


def test_a_rows_probabilities_do_not_depend_on_the_others() -> None:
    logits = np.random.default_rng(0).normal(size=(64, 23)).astype(np.float32) * 9
    together = FITTED.probabilities(logits)
    for i, row in enumerate(logits):
        assert FITTED.probabilities(row[None])[0].tobytes() == together[i].tobytes()


def test_an_intent_that_is_ruled_out_has_no_presence_however_steep_the_slope() -> None:
    steep = Calibration(1.0, 0.5, 9.0, 2, presence_slope=100.0, presence_offset=-100.0)
    found = steep.presence(np.array([[1e-9, 1.0]], np.float32))
    np.testing.assert_array_equal(found, np.array([[0, 1]], np.float32))

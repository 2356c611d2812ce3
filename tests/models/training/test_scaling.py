"""Two temperatures where a teacher errs now and then, one where it doesn't."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration import Calibration, from_json, to_json
from models.training.distill import expected_calibration_error
from models.training.scaling import fit_scaling

SESSIONS, INTENTS = 6_000, 6


def logits_and_labels(noise: float, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits / temperature), then replaced by any intent with chance `noise`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(SESSIONS, INTENTS)) * 4
    drawn = (logits / temperature + rng.gumbel(size=logits.shape)).argmax(axis=1)
    wrong = rng.integers(INTENTS, size=SESSIONS)
    labels = np.where(rng.random(SESSIONS) < noise, wrong, drawn)
    return logits.astype(np.float32), np.eye(INTENTS, dtype=np.float32)[labels]


def calibration(**fields: float | None) -> Calibration:
    return Calibration(min_probability=0.5, max_novelty=9.0, min_clicks=2, **fields)  # type: ignore[arg-type]


def test_a_teacher_without_noise_needs_one_temperature_and_it_is_found() -> None:
    found = fit_scaling(*logits_and_labels(noise=0.0, temperature=2.0))
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.blunt_share is None
    assert found.blunt_temperature is None


def test_with_a_teacher_that_errs_two_temperatures_are_calibrated_where_one_is_not() -> None:
    logits, labels = logits_and_labels(noise=0.2, temperature=1.0)
    half = SESSIONS // 2
    found = fit_scaling(logits[:half], labels[:half])
    assert found.blunt_share is not None
    two = calibration(
        temperature=found.temperature,
        blunt_share=found.blunt_share,
        blunt_temperature=found.blunt_temperature,
    )
    one = calibration(temperature=2.0)
    error = {
        name: expected_calibration_error(each.probabilities(logits[half:]), labels[half:])
        for name, each in (("one", one), ("two", two))
    }
    assert error["two"] < 0.03 < error["one"]


def test_mixed_chances_add_up_and_a_row_depends_on_itself_alone() -> None:
    two = calibration(temperature=0.7, blunt_share=0.3, blunt_temperature=4.0)
    logits = logits_and_labels(0.0, 1.0)[0][:50]
    chances = two.probabilities(logits)
    assert np.allclose(chances.sum(axis=1), 1.0, atol=1e-6)
    assert np.array_equal(two.probabilities(logits[7:8])[0], chances[7])
    assert from_json(to_json(two)) == two


@pytest.mark.parametrize(("share", "temperature"), [(0.2, None), (None, 2.0), (1.5, 2.0), (0.2, 0.0)])
def test_half_a_mixture_is_refused(share: float | None, temperature: float | None) -> None:
    text = to_json(calibration(temperature=1.0, blunt_share=share, blunt_temperature=temperature))
    with pytest.raises(ValueError, match="blunt_share"):
        from_json(text)

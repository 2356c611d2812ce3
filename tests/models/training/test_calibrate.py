"""Two temperatures where a teacher errs now and then, one where it doesn't; a probability for each intent."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.models.arrays import Float32
from streamer.models.calibration import Calibration, from_json, to_json
from streamer.models.training.calibrate import (
    expected_calibration_error,
    fit_scaling,
    presence_metrics,
    with_presence,
)

SESSIONS, INTENTS = 6_000, 6

PLAIN = Calibration(temperature=1.0, min_probability=0.5, max_novelty=9.0, min_clicks=2)


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

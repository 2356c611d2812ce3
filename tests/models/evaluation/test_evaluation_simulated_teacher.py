"""Simulated teachers see what a session shows and are right as often as they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.models.evaluation.simulated_teacher import VOTES, teach


@pytest.fixture
def chances() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.full(6, 0.3), size=4_000)


@pytest.mark.parametrize("accuracy", [0.70, 0.85, 0.95])
def test_a_teacher_gives_the_best_reading_as_often_as_said(chances: np.ndarray, accuracy: float) -> None:
    labels = teach(chances, accuracy, np.random.default_rng(1))
    assert (labels.hard == chances.argmax(axis=1)).mean() == pytest.approx(accuracy, abs=0.02)


def test_votes_are_shares_and_their_majority_is_mostly_the_first_answer(chances: np.ndarray) -> None:
    labels = teach(chances, 0.85, np.random.default_rng(1))
    assert np.allclose(labels.soft.sum(axis=1), 1.0)
    assert np.allclose(labels.soft * VOTES, np.round(labels.soft * VOTES))
    assert (labels.soft.argmax(axis=1) == labels.hard).mean() > 0.9


def test_the_same_generator_gives_the_same_labels(chances: np.ndarray) -> None:
    first, second = (teach(chances, 0.7, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.soft, second.soft)


def test_mistakes_are_made_towards_what_the_session_could_be_taken_for() -> None:
    chances = np.tile([0.6, 0.39, 0.005, 0.005], (4_000, 1))
    labels = teach(chances, 0.5, np.random.default_rng(0))
    wrong = labels.hard[labels.hard != 0]
    assert (wrong == 1).mean() > 0.7

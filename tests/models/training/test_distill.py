from __future__ import annotations

import numpy as np
import pytest
import torch

from streamer.models.labelling.teacher import SoftLabels
from streamer.models.training.calibrate import expected_calibration_error, reliability
from streamer.models.training.config import TrainConfig
from streamer.models.training.distill import (
    Distilled,
    LabelledEmbeddings,
    distill,
    hardened,
    learning_curve,
    outputs,
)
from streamer.models.training.novelty import Surprising

CONFIG = TrainConfig(head_hidden=32, head_epochs=30, head_batch=64)


def three_groups(count: int, seed: int) -> LabelledEmbeddings:
    """Embeddings around three points, and what a teacher that is sure of 80 % says of them."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, count)
    embeddings = (4 * np.eye(3, 8)[group] + rng.normal(size=(count, 8))).astype(np.float32)
    soft = np.full((count, 3), 0.1, np.float32)
    soft[np.arange(count), group] = 0.8
    return LabelledEmbeddings(embeddings, SoftLabels(np.arange(count), soft))


@pytest.fixture(scope="module")
def distilled() -> Distilled:
    train, validation = three_groups(600, 0), three_groups(300, 1)
    return distill(train, validation, CONFIG, torch.Generator().manual_seed(0))


def test_the_head_learns_what_the_teacher_says_and_how_sure_it_is(distilled: Distilled) -> None:
    embeddings, labels = three_groups(300, 2)
    logits, _ = outputs(distilled.head, embeddings)
    probabilities = distilled.calibration.probabilities(logits)
    assert (probabilities.argmax(1) == labels.probabilities.argmax(1)).mean() > 0.9
    # The head can't be sure where the groups overlap.
    assert probabilities.max(1).mean() == pytest.approx(0.8, abs=0.05)
    assert expected_calibration_error(probabilities, labels.probabilities) < 0.1


def test_one_in_a_hundred_validation_sessions_is_novel_and_what_is_far_away_is(distilled: Distilled) -> None:
    embeddings, _ = three_groups(300, 1)
    limit = distilled.calibration.max_novelty
    assert (outputs(distilled.head, embeddings)[1] > limit).mean() == pytest.approx(0.01, abs=0.005)
    far = (embeddings + 10).astype(np.float32)
    assert (outputs(distilled.head, far)[1] > limit).all()


def test_what_looks_surprising_is_novel_where_it_lies_between_known_intents() -> None:
    train, validation = three_groups(600, 0), three_groups(300, 1)
    rng = np.random.default_rng(3)
    between = (4 / 3 * np.eye(3, 8).sum(0) + 0.5 * rng.normal(size=(900, 8))).astype(np.float32)
    surprise = np.repeat([2.0, 5.0], 600) + 0.5 * rng.normal(size=1200)
    seen = Surprising(np.concatenate([train[0], between[:600]]), surprise.astype(np.float32), 600)
    shares = []
    for surprising in (None, seen):
        found = distill(train, validation, CONFIG, torch.Generator().manual_seed(0), surprising)
        novelty = outputs(found.head, between[600:])[1]
        shares.append((novelty > found.calibration.max_novelty).mean())
    assert shares[0] < 0.1 < 0.7 < shares[1]


def test_surprise_changes_no_probability() -> None:
    train, validation = three_groups(600, 0), three_groups(300, 1)
    seen = Surprising(train[0], np.arange(600, dtype=np.float32), 600)
    both = [
        outputs(distill(train, validation, CONFIG, torch.Generator().manual_seed(0), each).head, train[0])[0]
        for each in (None, seen)
    ]
    assert (both[0] == both[1]).all()


def test_labels_of_some_sessions_are_enough() -> None:
    train, validation = three_groups(600, 0), three_groups(300, 1)
    few = SoftLabels(np.arange(0, 600, 6), train.labels.probabilities[::6])
    fewer = SoftLabels(np.arange(5), validation.labels.probabilities[:5])
    found = distill(train._replace(labels=few), validation._replace(labels=fewer), CONFIG, torch.Generator())
    assert found.head.decide.out_features == 3


def test_calibration_error_is_the_gap_between_claimed_and_given() -> None:
    claimed = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
    given = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert expected_calibration_error(claimed, given) == pytest.approx(0.4)
    assert expected_calibration_error(given, given) == 0.0


def test_hard_labels_have_all_mass_on_the_best_intent() -> None:
    labels = SoftLabels(np.array([3, 5]), np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32))
    hard = hardened(labels)
    assert hard.rows.tolist() == [3, 5]
    assert hard.probabilities.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_reliability_is_where_the_calibration_error_comes_from() -> None:
    claimed = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], np.float32)
    given = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]], np.float32)
    points = reliability(claimed, given)
    assert points == [
        {"claimed": 0.6, "given": 0.6, "sessions": 1},
        {"claimed": 0.9, "given": 0.5, "sessions": 2},
    ]
    error = sum(abs(p["claimed"] - p["given"]) * p["sessions"] for p in points) / 3
    assert expected_calibration_error(claimed, given) == pytest.approx(error, abs=1e-4)


def test_students_of_few_labels_are_judged_beside_the_one_of_all() -> None:
    train, validation = three_groups(600, 0), three_groups(300, 1)
    points = learning_curve(
        train,
        validation,
        CONFIG,
        lambda step: torch.Generator().manual_seed(len(step)),
        sizes=(2, 200, 900),
    )
    assert [point["labels"] for point in points] == [2, 200, 600]
    accuracies = [point["accuracy_against_teacher"] for point in points]
    assert accuracies[0] < 0.8 < accuracies[1]
    assert points[-1]["ece"] < 0.1

"""How many labels does a student need? Students of fewer and fewer labels, judged on the same validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.training.config import TrainConfig
from models.training.distill import distil
from models.training.teacher import Float32, SoftLabels

SIZES = (500, 1000, 2000, 5000)


def learning_curve(
    train: Float32,
    train_labels: SoftLabels,
    validation: Float32,
    validation_labels: SoftLabels,
    config: TrainConfig,
    generator_of: Callable[[str], torch.Generator],
    sizes: Sequence[int] = SIZES,
) -> list[dict[str, Any]]:
    """Accuracy against the teacher and ECE by number of labelled training sessions, all of them last.

    Smaller sets are part of larger ones, drawn by the generator; epochs grow so that every student takes
    about as many steps.
    """
    count = len(train_labels.rows)
    order = torch.randperm(count, generator=generator_of("curve")).numpy()
    points = []
    for size in [*(s for s in sizes if s < count), count]:
        some = np.sort(order[:size])
        labels = SoftLabels(train_labels.rows[some], train_labels.probabilities[some])
        epochs = max(config.head_epochs, min(200, config.head_epochs * config.head_batch * 4 // size))
        student = distil(
            train, labels, validation, validation_labels,
            replace(config, head_epochs=epochs), generator_of(f"curve/{size}"),
        )  # fmt: skip
        points.append(
            {"labels": size, **{k: student.metrics[k] for k in ("accuracy_against_teacher", "ece")}}
        )
    return points

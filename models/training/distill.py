"""Distillation: the teacher's soft labels into a small head on the frozen embedding, then calibration.

The head standardizes the embedding, has one hidden layer, and includes the novelty score (`novelty.py`).
Everything is fitted on train; temperatures and thresholds on validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float32
from streamer.models.calibration import Calibration
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.training.calibrate import calibration_metrics, fit_calibration
from streamer.models.training.config import TrainConfig
from streamer.models.training.layers import descend, draw_layers
from streamer.models.training.novelty import DOUBT_WEIGHT, Novelty, Surprising, learn_surprise, place_intents

_LEAST_STD = 0.05
"""Sessions that are all alike have no spread; without this floor rounding errors would be blown up."""

SIZES = (500, 1000, 2000, 5000)


class ClassifierHead(nn.Module):
    """[B, D] to logits [B, K] and novelty [B]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, hidden: int, intents: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.widen = nn.Linear(dim, hidden)
        self.decide = nn.Linear(hidden, intents)
        self.novelty = Novelty(dim, hidden, intents)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        centred = embedding - self.mean
        scaled = centred * self.scale
        logits = self.logits(scaled)
        return logits, self.novelty(centred, scaled, logits)

    def logits(self, scaled: Tensor) -> Tensor:
        logits: Tensor = self.decide(F.relu(self.widen(scaled)))
        return logits


class LabelledEmbeddings(NamedTuple):
    """Embeddings [N, D] of all sessions of a split, and the labels of some or all of them."""

    embeddings: Float32
    labels: SoftLabels


@dataclass(frozen=True)
class Distilled:
    head: ClassifierHead
    calibration: Calibration
    metrics: dict[str, Any]


def distill(
    train: LabelledEmbeddings,
    validation: LabelledEmbeddings,
    config: TrainConfig,
    generator: torch.Generator,
    surprising: Surprising | None = None,
) -> Distilled:
    """Without `surprising` novelty is the distance to the known intents alone."""
    embeddings, soft = train.embeddings[train.labels.rows], train.labels.probabilities
    head = ClassifierHead(embeddings.shape[1], config.head_hidden, soft.shape[1])
    head.mean.copy_(torch.from_numpy(embeddings.mean(0)))
    head.scale.copy_(torch.from_numpy(1 / np.maximum(embeddings.std(0), _LEAST_STD)))
    _fit(head, torch.from_numpy(embeddings), torch.from_numpy(soft), config, generator)
    _fit_novelty(head, torch.from_numpy(embeddings), soft, surprising, config, generator)
    logits, novelty = outputs(head, validation.embeddings)
    labelled, soft = logits[validation.labels.rows], validation.labels.probabilities
    calibration = fit_calibration(labelled, soft, novelty, config)
    return Distilled(head, calibration, calibration_metrics(calibration, labelled, soft))


@torch.no_grad()
def outputs(head: ClassifierHead, embeddings: Float32) -> tuple[Float32, Float32]:
    """Logits [N, K] and novelty [N]."""
    logits, novelty = head(torch.from_numpy(embeddings))
    return logits.numpy(), novelty.numpy()


def _fit(
    head: ClassifierHead, x: Tensor, soft: Tensor, config: TrainConfig, generator: torch.Generator
) -> None:
    layers = (head.widen, head.decide)
    draw_layers(layers, generator)
    scaled = (x - head.mean) * head.scale
    descend(
        layers, lambda rows: F.cross_entropy(head.logits(scaled[rows]), soft[rows]), len(x), config, generator
    )


def _fit_novelty(
    head: ClassifierHead,
    x: Tensor,
    soft: Float32,
    surprising: Surprising | None,
    config: TrainConfig,
    generator: torch.Generator,
) -> None:
    centred = x - head.mean
    doubt_weight = 0.0 if surprising is None else DOUBT_WEIGHT
    with torch.no_grad():
        logits = head.logits(centred * head.scale)
    place_intents(head.novelty, centred, soft, logits, doubt_weight)
    if surprising is not None:
        scaled = (torch.from_numpy(surprising.embeddings) - head.mean) * head.scale
        learn_surprise(head.novelty, scaled, surprising, config, generator)


def hardened(labels: SoftLabels) -> SoftLabels:
    """All probability on the best intent: the labels of a teacher that names one intent per session."""
    hard = np.zeros_like(labels.probabilities)
    hard[np.arange(len(hard)), labels.probabilities.argmax(1)] = 1
    return SoftLabels(labels.rows, hard)


def learning_curve(
    train: LabelledEmbeddings,
    validation: LabelledEmbeddings,
    config: TrainConfig,
    generator_of: Callable[[str], torch.Generator],
    sizes: Sequence[int] = SIZES,
) -> list[dict[str, Any]]:
    """Accuracy against the teacher and ECE by number of labelled training sessions; the last point has all.

    Smaller sets are subsets of larger ones. Epochs grow so that every student takes about as many steps.
    """
    rows, probabilities = train.labels.rows, train.labels.probabilities
    count = len(rows)
    order = torch.randperm(count, generator=generator_of("curve")).numpy()
    points = []
    for size in [*(s for s in sizes if s < count), count]:
        some = np.sort(order[:size])
        labelled = train._replace(labels=SoftLabels(rows[some], probabilities[some]))
        epochs = max(config.head_epochs, min(200, config.head_epochs * config.head_batch * 4 // size))
        longer = replace(config, head_epochs=epochs)
        student = distill(labelled, validation, longer, generator_of(f"curve/{size}"))
        points.append(
            {"labels": size, **{k: student.metrics[k] for k in ("accuracy_against_teacher", "ece")}}
        )
    return points

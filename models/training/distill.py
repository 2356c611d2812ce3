"""Distillation: the teacher's soft labels into a small head on the frozen embedding, then calibration.

The head standardizes the embedding, has one hidden layer, and comes with all by which a session is found to
be novel: see `novelty.py`. Everything is fitted on train; temperature and thresholds on validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.calibration import Calibration
from models.training.config import TrainConfig
from models.training.layers import descend, draw_layers
from models.training.novelty import DOUBT_WEIGHT, Novelty, learn_surprise, place_intents
from models.training.presence import presence_metrics, with_presence
from models.training.scaling import fit_scaling
from models.training.teacher import Float32, Int64, SoftLabels
from models.training.unusual import Surprising

_BINS = 15
_LEAST_STD = 0.05
"""Sessions that are all alike have no spread; without this floor rounding errors would be blown up."""


class Head(nn.Module):
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


@dataclass(frozen=True)
class Distilled:
    head: Head
    calibration: Calibration
    metrics: dict[str, Any]


def distil(
    train: Float32,
    train_labels: SoftLabels,
    validation: Float32,
    validation_labels: SoftLabels,
    config: TrainConfig,
    generator: torch.Generator,
    surprising: Surprising | None = None,
) -> Distilled:
    """`train` and `validation` are embeddings [N, D] of all sessions; labels may be of some of them only.

    Without `surprising` novelty is the distance to the known intents alone.
    """
    embeddings, soft = train[train_labels.rows], train_labels.probabilities
    head = Head(train.shape[1], config.head_hidden, soft.shape[1])
    head.mean.copy_(torch.from_numpy(embeddings.mean(0)))
    head.scale.copy_(torch.from_numpy(1 / np.maximum(embeddings.std(0), _LEAST_STD)))
    _fit(head, torch.from_numpy(embeddings), torch.from_numpy(soft), config, generator)
    _fit_novelty(head, torch.from_numpy(embeddings), soft, surprising, config, generator)
    logits, novelty = outputs(head, validation)
    labelled = logits[validation_labels.rows]
    scaling = fit_scaling(labelled, validation_labels.probabilities)
    calibration = Calibration(
        temperature=scaling.temperature,
        blunt_share=scaling.blunt_share,
        blunt_temperature=scaling.blunt_temperature,
        min_probability=config.min_probability,
        max_novelty=round(float(np.quantile(novelty, config.novelty_quantile)), 4),
        min_clicks=config.min_clicks,
    )
    probabilities = calibration.probabilities(labelled)
    calibration = with_presence(calibration, probabilities, validation_labels.probabilities)
    metrics = _metrics(probabilities, validation_labels.probabilities)
    shown = presence_metrics(calibration, probabilities, validation_labels.probabilities)
    return Distilled(head, calibration, metrics | ({"presence": shown} if shown else {}))


@torch.no_grad()
def outputs(head: Head, embeddings: Float32) -> tuple[Float32, Float32]:
    """Logits [N, K] and novelty [N]."""
    logits, novelty = head(torch.from_numpy(embeddings))
    return logits.numpy(), novelty.numpy()


def _fit(head: Head, x: Tensor, soft: Tensor, config: TrainConfig, generator: torch.Generator) -> None:
    layers = (head.widen, head.decide)
    draw_layers(layers, generator)
    scaled = (x - head.mean) * head.scale
    descend(
        layers, lambda rows: F.cross_entropy(head.logits(scaled[rows]), soft[rows]), len(x), config, generator
    )


def _fit_novelty(
    head: Head,
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


def _metrics(probabilities: Float32, soft: Float32) -> dict[str, Any]:
    best = probabilities.argmax(1)
    return {
        "accuracy_against_teacher": round(float((best == soft.argmax(1)).mean()), 4),
        "ece": round(expected_calibration_error(probabilities, soft), 4),
        "reliability": reliability(probabilities, soft),
    }


def hardened(labels: SoftLabels) -> SoftLabels:
    """All mass on the most probable intent: what a teacher gives that says one word a session."""
    hard = np.zeros_like(labels.probabilities)
    hard[np.arange(len(hard)), labels.probabilities.argmax(1)] = 1
    return SoftLabels(labels.rows, hard)


def expected_calibration_error(probabilities: Float32, soft: Float32) -> float:
    """|claimed - given| probability of the best intent, averaged over 15 bins of the claimed one.

    Given is what the teacher's soft label gives to that intent; with hard labels that is the usual ECE.
    """
    claimed, given, bins = _binned(probabilities, soft)
    gaps = [abs(float(claimed[bins == b].sum() - given[bins == b].sum())) for b in range(_BINS)]
    return sum(gaps) / max(1, len(claimed))


def reliability(probabilities: Float32, soft: Float32) -> list[dict[str, float]]:
    """One point per bin in use: mean probability claimed and given, and how many sessions."""
    claimed, given, bins = _binned(probabilities, soft)
    return [
        {
            "claimed": round(float(claimed[bins == b].mean()), 4),
            "given": round(float(given[bins == b].mean()), 4),
            "sessions": int((bins == b).sum()),
        }
        for b in np.unique(bins).tolist()
    ]


def _binned(probabilities: Float32, soft: Float32) -> tuple[Float32, Float32, Int64]:
    """Of the best intent: claimed and given probability, and the bin of the claimed one."""
    best = probabilities.argmax(1)
    rows = np.arange(len(best))
    claimed, given = probabilities[rows, best], soft[rows, best]
    return claimed, given, np.minimum((claimed * _BINS).astype(np.int64), _BINS - 1)

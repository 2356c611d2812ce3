"""How novel a session is: how far from all known intents, how surprising, how hard to tell.

The distance is that of Mahalanobis to the nearest intent (K. Lee et al., NeurIPS 2018), under one covariance,
shrunk as Ledoit and Wolf do. The surprise is that of `surprise.py`, as a small network tells it from the
embedding alone. Doubt is one minus the classifier's best chance. All three are in standard deviations of
training sessions and added by weight: 0 is usual.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from torch.nn import functional as F

from models.training.config import TrainConfig
from models.training.layers import descend, draw_layers
from models.training.teacher import Float32
from models.training.unusual import Surprising

SURPRISE_WEIGHT, DOUBT_WEIGHT = 1.5, 0.5
"""Of a standard deviation, beside one of distance."""
_LEAST_VARIANCE, _LEAST_SPREAD = 1e-4, 0.1
"""Sessions that are all alike have no spread; without these floors rounding errors would be blown up."""


class Novelty(nn.Module):
    """An embedding, centred [B, D] and scaled too [B, D], and its logits [B, K] to its novelty [B]."""

    whiten: Tensor
    centres: Tensor
    usual: Tensor
    weight: Tensor

    def __init__(self, dim: int, hidden: int, intents: int) -> None:
        super().__init__()
        self.register_buffer("whiten", torch.eye(dim))
        self.register_buffer("centres", torch.zeros(intents, dim))
        self.register_buffer("usual", torch.zeros(2))
        self.register_buffer("weight", torch.ones(2))
        self.widen = nn.Linear(dim, hidden)
        self.tell = nn.Linear(hidden, 1)

    def forward(self, centred: Tensor, scaled: Tensor, logits: Tensor) -> Tensor:
        evidence = torch.stack([self.distance(centred), doubt(logits)], dim=1)
        weighed: Tensor = ((evidence - self.usual) * self.weight).sum(1)
        return weighed + self.surprise(scaled)

    def distance(self, centred: Tensor) -> Tensor:
        """[B]"""
        apart = (centred @ self.whiten).unsqueeze(1) - self.centres
        return (apart * apart).sum(2).amin(1).sqrt()

    def surprise(self, scaled: Tensor) -> Tensor:
        """[B]"""
        told: Tensor = self.tell(F.relu(self.widen(scaled)))
        return told.squeeze(1)


def doubt(logits: Tensor) -> Tensor:
    """[B]. No sum over intents: how those are added up can depend on a row's place in its batch."""
    return (1.0 - logits.softmax(1)).amin(1)


@torch.no_grad()
def place_intents(
    novelty: Novelty, centred: Tensor, soft: Float32, logits: Tensor, doubt_weight: float
) -> None:
    """Of embeddings [M, D], centred, their labels `soft` [M, K] and logits. Surprise isn't learnt yet: 0."""
    _place_centres(novelty, centred.numpy(), soft)
    evidence = torch.stack([novelty.distance(centred), doubt(logits)], dim=1)
    novelty.usual.copy_(evidence.mean(0))
    spread = evidence.std(0, correction=0).clamp(min=_LEAST_SPREAD)
    novelty.weight.copy_(torch.tensor([1.0, doubt_weight]) / spread)
    nn.init.zeros_(novelty.tell.weight)
    nn.init.zeros_(novelty.tell.bias)


def _place_centres(novelty: Novelty, embeddings: Float32, soft: Float32) -> None:
    """Means of the intents' sessions and a whitening shared by all."""
    labels, mean = soft.argmax(1), embeddings.mean(0)
    centres = np.stack(
        [embeddings[labels == k].mean(0) if (labels == k).any() else mean for k in range(soft.shape[1])]
    )
    covariance = LedoitWolf().fit(embeddings - centres[labels]).covariance_
    precision = np.linalg.inv(covariance + _LEAST_VARIANCE * np.eye(len(mean)))
    whiten = np.linalg.cholesky(precision)
    novelty.whiten.copy_(torch.from_numpy(whiten))
    novelty.centres.copy_(torch.from_numpy(centres @ whiten))


def learn_surprise(
    novelty: Novelty, scaled: Tensor, surprising: Surprising, config: TrainConfig, generator: torch.Generator
) -> None:
    """`scaled` [N, D] are the embeddings of `surprising`, scaled as the classifier sees them."""
    real = slice(surprising.real)
    surprise = torch.from_numpy(surprising.surprise)
    spread = surprise[real].std(correction=0).clamp(min=_LEAST_SPREAD)
    wanted = (surprise - surprise[real].mean()) / spread
    layers = (novelty.widen, novelty.tell)
    draw_layers(layers, generator)
    descend(
        layers,
        lambda rows: F.mse_loss(novelty.surprise(scaled[rows]), wanted[rows]),
        len(wanted), config, generator,
    )  # fmt: skip
    with torch.no_grad():
        told = novelty.surprise(scaled[real])
        weight = SURPRISE_WEIGHT / told.std(correction=0).clamp(min=_LEAST_SPREAD)
        novelty.tell.bias.sub_(told.mean()).mul_(weight)
        novelty.tell.weight.mul_(weight)

"""Simulated teachers: how well labels serve, as a function of the teacher's accuracy.

A teacher sees what the session shows and nothing else. The best reading of a session comes from a reference
classifier that was trained on other simulated people; a teacher of accuracy a gives that reading with
probability a, and otherwise an intent that the session could be mistaken for. No latent intent of the
evaluated data reaches any label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.features import Bag
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.schemas.click import Session

VOTES = 5
"""Answers per session: their shares are its soft label."""
AGREEMENT = 0.8
"""Probability that a further answer repeats the first."""
TEMPER = 0.5
"""Exponent on the classifier's probabilities when wrong answers are drawn: flatter, so any intent can
occur."""


@dataclass(frozen=True)
class ReferenceClassifier:
    """Probabilities of each intent, from counts of pages and words."""

    bag: Bag
    model: LogisticRegression

    @classmethod
    def fit(cls, data: SimulatedData) -> ReferenceClassifier:
        bag = Bag.fit(data.sessions)
        # One thread: the same sums everywhere.
        with threadpool_limits(1):
            model = LogisticRegression(C=0.3, max_iter=300, tol=1e-3).fit(
                bag.encode(data.sessions), data.intent
            )
        return cls(bag, model)

    def probabilities(self, sessions: Sequence[Session]) -> Float64:
        """[S, I], rows add up to 1."""
        with threadpool_limits(1):
            chances: Float64 = self.model.predict_proba(self.bag.encode(sessions))
        return chances


@dataclass(frozen=True)
class TeacherLabels:
    """Of S sessions and I intents."""

    hard: Int64
    """[S]: the first answer"""
    soft: Float64
    """[S, I]: shares of all answers"""


def teach(chances: Float64, accuracy: float, rng: np.random.Generator) -> TeacherLabels:
    """`chances` [S, I] are the classifier's; `accuracy` is that of the first answer against its best
    reading."""
    best = chances.argmax(axis=1)
    right = rng.random(len(best)) < accuracy
    hard = np.where(right, best, _drawn(_wrong(chances, best), rng))
    soft = np.eye(chances.shape[1])[hard]
    for _ in range(VOTES - 1):
        repeated = rng.random(len(hard)) < AGREEMENT
        soft = soft + np.eye(chances.shape[1])[np.where(repeated, hard, _drawn(chances, rng))]
    return TeacherLabels(hard, soft / VOTES)


def _wrong(chances: Float64, best: Int64) -> Float64:
    tempered = chances**TEMPER
    tempered[np.arange(len(best)), best] = 0.0
    wrong: Float64 = tempered / np.maximum(tempered.sum(axis=1, keepdims=True), 1e-12)
    return wrong


def _drawn(chances: Float64, rng: np.random.Generator) -> Int64:
    """[S]: one intent a row, by its chance."""
    sums = chances.cumsum(axis=1)
    draws = rng.random(len(chances))[:, None] * sums[:, -1:]
    drawn: Int64 = (draws >= sums).sum(axis=1).clip(max=chances.shape[1] - 1)
    return drawn

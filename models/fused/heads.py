"""Heads that give log probabilities of K classes from N rows of F columns: linear, and boosted trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64

CLIPPED = 8.0
"""Deviations from the mean beyond which a column says no more to a linear head."""


def log_softmax(logits: Float64) -> Float64:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: Float64 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


@dataclass(frozen=True, slots=True)
class Scaling:
    """To mean 0 and deviation 1 by column; a missing number becomes the mean, a constant column 0."""

    mean: Float64
    deviation: Float64

    @classmethod
    def fit(cls, values: Float64) -> Scaling:
        known = np.isfinite(values)
        counts = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0.0).sum(axis=0) / counts
        variance = (np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / counts
        return cls(mean, np.where(variance > 1e-18, np.sqrt(variance), 0.0))

    def apply(self, values: Float64) -> Float64:
        way = np.where(np.isfinite(values), values - self.mean, 0.0)
        scaled = np.divide(way, self.deviation, out=np.zeros_like(way), where=self.deviation > 0.0)
        clipped: Float64 = np.clip(scaled, -CLIPPED, CLIPPED)
        return clipped


@dataclass(frozen=True, slots=True)
class LinearHead:
    scaling: Scaling
    weights: Float64
    """[F, K]"""
    bias: Float64
    """[K]"""

    def log_probabilities(self, values: Float64) -> Float64:
        """[N, K]"""
        return log_softmax(self.scaling.apply(values) @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class TreesHead:
    """Boosted trees of J nodes in all; a class's logit is its baseline and the sum of the leaves reached."""

    feature: Int64
    """[J]"""
    threshold: Float64
    """[J]; what is not above it goes left"""
    missing_left: Bool
    """[J]"""
    left: Int64
    """[J]; a leaf has -1"""
    right: Int64
    value: Float64
    """[J]"""
    roots: Int64
    """[T]"""
    root_class: Int64
    """[T]: whose logit the tree adds to"""
    baseline: Float64
    """[K]"""

    def log_probabilities(self, values: Float64) -> Float64:
        """[N, K]"""
        rows = np.arange(len(values))[:, None]
        node = np.broadcast_to(self.roots, (len(values), len(self.roots)))
        while (inner := self.left[node] >= 0).any():
            found = values[rows, self.feature[node]]
            goes_left = np.where(np.isnan(found), self.missing_left[node], found <= self.threshold[node])
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        logits = np.tile(self.baseline, (len(values), 1))
        for k in range(len(self.baseline)):
            logits[:, k] += self.value[node[:, self.root_class == k]].sum(axis=1)
        return log_softmax(logits)


Head = LinearHead | TreesHead

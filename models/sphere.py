"""Embeddings on the unit sphere around their mean: where they cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Float32


@dataclass(frozen=True)
class Sphere:
    """Embeddings centred and scaled to length 1."""

    centre: Float32
    """[D]"""

    @classmethod
    def of(cls, embeddings: Float32) -> Sphere:
        return cls(embeddings.mean(0))

    def project(self, embeddings: Float32) -> Float32:
        """[N, D] of [N, D], row by row."""
        centred = embeddings - self.centre
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        projected: Float32 = (centred / np.maximum(length, 1e-6)).astype(np.float32)
        return projected

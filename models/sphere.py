"""Embeddings on the unit sphere around their mean: where they cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.models.arrays import Float32


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
        return unit(embeddings - self.centre)


def unit(vectors: npt.NDArray[np.floating]) -> Float32:
    """[N, D] of [N, D], each scaled to length 1."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32 = (vectors / np.maximum(length, 1e-6)).astype(np.float32)
    return scaled

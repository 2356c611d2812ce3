"""Embeddings on the unit sphere around their mean: where they cluster.

An attribute that is not to tell them apart is projected out: the direction from the mean of the others to the
mean of those that have it (mean projection; Haghighatkhah et al., EMNLP 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from streamer.models.arrays import Bool, Float32

_FEWEST = 100
"""With an attribute, and without it; fewer say nothing certain of its direction."""


@dataclass(frozen=True)
class Sphere:
    """Embeddings centred and scaled to length 1."""

    centre: Float32
    """[D]"""
    left_out: Float32 | None = None
    """[D], of length 1: the direction that is projected out."""

    @classmethod
    def of(cls, embeddings: Float32, attribute: Bool | None = None) -> Self:
        """`attribute` [N] is projected out, if enough embeddings have it and enough don't."""
        centre = embeddings.mean(0)
        if attribute is None or min(attribute.sum(), (~attribute).sum()) < _FEWEST:
            return cls(centre)
        apart = embeddings[attribute].mean(0) - embeddings[~attribute].mean(0)
        return cls(centre, unit(apart[None])[0])

    def project(self, embeddings: Float32) -> Float32:
        """[N, D] of [N, D], row by row."""
        around = embeddings - self.centre
        if self.left_out is not None:
            around = around - (around @ self.left_out)[:, None] * self.left_out
        return unit(around)


def unit(vectors: npt.NDArray[np.floating]) -> Float32:
    """[N, D] of [N, D], each scaled to length 1."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32 = (vectors / np.maximum(length, 1e-6)).astype(np.float32)
    return scaled

"""Where sessions lie on a map: the two directions in which the bundle's prototypes differ most.

They follow from the bundle alone (principal components, Pearson 1901), so that a place means the same today
and tomorrow. Shapes: K prototypes, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from streamer.models.arrays import Float32
from streamer.models.prototypes import Prototypes
from streamer.models.sphere import Sphere

Point = tuple[float, float]


@dataclass(frozen=True)
class Projection:
    embedding_space: str
    """Of the only vectors that have a place."""
    kept: float
    """Share of the prototypes' variance that lies along the two directions, 0 to 1."""
    sphere: Sphere
    directions: Float32
    """[2, D]"""

    @classmethod
    def of(cls, prototypes: Prototypes) -> Self:
        spread = prototypes.directions - prototypes.directions.mean(0)
        _, sizes, axes = np.linalg.svd(spread, full_matrices=False)
        largest = np.abs(axes).argmax(1, keepdims=True)
        axes = axes * np.sign(np.take_along_axis(axes, largest, 1))  # else a direction's sign is chance
        variances = sizes**2
        return cls(
            prototypes.embedding_space,
            float(variances[:2].sum() / variances.sum()),
            prototypes.sphere,
            axes[:2].astype(np.float32),
        )

    def place(self, embedding: Sequence[float]) -> Point:
        """Of a vector [D] of the embedding space; -1 to 1 each."""
        (point,) = self.sphere.project(np.array([embedding], np.float32))
        x, y = (self.directions @ point).tolist()
        return x, y

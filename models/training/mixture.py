"""How sure a cluster is: a mixture of directions around the centres, and a background of all directions.

Centres stay as they are; their shares, one concentration and the background's share are fitted by EM
(von Mises-Fisher: Banerjee et al. 2005, eq. 4.4). A session that is far from every centre is the
background's: its labels are spread over the centres, the nearer ones first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ive

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
_ROUNDS = 50
_SPREAD = 40.0


@dataclass(frozen=True)
class Mixture:
    centres: Float32
    """[K, D] unit vectors"""
    shares: Float64
    """[K]; add up to 1"""
    concentration: float
    background: float
    """Share of sessions that belong to no centre."""
    dimensions: float

    def responsibilities(self, points: Float32) -> Float32:
        """[N, K]: how likely each centre is; the background's part is spread with far less certainty."""
        of_centre, of_background = self.expected(points)
        spread = np.exp(self.concentration / _SPREAD * (points @ self.centres.T).astype(np.float64))
        spread *= of_background[:, None] / spread.sum(1, keepdims=True)
        return (of_centre + spread).astype(np.float32)

    def expected(self, points: Float32) -> tuple[Float64, Float64]:
        """[N, K] and [N]: the chance of each centre and of the background; rows add up to 1."""
        cosine = (points @ self.centres.T).astype(np.float64)
        score = np.log((1 - self.background) * self.shares) + self.concentration * cosine
        score += _log_normalizer(self.concentration, self.dimensions)
        nothing = np.full(len(points), np.log(self.background) - _log_sphere(self.dimensions))
        most = np.maximum(score.max(1), nothing)
        weight, rest = np.exp(score - most[:, None]), np.exp(nothing - most)
        total = weight.sum(1) + rest
        return weight / total[:, None], rest / total


def fit_mixture(points: Float32, centres: Float32) -> Mixture:
    cosine = (points @ centres.T).astype(np.float64)
    share = np.bincount(cosine.argmax(1), minlength=len(centres)) + 1.0
    mixture = Mixture(centres, share / share.sum(), 20.0, 0.1, _dimensions_used(points))
    for _ in range(_ROUNDS):
        of_centre, of_background = mixture.expected(points)
        mass = of_centre.sum(0) + 1e-3
        r = float(np.clip((of_centre * cosine).sum() / of_centre.sum(), 0.01, 0.99))
        mixture = Mixture(
            centres=centres,
            shares=mass / mass.sum(),
            concentration=(r * mixture.dimensions - r**3) / (1 - r**2),
            background=float(np.clip(of_background.mean(), 0.01, 0.5)),
            dimensions=mixture.dimensions,
        )
    return mixture


def _dimensions_used(points: Float32) -> float:
    """exp of the entropy of the singular values: on fewer dimensions a direction says less."""
    spectrum = np.linalg.svd(points, compute_uv=False).astype(np.float64)
    p = spectrum[spectrum > 0] / spectrum.sum()
    return float(max(2.0, np.exp(-(p * np.log(p)).sum())))


def _log_normalizer(concentration: float, dimensions: float) -> float:
    order = dimensions / 2 - 1
    bessel = np.log(ive(order, concentration)) + concentration
    return float(order * np.log(concentration) - dimensions / 2 * np.log(2 * np.pi) - bessel)


def _log_sphere(dimensions: float) -> float:
    """log of the surface of the unit sphere."""
    return float(np.log(2) + dimensions / 2 * np.log(np.pi) - gammaln(dimensions / 2))

"""Clusters of embeddings on the unit sphere: how many, which, which belong together, and how sure each is.

How many: the largest number of which most are found again in random halves of the sessions. How sure: a
mixture of von Mises-Fisher distributions around fixed centres and a uniform background, whose shares and one
concentration are fitted by EM (Banerjee et al. 2005, eq. 4.4). A session that is far from every centre
belongs to the background: its labels are spread over the centres, the nearer ones first. Runs on one thread,
for scikit-learn sums in another order with more. Shapes: N points, k or K clusters, D dimensions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ive
from sklearn.cluster import AgglomerativeClustering, KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float32, Float64, Int64
from streamer.models.sphere import unit

_FEWEST = 2
_RECURS, _DISSOLVED = 0.75, 0.5
_SILHOUETTE_SAMPLE = 3000
_MOST_AT_ONCE, _MINI_BATCH = 20_000, 4096
"""More points are clustered by mini-batches (Sculley, WWW 2010)."""

_ROUNDS = 50
_SPREAD = 40.0


@dataclass(frozen=True)
class Clustering:
    centres: Float32
    """[k, D] unit vectors"""
    recurrence: npt.NDArray[np.float64]
    """[k]: mean Jaccard similarity of each cluster with its best match in random halves."""


def stable_clustering(
    points: Float32, most: int, wanted: float, halves: int, rng: np.random.Generator
) -> Clustering:
    """The clustering with the most clusters of which at least the share `wanted` recurs.

    A cluster recurs if its Jaccard similarity is at least 0.75, and is dissolved below 0.5 (Hennig 2007,
    Cluster-wise assessment of cluster stability). If no number of clusters reaches `wanted`, the one with
    the best mean is taken.
    """
    # Sessions that are all alike recur in any number: there are no more clusters than distinct points.
    distinct = len(np.unique(points.round(3), axis=0))
    largest = min(most, len(points) // 4, distinct // 2)
    found = [_clustering(points, k, halves, rng) for k in range(_FEWEST, largest + 1)]
    if not found:
        return Clustering(unit(points.mean(0, keepdims=True)), np.ones(1))
    stable = [each for each in found if (each.recurrence >= _RECURS).mean() >= wanted]
    return stable[-1] if stable else max(found, key=lambda each: float(each.recurrence.mean()))


def _clustering(points: Float32, k: int, halves: int, rng: np.random.Generator) -> Clustering:
    centres = unit(fit_k_means(points, k, rng, starts=3).cluster_centers_)
    labels = nearest(points, centres)
    similar = []
    for _ in range(halves):
        half = rng.permutation(len(points))[: len(points) // 2]
        similar.append(_jaccard(labels, fit_k_means(points[half], k, rng, starts=3).predict(points), k))
    return Clustering(centres, np.mean(similar, axis=0))


def _jaccard(labels: Int64, others: Int64, k: int) -> npt.NDArray[np.float64]:
    """[k]: of each cluster of `labels`, its best Jaccard similarity with a cluster of `others`."""
    both = np.zeros((k, k))
    np.add.at(both, (labels, others), 1)
    either = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    best: npt.NDArray[np.float64] = (both / np.maximum(either, 1)).max(1)
    return best


def fit_k_means(points: Float32, k: int, rng: np.random.Generator, starts: int) -> KMeans | MiniBatchKMeans:
    seed = int(rng.integers(2**31))
    kind = KMeans if len(points) <= _MOST_AT_ONCE else partial(MiniBatchKMeans, batch_size=_MINI_BATCH)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # A half may have fewer distinct points than clusters; agreement is measured afterwards.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kind(k, n_init=starts, random_state=seed, max_iter=100).fit(points)


def pruned(points: Float32, found: Clustering, near_duplicate: float, min_share: float) -> Float32:
    """[k', D]: without dissolved clusters, near-duplicates merged, without clusters of too few points."""
    lasting = found.recurrence >= min(_DISSOLVED, found.recurrence.max())
    centres = _merged(points, found.centres[lasting], near_duplicate)
    share = np.bincount(nearest(points, centres), minlength=len(centres)) / len(points)
    kept: Float32 = centres[share >= min(min_share, share.max())]
    return kept


def _merged(points: Float32, centres: Float32, near_duplicate: float) -> Float32:
    """Merges the two nearest centres as long as their cosine is higher than `near_duplicate`."""
    weight = np.bincount(nearest(points, centres), minlength=len(centres)).astype(np.float32)
    while len(centres) > 1:
        cosine = centres @ centres.T - 2 * np.eye(len(centres), dtype=np.float32)
        a, b = np.unravel_index(int(cosine.argmax()), cosine.shape)
        if cosine[a, b] <= near_duplicate:
            break
        centres[a] = weight[a] * centres[a] + weight[b] * centres[b]
        weight[a] += weight[b]
        centres = unit(np.delete(centres, b, axis=0))
        weight = np.delete(weight, b)
    return centres


def nearest(points: Float32, centres: Float32) -> Int64:
    labels: Int64 = (points @ centres.T).argmax(1)
    return labels


def parents_of(points: Float32, centres: Float32) -> Int64:
    """[k]: which parent each centre belongs to: the cut of the tree with the best silhouette on points."""
    if len(centres) < 4:
        return np.zeros(len(centres), np.int64)
    labels = nearest(points, centres)[:_SILHOUETTE_SAMPLE]
    sample = points[:_SILHOUETTE_SAMPLE]
    cuts = [AgglomerativeClustering(n).fit(centres).labels_ for n in range(2, len(centres) // 2 + 1)]
    usable = [cut for cut in cuts if len(set(cut[labels].tolist())) > 1]
    if not usable:
        return np.zeros(len(centres), np.int64)
    with threadpool_limits(limits=1):
        best = max(usable, key=lambda cut: float(silhouette_score(sample, cut[labels])))
    return np.asarray(best, np.int64)


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
        """[N, K]: probability of each centre; the background's share is spread over all, far more evenly."""
        of_centre, of_background = self.expected(points)
        spread = np.exp(self.concentration / _SPREAD * (points @ self.centres.T).astype(np.float64))
        spread *= of_background[:, None] / spread.sum(1, keepdims=True)
        return (of_centre + spread).astype(np.float32)

    def expected(self, points: Float32) -> tuple[Float64, Float64]:
        """[N, K] and [N]: probability of each centre and of the background; rows add up to 1."""
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

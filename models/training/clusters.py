"""Clusters of embeddings on the unit sphere: how many, which, and which belong together.

How many: the largest number at which clusterings of independent halves of the sessions still agree. Runs
single-threaded, for scikit-learn sums in another order with more threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_FEWEST = 2
_SILHOUETTE_SAMPLE = 3000


@dataclass(frozen=True)
class Sphere:
    """Embeddings centred and scaled to length 1."""

    centre: Float32

    @classmethod
    def of(cls, embeddings: Float32) -> Sphere:
        return cls(embeddings.mean(0))

    def project(self, embeddings: Float32) -> Float32:
        centred = embeddings - self.centre
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        projected: Float32 = (centred / np.maximum(length, 1e-6)).astype(np.float32)
        return projected


def stable_count(points: Float32, most: int, wanted: float, halves: int, rng: np.random.Generator) -> int:
    """The largest number of clusters whose agreement reaches `wanted`, else the one that agrees best."""
    agreement = {
        k: _agreement(points, k, halves, rng) for k in range(_FEWEST, min(most, len(points) // 4) + 1)
    }
    if not agreement:
        return 1
    stable = [k for k, value in agreement.items() if value >= wanted]
    return max(stable) if stable else max(agreement, key=lambda k: (agreement[k], k))


def _agreement(points: Float32, k: int, halves: int, rng: np.random.Generator) -> float:
    """Mean adjusted Rand index, on all points, of clusterings fitted to random halves."""
    labels = []
    for _ in range(halves):
        half = rng.permutation(len(points))[: len(points) // 2]
        labels.append(_fit(points[half], k, rng, starts=1).predict(points))
    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]))


def centres_of(points: Float32, k: int, rng: np.random.Generator) -> Float32:
    """[k, D] unit vectors."""
    return _unit(_fit(points, k, rng, starts=8).cluster_centers_)


def _fit(points: Float32, k: int, rng: np.random.Generator, starts: int) -> KMeans:
    seed = int(rng.integers(2**31))
    with threadpool_limits(limits=1):
        return KMeans(k, n_init=starts, random_state=seed, max_iter=100).fit(points)


def pruned(points: Float32, centres: Float32, near_duplicate: float, min_share: float) -> Float32:
    """Merges centres with a higher cosine than `near_duplicate`, then drops those of too few points."""
    labels = nearest(points, centres)
    weight = np.bincount(labels, minlength=len(centres)).astype(np.float32)
    while len(centres) > 1:
        cosine = centres @ centres.T - 2 * np.eye(len(centres), dtype=np.float32)
        a, b = np.unravel_index(int(cosine.argmax()), cosine.shape)
        if cosine[a, b] <= near_duplicate:
            break
        merged = weight[a] * centres[a] + weight[b] * centres[b]
        weight[a] += weight[b]
        centres = _unit(np.delete(np.where(np.arange(len(centres))[:, None] == a, merged, centres), b, 0))
        weight = np.delete(weight, b)
    share = np.bincount(nearest(points, centres), minlength=len(centres)) / len(points)
    kept: Float32 = centres[share >= min(min_share, share.max())]
    return kept


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


def _unit(vectors: npt.NDArray[np.floating]) -> Float32:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float32 = (vectors / np.maximum(length, 1e-6)).astype(np.float32)
    return unit

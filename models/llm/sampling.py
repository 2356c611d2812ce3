"""Which sessions the language model sees: all kinds of behaviour, not just the frequent kind.

Strata are clusters of the embedding. Each gets places in proportion to the root of its size, so rare kinds
are seen more often than at random and frequent ones still most often.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
_PER_STRATUM = 8
_MOST_STRATA = 48
_FITTED_ON = 10_000


def strata(embeddings: Float32, size: int, rng: np.random.Generator) -> Int64:
    """[N]: the stratum of each session, for a sample of `size`."""
    count = max(1, min(_MOST_STRATA, size // _PER_STRATUM, len(embeddings)))
    seen = rng.permutation(len(embeddings))[:_FITTED_ON]
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Sessions that are all alike have fewer distinct points than clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(count, n_init=1, random_state=int(rng.integers(2**31))).fit(embeddings[seen])
        return np.asarray(model.predict(embeddings), np.int64)


def stratified(embeddings: Float32, size: int, rng: np.random.Generator) -> Int64:
    """Rows of at most `size` sessions, in random order; all of them if there are no more."""
    if len(embeddings) <= size:
        return np.asarray(rng.permutation(len(embeddings)), np.int64)
    found = strata(embeddings, size, rng)
    members = [rng.permutation(np.flatnonzero(found == s)) for s in np.unique(found)]
    places = _places([len(rows) for rows in members], size)
    chosen = np.concatenate([rows[:n] for rows, n in zip(members, places, strict=True)])
    return np.asarray(rng.permutation(chosen), np.int64)


def _places(sizes: list[int], wanted: int) -> list[int]:
    """How many of each stratum: in proportion to the root of its size, never more than it has."""
    places = [0] * len(sizes)
    while (left := wanted - sum(places)) > 0 and any(p < s for p, s in zip(places, sizes, strict=True)):
        open_roots = [s**0.5 * (p < s) for p, s in zip(places, sizes, strict=True)]
        for i in sorted(range(len(sizes)), key=lambda i: -open_roots[i]):
            share = max(1, round(left * open_roots[i] / sum(open_roots))) if open_roots[i] else 0
            places[i] += min(share, sizes[i] - places[i], wanted - sum(places))
    return places

"""Confidence intervals and tests by a paired bootstrap over visitors, and the mean over several seeds.

Whole visitors are drawn with replacement, for the rows of one visitor are not independent. All contenders
see the same draws, so that differences between them are compared on the same visitors. Over several draws of
labels, these are drawn with replacement too; over several seeds of simulator and training, seeds are first,
then visitors and labels within each seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.metrics import Measured
from streamer.models.evaluation.result_store import Arrays

DRAWS = 2_000
CONFIDENCE = 0.95

_STRIDE = 997
"""Shifts the draws of visitors, so that a seed drawn twice doesn't repeat them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, bounds inclusive."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Resampled:
    """A metric's value, and its values on R resampled sets of visitors."""

    value: float
    draws: Float64
    """[R]"""

    def estimate(self) -> Estimate:
        return interval(self.value, self.draws)


def cluster_numbers(visitor_ids: Sequence[str]) -> Int64:
    """[B]: a number from 0 per visitor, in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(v, len(numbers)) for v in visitor_ids], dtype=np.int64)


def resample(
    measured: Mapping[str, Measured], clusters: Int64, rng: np.random.Generator, draws: int = DRAWS
) -> dict[str, Resampled]:
    """Every metric on the same draws. `clusters` [B] numbers the visitors of the rows from 0."""
    count = int(clusters.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(np.float64)
    found = {}
    for name, metric in measured.items():
        by_cluster = np.zeros((count, metric.numbers.shape[1]))
        np.add.at(by_cluster, clusters, metric.numbers)
        found[name] = Resampled(metric.value(), metric.formula(weights @ by_cluster))
    return found


def relative_change(contender: Resampled, baseline: Resampled) -> Estimate:
    """contender / baseline - 1: -0.1 is ten percent lower."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.float64(contender.value) / np.float64(baseline.value) - 1.0
        return interval(float(value), contender.draws / baseline.draws - 1.0)


def gap_closed(contender: Resampled, without: Resampled, oracle: Resampled) -> Estimate:
    """The share of the way from `without` to `oracle`: 0 at the one, 1 at the other."""
    return more_of_gap(contender, without, without, oracle)


def more_of_gap(contender: Resampled, other: Resampled, without: Resampled, oracle: Resampled) -> Estimate:
    """How much further on that way the contender is than the other: 0.05 is five percentage points."""
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (contender.draws - other.draws) / (oracle.draws - without.draws)
        value = np.float64(contender.value - other.value) / np.float64(oracle.value - without.value)
    return interval(float(value), draws)


def interval(value: float, draws: Float64) -> Estimate:
    """Percentile interval over the draws where the metric exists: a draw without any outcome has none."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Estimate(value, float("nan"), float("nan"))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))


def p_value(contender: Resampled, baseline: Resampled) -> float:
    """Two-sided p of no difference; never 0, for R draws can't show less than 1 / (R + 1)."""
    differences = contender.draws - baseline.draws
    below, above = int((differences <= 0.0).sum()), int((differences >= 0.0).sum())
    return min(1.0, 2.0 * (min(below, above) + 1) / (len(differences) + 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction for testing several things at once. S. Holm, 1979, Scand. J. Statist. 6, 65-70."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def over_draws(draws: Sequence[Mapping[str, Resampled]], rng: np.random.Generator) -> dict[str, Resampled]:
    """The mean over draws of labels, which are drawn with replacement each time that visitors are.

    All have the same metrics on the same draws of visitors.
    """
    times = len(next(iter(draws[0].values())).draws)
    picked = rng.integers(len(draws), size=(times, len(draws)))
    found = {}
    for name in draws[0]:
        every = np.stack([draw[name].draws for draw in draws])
        value = float(np.mean([draw[name].value for draw in draws]))
        found[name] = Resampled(value, every[picked, np.arange(times)[:, None]].mean(axis=1))
    return found


def pooled(by_seed: Sequence[Mapping[str, Resampled]], rng: np.random.Generator) -> dict[str, Resampled]:
    """Every metric that all seeds have, by its name."""
    if len(by_seed) == 1:
        return dict(by_seed[0])
    draws = len(next(iter(by_seed[0].values())).draws)
    picked = rng.integers(len(by_seed), size=(draws, len(by_seed)))
    at = (np.arange(draws)[:, None] + _STRIDE * np.arange(len(by_seed))) % draws
    found = {}
    for name in [each for each in by_seed[0] if all(each in seed for seed in by_seed)]:
        every = np.stack([seed[name].draws for seed in by_seed])
        value = float(np.mean([seed[name].value for seed in by_seed]))
        found[name] = Resampled(value, every[picked, at].mean(axis=1))
    return found


def versus(
    resampled: Mapping[str, Resampled], metric: str, reference: str, others: Iterable[str]
) -> dict[str, Any]:
    """Relative change of `reference` over each of the others, with Holm's correction."""
    one = resampled[f"{metric}/{reference}"]
    p = {name: p_value(one, resampled[f"{metric}/{name}"]) for name in others}
    corrected = holm(p)
    return {
        name: {
            **relative_change(one, resampled[f"{metric}/{name}"]).as_dict(),
            "p_holm": corrected[name],
        }
        for name in p
    }


def as_arrays(resampled: Mapping[str, Resampled]) -> Arrays:
    """Value first, then the draws."""
    return {name: np.concatenate([[each.value], each.draws]) for name, each in resampled.items()}


def from_arrays(arrays: Mapping[str, Any]) -> dict[str, Resampled]:
    return {name: Resampled(float(array[0]), array[1:]) for name, array in arrays.items()}

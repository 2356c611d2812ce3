"""Intervals and tests by a paired bootstrap over visitors.

Rules: whole visitors are drawn with replacement, for the rows of one visitor are not independent. All
contenders see the same draws, so that differences between them are compared on the same visitors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluation.features import Floats
from models.evaluation.metrics import Measured
from models.evaluation.splits import Ints

DRAWS = 2_000
CONFIDENCE = 0.95


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
    draws: Floats
    """[R]"""

    def estimate(self) -> Estimate:
        return interval(self.value, self.draws)


def cluster_numbers(visitor_ids: Sequence[str]) -> Ints:
    """[B]: a number from 0 per visitor, in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(v, len(numbers)) for v in visitor_ids], dtype=np.int64)


def resample(
    measured: Mapping[str, Measured], clusters: Ints, rng: np.random.Generator, draws: int = DRAWS
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
    way = oracle.draws - without.draws
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (contender.draws - without.draws) / way
        value = np.float64(contender.value - without.value) / np.float64(oracle.value - without.value)
    return interval(float(value), draws)


def interval(value: float, draws: Floats) -> Estimate:
    """Over the draws that have the metric at all: where nobody drawn had an outcome, there is none."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Estimate(value, float("nan"), float("nan"))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))


def p_value(contender: Resampled, baseline: Resampled) -> float:
    """Two-sided, of no difference; never 0, for R draws can't show less than 1 / (R + 1)."""
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

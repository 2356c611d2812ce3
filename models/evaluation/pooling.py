"""Several seeds of simulator and training as one figure: the mean over seeds, with an interval over both.

Rules: seeds are drawn with replacement, then visitors within each seed; all contenders see the same draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation.bootstrap import Resampled, holm, p_value, relative_change
from models.evaluation.ledger import Arrays

_STRIDE = 997
"""Moves to other draws of visitors where a seed is drawn twice."""


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
    """How far `reference` is above each of the others, relatively, with Holm's correction over them."""
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

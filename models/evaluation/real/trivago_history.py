"""trivago: what earlier sessions of the visitor add to the order in which hotels are shown.

Rows, halves of the time and trees are those of `trivago.py`. Four contenders: trees over what the session
shows; these with what earlier sessions show of each hotel, by hand; both with an encoder that reads the
earlier sessions as the beginning of this one, by how near each hotel is to it; and the mean of the last two
with a share of the encoder's that validation chooses, which may be none. Nothing is known from the click-out
on. N rows, K places shown at most, S seeds of pretraining.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.evaluation.bootstrap import Resampled, cluster_numbers, interval
from streamer.models.evaluation.real.trivago import (
    CLICKED_OUT,
    COSINES,
    SHOWN,
    TREES,
    Ranking,
    chosen_trees,
    encoded,
    load,
    parts_of,
    reciprocal_ranks,
)
from streamer.models.training.config import TrainConfig

BY_HAND, WITH_ENCODER = "trees, earlier sessions by hand", "trees, earlier sessions by hand and encoder"
FUSED = "trees, earlier sessions by hand, fused with encoder"
SHARES = (0.25, 0.5, 0.75, 1.0)
"""That the trees with the encoder may have of `FUSED`, if any."""
RESAMPLED = 1_000
_DAY_MS = 86_400_000


def evaluate(folder: Path, settings: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """MRR on the second half of the time, of all rows and of those with earlier sessions."""
    ranking = load(folder)
    first, train, validation, test = parts_of(ranking)
    by_hand = np.concatenate([ranking.features, _earlier_touches(ranking)], axis=2)
    longer = replace(
        ranking, before=tuple(a + b for a, b in zip(ranking.earlier, ranking.before, strict=True))
    )
    inputs = {TREES: [ranking.features], BY_HAND: [by_hand]}
    inputs[WITH_ENCODER] = [
        np.concatenate(
            [by_hand, encoded(longer, first, TrainConfig(seed=seed, **settings))[:, :, :COSINES]], axis=2
        )
        for seed in seeds
    ]
    chosen = {
        name: [chosen_trees(ranking, features, train, validation) for features in of_seeds]
        for name, of_seeds in inputs.items()
    }
    scores = {name: [each for _, _, each in of_seeds] for name, of_seeds in chosen.items()}
    (floor,) = scores[BY_HAND]
    shares = [share_of(each, floor, ranking, validation) for each in scores[WITH_ENCODER]]
    scores[FUSED] = [
        _mixed(floor, each, share) for each, share in zip(scores[WITH_ENCODER], shares, strict=True)
    ]
    ranks = {
        name: np.stack([reciprocal_ranks(each[test], ranking, test) for each in of_seeds])
        for name, of_seeds in scores.items()
    }
    visitors = cluster_numbers([ranking.visitor_ids[row] for row in test.tolist()])
    has_earlier = np.array([bool(ranking.earlier[row]) for row in test.tolist()])
    everywhere = np.ones(len(test), dtype=np.bool_)
    return {
        "rows": {"test": len(test), "with earlier sessions": int(has_earlier.sum())},
        "seeds": len(seeds),
        "validation_mrr": {
            name: float(np.mean([mrr for mrr, _, _ in each])) for name, each in chosen.items()
        },
        "shares": shares,
        "all": _compared(ranks, visitors, everywhere),
        "with_earlier": _compared(ranks, visitors, has_earlier),
    }


def share_of(other: Float64, floor: Float64, ranking: Ranking, validation: Int64) -> float:
    """The share of other scores [N, K] whose mean with those of the floor is best on validation rows; 0 if
    that isn't better than the floor alone by a standard error.
    """
    alone = reciprocal_ranks(floor[validation], ranking, validation)
    gains = {
        share: reciprocal_ranks(_mixed(floor, other, share)[validation], ranking, validation) - alone
        for share in SHARES
    }
    best = max(SHARES, key=lambda share: gains[share].mean())
    gain = gains[best]
    visitors = cluster_numbers([ranking.visitor_ids[row] for row in validation.tolist()])
    off_by_visitor = np.bincount(visitors, weights=gain - gain.mean())
    return best if gain.mean() > np.sqrt((off_by_visitor**2).sum()) / len(gain) else 0.0


def _mixed(floor: Float64, other: Float64, share: float) -> Float64:
    return (1.0 - share) * floor + share * other


def _earlier_touches(ranking: Ranking) -> Float64:
    """[N, K, 5]: touches of each hotel in earlier sessions, click-outs among them, days since the last;
    hotels touched, and clicks, in all of these sessions. Zeros where there is no hotel, NaN where no touch.
    """
    found = np.zeros((len(ranking.at), SHOWN, 5))
    for row, (shown, earlier) in enumerate(zip(ranking.shown, ranking.earlier, strict=True)):
        touches = Counter(click.product_id for click in earlier)
        clicked = Counter(click.product_id for click in earlier if click.element == CLICKED_OUT)
        last = {click.product_id: click.timestamp for click in earlier}
        found[row, : len(shown)] = [
            [
                np.log1p(touches[hotel]),
                np.log1p(clicked[hotel]),
                (ranking.at[row] - last[hotel]) / _DAY_MS if hotel in last else np.nan,
                np.log1p(len(last)),
                np.log1p(len(earlier)),
            ]
            for hotel in shown
        ]
    return found


def _compared(ranks: dict[str, Float64], visitors: Int64, rows: Bool) -> dict[str, Any]:
    resampled = {name: _resampled(each[:, rows], visitors[rows]) for name, each in ranks.items()}
    return {
        "mrr": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "gain": {
            f"{name} over {floor}": interval(
                resampled[name].value - resampled[floor].value, resampled[name].draws - resampled[floor].draws
            ).as_dict()
            for name, floor in (
                (BY_HAND, TREES),
                (WITH_ENCODER, TREES),
                (WITH_ENCODER, BY_HAND),
                (FUSED, BY_HAND),
            )
        },
    }


def _resampled(ranks: Float64, visitors: Int64) -> Resampled:
    """Of [S, N]: under draws of seeds and visitors, the same for all."""
    # A generator each, for contenders have one seed or several.
    of_visitors, of_seeds = np.random.default_rng(0), np.random.default_rng(1)
    numbers = np.unique(visitors, return_inverse=True)[1]
    people = int(numbers.max()) + 1
    rows = np.bincount(numbers, minlength=people).astype(np.float64)
    of_people = np.stack([np.bincount(numbers, weights=each, minlength=people) for each in ranks])
    draws = np.empty(RESAMPLED)
    for number in range(RESAMPLED):
        times = of_visitors.multinomial(people, np.full(people, 1.0 / people))
        seeds = of_seeds.integers(len(ranks), size=len(ranks))
        draws[number] = of_people[seeds].mean(axis=0) @ times / (rows @ times)
    return Resampled(float(ranks.mean()), draws)

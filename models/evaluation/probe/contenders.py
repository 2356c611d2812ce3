"""What is compared: heads on a team's features, on clicks and on the embedding, and means of their logits.

`hand` is what a team has or could make without the embedding: trees and a logistic regression on its own
features, and both on n-grams of pages. Fused is the weighted mean of two logits: of `hand`, say, and of a
logistic regression on the embedding, which stays as it is. The embedding's share is chosen on the labelled
rows, held out in turn; it can be none. Concatenation is shown if asked for, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.probe.tuning import (
    Tuned,
    folds_of,
    log_loss_of,
    sharpness_of,
    tuned_linear,
    tuned_trees,
)
from streamer.models.fused.heads import log_softmax
from streamer.models.fused.scorer import Block

MOST_OF_CLICKS = 100
"""Columns that trees see of clicks: times, and the most frequent items. Linear heads see all."""


class HeadName(NamedTuple):
    reads: Block
    kind: Literal["trees", "linear"]


Weights = Mapping[HeadName, float]
Choice = Sequence[Weights]
"""Of which labelled rows choose one."""
SHARES = (0.0, 0.25, 0.5, 0.75)
"""That the embedding may have of the logits."""

_TREES, _LOGISTIC = HeadName("features", "trees"), HeadName("features", "linear")
_NGRAM_TREES, _NGRAMS = HeadName("clicks", "trees"), HeadName("clicks", "linear")
_EMBEDDING = HeadName("embedding", "linear")
_MEMBERSHIPS, _VECTOR_TOO = HeadName("memberships", "linear"), HeadName("embedding+memberships", "linear")
_BOTH_TREES, _BOTH = HeadName("features+embedding", "trees"), HeadName("features+embedding", "linear")

OWN, HAND, EMBEDDING, OWN_FUSED, FUSED = (
    "features",
    "hand",
    "embedding",
    "features fused with embedding",
    "hand fused with embedding",
)
PARTS_OF_HAND = ("features, trees", "features, logistic", OWN, "n-grams, trees", "n-grams, logistic")
CONCATENATED = "features concatenated with embedding"
FUSED_WITH_MEMBERSHIPS = "hand fused with embedding, memberships"


def blend(one: Weights, other: Weights, share: float = 0.5) -> Weights:
    """The weighted mean of two logits; `share` is that of the other."""
    heads = dict.fromkeys((*one, *other))
    return {head: (1.0 - share) * one.get(head, 0.0) + share * other.get(head, 0.0) for head in heads}


def _fused(floor: Weights, head: HeadName = _EMBEDDING) -> Choice:
    return [blend(floor, {head: 1.0}, share) for share in SHARES]


_OWN = blend({_TREES: 1.0}, {_LOGISTIC: 1.0})
_HAND = blend(_OWN, blend({_NGRAM_TREES: 1.0}, {_NGRAMS: 1.0}))
CONTENDERS: Mapping[str, Choice] = {
    "features, trees": [{_TREES: 1.0}],
    "features, logistic": [{_LOGISTIC: 1.0}],
    OWN: [_OWN],
    "n-grams, trees": [{_NGRAM_TREES: 1.0}],
    "n-grams, logistic": [{_NGRAMS: 1.0}],
    HAND: [_HAND],
    EMBEDDING: [{_EMBEDDING: 1.0}],
    OWN_FUSED: _fused(_OWN),
    FUSED: _fused(_HAND),
}
BY_CONCATENATION: Mapping[str, Choice] = {CONCATENATED: [blend({_BOTH_TREES: 1.0}, {_BOTH: 1.0})]}
BY_MEMBERSHIPS: Mapping[str, Choice] = {
    "memberships": [{_MEMBERSHIPS: 1.0}],
    "embedding, memberships": [{_VECTOR_TOO: 1.0}],
    FUSED_WITH_MEMBERSHIPS: _fused(_HAND, _VECTOR_TOO),
}


def mixed(logs: Mapping[HeadName, Float64], weights: Weights) -> Float64:
    """[N, K]: the weighted mean of what the heads give."""
    return np.asarray(sum(weight * logs[head] for head, weight in weights.items()))


def heads_of(choices: Iterable[Choice]) -> list[HeadName]:
    """All that any of them reads."""
    return list(dict.fromkeys(head for choice in choices for weights in choice for head in weights))


def settled(fitted: Mapping[HeadName, Tuned], choice: Choice, labels: Int64) -> tuple[Weights, float]:
    """The weights with the least log loss on labelled rows, held out in turn, and how sharp the mean has to
    be made for it."""
    held_out = {name: tuned.held_out for name, tuned in fitted.items()}

    def tried(weights: Weights) -> tuple[float, float]:
        logs = mixed(held_out, weights)
        sharpness = sharpness_of(logs, labels)
        return log_loss_of(log_softmax(sharpness * logs), labels), sharpness

    results = [tried(weights) for weights in choice]
    best = min(range(len(choice)), key=lambda place: results[place][0])
    return choice[best], results[best][1]


def scores(
    fitted: Mapping[HeadName, Tuned],
    contenders: Mapping[str, Choice],
    labels: Int64,
    blocks: Mapping[Block, Float64],
) -> dict[str, Float64]:
    """Log probabilities [B, K] of each contender for other rows. `labels` are those of the fitted rows."""
    given = {name: tuned.head.log_probabilities(blocks[name.reads]) for name, tuned in fitted.items()}
    found = {}
    for contender, choice in contenders.items():
        weights, sharpness = settled(fitted, choice, labels)
        found[contender] = log_softmax(sharpness * mixed(given, weights))
    return found


def fitted_heads(
    blocks: Mapping[Block, Float64],
    labels: Int64,
    classes: int,
    owners: Int64,
    names: Sequence[HeadName],
    seed: int,
) -> dict[HeadName, Tuned]:
    """All on the same labelled rows and the same folds. `owners` [N] are numbers."""
    folds = folds_of(owners, labels, seed)
    fitted = {}
    for name in names:
        values = blocks[name.reads]
        if name.kind == "linear":
            fitted[name] = tuned_linear(values, labels, classes, folds)
        else:
            seen = values[:, :MOST_OF_CLICKS] if name.reads == "clicks" else values
            fitted[name] = tuned_trees(seen, labels, classes, folds, seed)
    return fitted

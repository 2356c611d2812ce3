"""Heads with settings chosen by cross-validation on labelled rows alone, as many settings for each kind.

Folds don't part the rows of one visitor or customer. The setting with the least mean log loss on held-out
rows is fitted again on all of them. N rows, F features, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float64, Int64
from streamer.models.fused.heads import Head, LinearHead, Scaling, TreesHead, log_softmax

FOLDS = 4
PENALTIES = tuple(np.geomspace(10.0, 1e-4, 12).tolist())
"""Times half the squared length of the weights, beside the mean loss of a row."""
LEAVES = ((3, 5), (6, 10), (12, 20))
"""Most leaves of a tree, fewest rows of a leaf."""
ROUNDS = (10, 20, 40, 80)
RATE = 0.15
BINS = 63
"""Values of a column that trees tell apart: with few rows more of them cost time and gain nothing."""
SHARPNESSES = tuple(np.geomspace(0.125, 8.0, 49).tolist())
RAREST = 1e-3
"""Probability given to a class that no row to learn from had."""
_MOST_STEPS = 300

Folds = Sequence[tuple[Int64, Int64]]
"""(rows to fit on, rows held out)"""
Candidates = Callable[[Float64, Int64, Float64], list[Float64]]
"""Of each setting the log probabilities of rows held out, fitted on others."""


@dataclass(frozen=True, slots=True)
class Tuned:
    head: Head
    held_out: Float64
    """[N, K]: log probabilities of each labelled row by heads that haven't seen it, as in cross-validation"""


def folds_of(owners: Int64, labels: Int64, seed: int) -> Folds:
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is missing in some, which `_aligned` deals with.
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(np.zeros(len(labels)), labels, owners))


def tuned_linear(values: Float64, labels: Int64, classes: int, folds: Folds) -> Tuned:
    def candidates(x: Float64, y: Int64, held: Float64) -> list[Float64]:
        return [head.log_probabilities(held) for head in _linear_path(x, y, classes, PENALTIES)]

    best, held_out = _chosen(values, labels, classes, folds, candidates)
    (head,) = _linear_path(values, labels, classes, PENALTIES[best : best + 1])
    return Tuned(head, held_out)


def tuned_trees(values: Float64, labels: Int64, classes: int, folds: Folds, seed: int) -> Tuned:
    def candidates(x: Float64, y: Int64, held: Float64) -> list[Float64]:
        found = []
        for leaves, fewest in LEAVES:
            trees = _trees(x, y, leaves, fewest, ROUNDS[-1], seed)
            staged = enumerate(trees.staged_predict_proba(held), start=1)
            found += [
                _aligned(np.log(chances), trees.classes_, classes) for n, chances in staged if n in ROUNDS
            ]
        return found

    with threadpool_limits(1):
        best, held_out = _chosen(values, labels, classes, folds, candidates)
        leaves, fewest = LEAVES[best // len(ROUNDS)]
        trees = _trees(values, labels, leaves, fewest, ROUNDS[best % len(ROUNDS)], seed)
    return Tuned(exported(trees, classes), held_out)


def sharpness_of(held_out: Float64, labels: Int64) -> float:
    """What log probabilities [N, K] are best multiplied by: heads that are averaged become too cautious."""
    return float(
        min(SHARPNESSES, key=lambda sharpness: log_loss_of(log_softmax(sharpness * held_out), labels))
    )


def log_loss_of(logs: Float64, labels: Int64) -> float:
    """In nats, of normalized log probabilities [N, K]."""
    return -float(np.take_along_axis(logs, labels[:, None], axis=1).mean())


def exported(trees: HistGradientBoostingClassifier, classes: int) -> TreesHead:
    """scikit-learn's trees as arrays. Two classes have one tree a round, which adds to the second's logit."""
    nodes: list[Any] = []
    root_class: list[int] = []
    binary = len(trees.classes_) == 2
    for of_round in trees._predictors:
        for place, tree in enumerate(of_round):
            nodes.append(tree.nodes)
            root_class.append(int(trees.classes_[1 if binary else place]))
    sizes = [len(each) for each in nodes]
    roots = np.array([0, *accumulate(sizes[:-1])], dtype=np.int64)
    flat = np.concatenate(nodes)
    shift = np.repeat(roots, sizes)
    leaf = flat["is_leaf"].astype(bool)
    baseline = np.full(classes, np.log(RAREST))
    baseline[trees.classes_] = [0.0, *trees._baseline_prediction[0]] if binary else trees._baseline_prediction
    return TreesHead(
        feature=np.where(leaf, 0, flat["feature_idx"]).astype(np.int64),
        # Infinity stands in no JSON; nothing finite is above the largest number either.
        threshold=np.minimum(flat["num_threshold"], np.finfo(np.float64).max),
        missing_left=flat["missing_go_to_left"].astype(bool),
        left=np.where(leaf, -1, flat["left"].astype(np.int64) + shift),
        right=np.where(leaf, -1, flat["right"].astype(np.int64) + shift),
        value=flat["value"].astype(np.float64),
        roots=roots,
        root_class=np.array(root_class, dtype=np.int64),
        baseline=baseline,
    )


def _chosen(
    values: Float64, labels: Int64, classes: int, folds: Folds, candidates: Candidates
) -> tuple[int, Float64]:
    """The best setting's place, and the log probabilities that it gave to rows held out."""
    by_setting: list[Float64] = []
    for fitted, held in folds:
        if len(np.unique(labels[fitted])) < 2:
            only = np.full((len(held), classes), np.log(RAREST))
            only[:, labels[fitted[0]]] = 0.0
            found = [log_softmax(only)] * (len(by_setting) or len(PENALTIES))
        else:
            found = candidates(values[fitted], labels[fitted], values[held])
        if not by_setting:
            by_setting = [np.zeros((len(labels), classes)) for _ in found]
        for all_rows, of_fold in zip(by_setting, found, strict=True):
            all_rows[held] = of_fold
    best = int(np.argmin([log_loss_of(logs, labels) for logs in by_setting]))
    return best, by_setting[best]


def _linear_path(
    values: Float64, labels: Int64, classes: int, penalties: Sequence[float]
) -> list[LinearHead]:
    """One head a penalty, each started from the one before."""
    scaling = Scaling.fit(values)
    x = scaling.apply(values)
    model = LogisticRegression(warm_start=True, max_iter=_MOST_STEPS)
    heads = []
    # The weakest penalties needn't converge: they are there to be turned down.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in penalties:
            model.set_params(C=1.0 / (penalty * len(labels))).fit(x, labels)
            weights = np.zeros((x.shape[1], classes))
            bias = np.full(classes, np.log(RAREST))
            if len(model.classes_) == 2:
                weights[:, model.classes_[1]] = model.coef_[0]
                bias[model.classes_] = [0.0, model.intercept_[0]]
            else:
                weights[:, model.classes_] = model.coef_.T
                bias[model.classes_] = model.intercept_
            heads.append(LinearHead(scaling, weights, bias))
    return heads


def _trees(
    values: Float64, labels: Int64, leaves: int, fewest: int, rounds: int, seed: int
) -> HistGradientBoostingClassifier:
    trees = HistGradientBoostingClassifier(
        learning_rate=RATE,
        max_iter=rounds,
        max_leaf_nodes=leaves,
        min_samples_leaf=fewest,
        l2_regularization=1.0,
        early_stopping=False,
        max_bins=BINS,
        random_state=seed,
    )
    # scikit-learn has no bins for a column in which all is missing.
    return trees.fit(np.where(np.isfinite(values).any(axis=0), values, 0.0), labels)


def _aligned(logs: Float64, present: Int64, classes: int) -> Float64:
    """[N, K] of log probabilities of the classes that were `present`."""
    all_classes = np.full((len(logs), classes), np.log(RAREST))
    all_classes[:, present] = np.maximum(logs, -30.0)
    return log_softmax(all_classes)

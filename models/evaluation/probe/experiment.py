"""The probe: contenders at several numbers of labels, over several draws, and the fused scorer of all rows.

Each draw parts visitors or customers anew, a quarter of them for testing, and takes labels among the others:
shares of classes as they are, but at least FEWEST_OF_CLASS of each, and first one row of everybody. Heads,
their settings, and what the columns are come from these labelled rows alone; which n-grams there are, from
all training rows, for that needs no labels. So a draw's test rows have no part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.bootstrap import Estimate, Resampled, cluster_numbers, interval
from streamer.models.evaluation.probe.contenders import (
    BY_CONCATENATION,
    BY_MEMBERSHIPS,
    CONTENDERS,
    FUSED,
    FUSED_WITH_MEMBERSHIPS,
    HAND,
    OWN,
    OWN_FUSED,
    Choice,
    fitted_heads,
    heads_of,
    scores,
    settled,
)
from streamer.models.evaluation.probe.intervals import (
    RESAMPLED,
    Metric,
    Resampling,
    ScoredDraw,
    auc,
    log_loss,
)
from streamer.models.evaluation.probe.rows import ProbeRows
from streamer.models.fused.encodings import ClickEncoding, FeatureEncoding
from streamer.models.fused.scorer import Block, FusedScorer, WeightedHead, blocks_of, faded

LABELS = (50, 100, 400)
DRAWS = 8
FEWEST_OF_CLASS = 5
PARTS = 4
"""One of them is for testing."""

METRICS: Mapping[str, Metric] = {"auc": auc, "log_loss": log_loss}
Show = Callable[[str, int, int, str], None]
"""(step, done, total, note)"""
ByContender = dict[str, list[ScoredDraw]]


@dataclass(frozen=True, slots=True)
class ProbePlan:
    labels: tuple[int, ...] = LABELS
    """Numbers of labels beside all; those that training rows don't have are left out."""
    draws: int = DRAWS
    seed: int = 0
    concatenated: bool = False
    resampled: int = RESAMPLED


def probe(rows: ProbeRows, plan: ProbePlan, show: Show) -> dict[str, Any]:
    """Metrics of every contender by number of labels, gains with intervals, and the verdict.

    `all` labels are those of a draw's training rows, on average.
    """
    contenders = {
        **CONTENDERS,
        **(BY_CONCATENATION if plan.concatenated else {}),
        **(BY_MEMBERSHIPS if rows.memberships is not None else {}),
    }
    owners = cluster_numbers(rows.owners)
    parts = [_parted(owners, rows.labels, plan.seed + draw) for draw in range(plan.draws)]
    fewest = min(len(train) for train, _ in parts)
    counts = [count for count in sorted(set(plan.labels)) if count < fewest]
    tested: dict[int | None, ByContender] = {count: {} for count in (*counts, None)}
    for draw, (train, test) in enumerate(parts):
        clicks = ClickEncoding.fit([rows.inputs.sessions[row] for row in train.tolist()])
        encoded = clicks.encode(rows.inputs.sessions, rows.inputs.at)
        ordered = _by_occurrence(owners, train, np.random.default_rng((plan.seed, draw)))
        for count, found in tested.items():
            taken = train if count is None else labelled_rows(ordered, rows.labels, count)
            for name, result in _measured(rows, owners, encoded, taken, test, contenders, draw).items():
                found.setdefault(name, []).append(result)
        show("probe", draw + 1, plan.draws, f"{len(train):,} rows to learn from, {len(test):,} to test on")
    resampling = Resampling.of(int(owners.max()) + 1, plan.draws, plan.seed, plan.resampled)
    all_labels = round(float(np.mean([len(train) for train, _ in parts])))
    levels = [_level(count or all_labels, count is None, by, resampling) for count, by in tested.items()]
    classes = Counter(rows.labels.tolist())
    return {
        "rows": len(rows.labels),
        "owners": int(owners.max()) + 1,
        "left_out": dict(rows.left_out),
        "classes": {name: classes[place] for place, name in enumerate(rows.classes)},
        "draws": plan.draws,
        "levels": levels,
        "verdict": verdict(levels),
    }


def fused_scorer(rows: ProbeRows, seed: int = 0) -> FusedScorer:
    """Hand fused with embedding, from all rows."""
    owners = cluster_numbers(rows.owners)
    features = FeatureEncoding.fit(rows.inputs.columns, range(len(rows.labels)))
    clicks = ClickEncoding.fit(rows.inputs.sessions)
    names = heads_of([CONTENDERS[FUSED]])
    encoded = clicks.encode(rows.inputs.sessions, rows.inputs.at)
    blocks = blocks_of(features.encode(rows.inputs.columns), encoded, faded(rows.inputs))
    fitted = fitted_heads(blocks, rows.labels, len(rows.classes), owners, names, seed)
    weights, sharpness = settled(fitted, CONTENDERS[FUSED], rows.labels)
    return FusedScorer(
        classes=rows.classes,
        within_ms=rows.within_ms,
        embedding_space=rows.embedding_space,
        features=features,
        clicks=clicks,
        heads=tuple(
            WeightedHead(name.reads, weights[name], fitted[name].head)
            for name in names
            if weights[name] > 0.0
        ),
        sharpness=sharpness,
    )


def verdict(levels: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: what fusing the embedding with everything made by hand gains at each number of labels."""
    parts = [_gain_in_words(level) for level in levels]
    return f"Fused with the embedding, hand-made features and n-grams {'; '.join(parts)}."


def _gain_in_words(level: Mapping[str, Any]) -> str:
    gain = level["gain"]["auc"]
    of = f"all {level['labels']:,}" if level["all"] else f"{level['labels']:,}"
    figures = f"AUC {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    if gain["low"] > 0.0:
        return f"gain at {of} labels ({figures})"
    if gain["high"] < 0.0:
        return f"lose at {of} labels ({figures})"
    return f"gain nothing that shows at {of} labels ({figures})"


def _parted(owners: Int64, labels: Int64, seed: int) -> tuple[Int64, Int64]:
    """Rows to learn from and rows to test on, with about the same shares of classes."""
    splitter = StratifiedGroupKFold(PARTS, shuffle=True, random_state=seed)
    train, test = next(iter(splitter.split(np.zeros(len(labels)), labels, owners)))
    return train, test


def _by_occurrence(owners: Int64, rows: Int64, rng: np.random.Generator) -> Int64:
    """The rows at random, but everybody's first before anybody's second."""
    shuffled = rng.permutation(rows)
    seen: Counter[int] = Counter()
    occurrence = []
    for owner in owners[shuffled].tolist():
        occurrence.append(seen[owner])
        seen[owner] += 1
    return shuffled[np.argsort(occurrence, kind="stable")]


def labelled_rows(ordered: Int64, labels: Int64, count: int) -> Int64:
    """About `count` of the first of `ordered` in each class, rising."""
    places, of_class = np.unique(labels[ordered], return_counts=True)
    quotas = np.maximum(np.round(count * of_class / len(ordered)).astype(int), FEWEST_OF_CLASS)
    quotas[np.argmax(of_class)] -= quotas.sum() - count
    chosen = [ordered[labels[ordered] == k][:quota] for k, quota in zip(places, quotas, strict=True)]
    return np.sort(np.concatenate(chosen))


def _measured(
    rows: ProbeRows,
    owners: Int64,
    clicks: Float64,
    taken: Int64,
    test: Int64,
    contenders: Mapping[str, Choice],
    seed: int,
) -> dict[str, ScoredDraw]:
    features = FeatureEncoding.fit(rows.inputs.columns, taken.tolist())
    blocks = blocks_of(features.encode(rows.inputs.columns), clicks, faded(rows.inputs))
    blocks |= _of_memberships(rows)
    names = heads_of(contenders.values())
    labels = rows.labels[taken]
    learnt = {reads: values[taken] for reads, values in blocks.items()}
    fitted = fitted_heads(learnt, labels, len(rows.classes), owners[taken], names, seed)
    others = {reads: values[test] for reads, values in blocks.items()}
    return {
        name: ScoredDraw(owners[test], rows.labels[test], logs)
        for name, logs in scores(fitted, contenders, labels, others).items()
    }


def _of_memberships(rows: ProbeRows) -> dict[Block, Float64]:
    """Faded as the embedding is, alone and beside it."""
    if rows.memberships is None:
        return {}
    both = np.concatenate([rows.inputs.embeddings, rows.memberships], axis=1)
    return {
        "memberships": faded(replace(rows.inputs, embeddings=rows.memberships)),
        "embedding+memberships": faded(replace(rows.inputs, embeddings=both)),
    }


def _level(
    labels: int, is_all: bool, tested: Mapping[str, Sequence[ScoredDraw]], resampling: Resampling
) -> dict[str, Any]:
    """Of one number of labels: metrics by contender, and what fusing gains, positive if it is better."""
    found = {
        metric: {name: resampling.apply(draws, formula) for name, draws in tested.items()}
        for metric, formula in METRICS.items()
    }
    return {
        "labels": labels,
        "all": is_all,
        "contenders": {
            name: {metric: by_name[name].estimate().as_dict() for metric, by_name in found.items()}
            for name in tested
        },
        "gain": _gain(found, FUSED, HAND),
        "gain_over_features": _gain(found, OWN_FUSED, OWN),
        **(
            {"gain_of_memberships": _gain(found, FUSED_WITH_MEMBERSHIPS, FUSED)}
            if FUSED_WITH_MEMBERSHIPS in tested
            else {}
        ),
    }


def _gain(
    found: Mapping[str, Mapping[str, Resampled]], contender: str, floor: str
) -> dict[str, dict[str, float]]:
    return {
        metric: _difference(
            by_name[contender], by_name[floor], -1.0 if metric == "log_loss" else 1.0
        ).as_dict()
        for metric, by_name in found.items()
    }


def _difference(contender: Resampled, floor: Resampled, sign: float) -> Estimate:
    return interval(sign * (contender.value - floor.value), sign * (contender.draws - floor.draws))

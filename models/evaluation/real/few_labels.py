"""What an embedding adds to a team's own models on real clicks, from few labels to all of them.

Contenders, heads and their tuning are the probe's: trees and logistic regressions on hand-made features and
on n-grams, the mean of the four (`hand`), the embedding alone, and both fused by averaged logits. Visitors
that are tested on have no part in anything else: encoders are pretrained on the others' sessions, without
labels, and labels are drawn among the others. Intervals are over visitors, draws of labels and seeds of
pretraining at once. An ensemble is the mean log odds of what the seeds give. N rows, one a visitor; B of them
tested on; S seeds, D draws, R resamplings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.bootstrap import Resampled, interval
from streamer.models.evaluation.metrics import auroc
from streamer.models.evaluation.probe.contenders import CONTENDERS as OF_PROBE
from streamer.models.evaluation.probe.contenders import (
    EMBEDDING,
    FUSED,
    HAND,
    PARTS_OF_HAND,
    Choice,
    blend,
    fitted_heads,
    heads_of,
    scores,
)
from streamer.models.evaluation.probe.experiment import labelled_rows
from streamer.models.evaluation.probe.intervals import Resampling, ScoredDraw, auc
from streamer.models.evaluation.probe.tuning import Tuned
from streamer.models.evaluation.real.clickstreams import embedded, pretrained_on
from streamer.models.evaluation.result_store import Arrays, ResultStore
from streamer.models.fused.encodings import ClickEncoding, Columns, FeatureEncoding
from streamer.models.fused.scorer import Block
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.encoder import MEAN_MAX_LAST, Encoder
from streamer.models.training.objectives import Objectives
from streamer.models.training.pretrain import shape_of
from streamer.models.visitor_splits import TRAIN_BELOW, VALIDATION_BELOW, percent_of
from streamer.schemas.click import Session

RESAMPLED = 1_000
AVERAGED: Final = "hand averaged with embedding"
"""In equal shares; the share of `FUSED` is chosen on the labelled rows."""
NESTED: Final = "hand and embedding, nested share"
"""The share of each part is the one that is best for the ensemble on the rows tested in the other parts.
Their models learnt from this part's rows, and it has seen all labels, however few the heads have."""
OF_ENSEMBLES = (EMBEDDING, AVERAGED, NESTED)
NESTED_SHARES = tuple(np.linspace(0.0, 0.75, 7).tolist())
EMBEDDING_HEAD = heads_of([OF_PROBE[EMBEDDING]])[0]
BY_HAND: Mapping[str, Choice] = {name: OF_PROBE[name] for name in (*PARTS_OF_HAND, HAND)}
WITH_EMBEDDING: Mapping[str, Choice] = {
    EMBEDDING: OF_PROBE[EMBEDDING],
    AVERAGED: [blend(OF_PROBE[HAND][0], {EMBEDDING_HEAD: 1.0})],
    FUSED: OF_PROBE[FUSED],
}
_TOKENIZER = "tokenizer.json"
Vectors = Mapping[str, Sequence[Float64]]
"""By recipe, for each seed [N, E]."""
Odds = dict[str, Float64]
"""By contender the log odds of test rows, [S, D, B]; of what no seed has a part in, [1, D, B]."""


class Part(NamedTuple):
    """Which visitors are tested on and which are learnt from, by the percent of their hash."""

    tested: tuple[int, int]
    """From, below."""
    below: int = 100
    """No others take part."""

    def learns(self, visitor_id: str) -> bool:
        percent = percent_of(visitor_id)
        return percent < self.below and not self.tested[0] <= percent < self.tested[1]

    def tests(self, visitor_id: str) -> bool:
        return self.tested[0] <= percent_of(visitor_id) < self.tested[1]


FIVE_FOLDS = tuple(Part((20 * fold, 20 * fold + 20)) for fold in range(5))
TEST = (Part((VALIDATION_BELOW, 100)),)
VALIDATION = (Part((TRAIN_BELOW, VALIDATION_BELOW), VALIDATION_BELOW),)
"""Where recipes are chosen; test visitors have no part in it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    overrides: Mapping[str, Any]
    whole: bool = True
    """All that the encoder reads out; else the mean alone."""
    times: int = 1
    """Its epochs, to those of the site."""

    def settings(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the site, with what this recipe has in their place."""
        epochs = {"epochs": self.times * training["epochs"]} if self.times > 1 else {}
        return {**training, **self.overrides, **epochs}


@dataclass(frozen=True, slots=True)
class RealTask:
    """Rows of one clickstream: the beginning of a session each, and whether something happened later."""

    name: str
    beginnings: Sequence[Session]
    """[N]: what the encoder reads"""
    by_hand: Sequence[Session]
    """[N]: the same clicks as n-grams are made of them"""
    columns: Columns
    """Hand-made features."""
    labels: Int64
    """[N]: 0 or 1"""
    whole: Sequence[Session]
    """What encoders are pretrained on, of all visitors"""

    def rows(self, part: Part) -> tuple[Int64, Int64]:
        """To learn from, to test on."""
        visitors = [session.visitor_id for session in self.beginnings]
        return (
            np.flatnonzero([part.learns(visitor) for visitor in visitors]),
            np.flatnonzero([part.tests(visitor) for visitor in visitors]),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    parts: tuple[Part, ...]
    """Tested on one after the other, and pooled."""
    counts: tuple[int | None, ...]
    """Numbers of labels; None: all."""
    training: Mapping[str, Any]
    """Settings of the encoder of this site, whatever the recipe."""
    recipes: Mapping[str, Recipe]
    seeds: tuple[int, ...] = (1, 2, 3)
    draws: int = 8
    resampled: int = RESAMPLED
    ensembles: bool = False
    """Also of each recipe the ensemble of its seeds: alone, `AVERAGED`, and of several parts `NESTED`."""

    def as_config(self) -> dict[str, Any]:
        """All that results depend on besides the rows."""
        return {**self.of_odds(), "ensembles": True} if self.ensembles else self.of_odds()

    def of_odds(self) -> dict[str, Any]:
        """All that log odds depend on besides the rows."""
        recipes = {
            name: [
                training_runs.encoder_facts(TrainConfig(**each.settings(self.training))),
                each.whole,
            ]
            for name, each in self.recipes.items()
        }
        return {
            "parts": [list(part) for part in self.parts],
            "counts": list(self.counts),
            "recipes": recipes,
            "seeds": list(self.seeds),
            "draws": self.draws,
            "resampled": self.resampled,
        }


def measured(task: RealTask, plan: Plan, store: ResultStore) -> dict[str, Any]:
    """AUC of every contender by number of labels, and what each gains over `hand`."""
    parts = plan.parts
    rows = [task.rows(part) for part in parts]
    labels = np.concatenate([task.labels[tested] for _, tested in rows])
    part_of = np.repeat(np.arange(len(parts)), [len(tested) for _, tested in rows])
    every = round(np.mean([len(learnt) for learnt, _ in rows]))
    vectors = [_vectors(task, part, plan, store) for part in parts]
    levels = []
    for count in plan.counts:
        odds = [
            _stored_odds(task, part, of_part, count, plan, store)
            for part, of_part in zip(parts, vectors, strict=True)
        ]
        pooled = {name: np.concatenate([each[name] for each in odds], axis=2) for name in odds[0]}
        if plan.ensembles and len(parts) > 1:
            for recipe in plan.recipes:
                embedding = pooled[f"{EMBEDDING}: {recipe}"]
                pooled[f"{NESTED}: {recipe}"] = _nested(pooled[HAND], embedding, labels, part_of)
        levels.append({"labels": count or every, "all": count is None, **_compared(pooled, labels, plan)})
    return {
        "rows": len(task.labels),
        "tested": len(labels),
        "positive_share": float(task.labels.mean()),
        "folds": len(parts),
        "seeds": len(plan.seeds),
        "draws": plan.draws,
        "levels": levels,
    }


def _vectors(task: RealTask, part: Part, plan: Plan, store: ResultStore) -> Vectors:
    found = {}
    for name, recipe in plan.recipes.items():
        settings = recipe.settings(plan.training)
        of_seeds = [_encoded(task, part, settings, seed, store) for seed in plan.seeds]
        width = of_seeds[0].shape[1] // (1 if recipe.whole else 3)
        found[name] = [values[:, :width] for values in of_seeds]
    return found


def _encoded(
    task: RealTask, part: Part, settings: Mapping[str, Any], seed: int, store: ResultStore
) -> Float64:
    """[N, 3D], the mean first. Three readouts, unless the settings name another."""
    config = TrainConfig(**{"seed": seed, "readout": MEAN_MAX_LAST, **settings})
    encoder, _, tokenizer = stored_encoder(task.name, task.whole, part, config, store)
    return embedded(encoder, tokenizer, task.beginnings, config.threads)


def stored_encoder(
    site: str, whole: Sequence[Session], part: Part, config: TrainConfig, store: ResultStore
) -> tuple[Encoder, Objectives, Tokenizer]:
    """Pretrained on no session of a visitor who is tested on."""

    def compute() -> Arrays:
        learnt = [session for session in whole if part.learns(session.visitor_id)]
        trained, tokenizer = pretrained_on(learnt, config)
        modules = nn.ModuleDict({"encoder": trained.encoder, "objectives": trained.objectives})
        weights = {name: tensor.numpy() for name, tensor in modules.state_dict().items()}
        return {_TOKENIZER: np.frombuffer(tokenizer.to_json().encode(), np.uint8), **weights}

    facts = {"part": list(part), "seed": config.seed, "of": training_runs.pretraining_facts(config)}
    arrays = store.arrays(f"real-encoder-{site}", facts, compute)
    tokenizer = Tokenizer.from_json(arrays.pop(_TOKENIZER).tobytes())
    encoder = Encoder(shape_of(tokenizer, config))
    objectives = Objectives(encoder, config)
    modules = nn.ModuleDict({"encoder": encoder, "objectives": objectives})
    modules.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return encoder.eval(), objectives.eval(), tokenizer


def _stored_odds(
    task: RealTask, part: Part, vectors: Vectors, count: int | None, plan: Plan, store: ResultStore
) -> Odds:
    config = {**plan.of_odds(), "parts": [list(part)], "counts": [count]}
    facts = {"task": task.name, **config}
    return store.arrays("real-odds", facts, lambda: _odds(task, part, vectors, count, plan))


def _odds(task: RealTask, part: Part, vectors: Vectors, count: int | None, plan: Plan) -> Odds:
    train, test = task.rows(part)
    clicks = ClickEncoding.fit([task.by_hand[row] for row in train.tolist()])
    at = np.array([session.ended_at for session in task.by_hand], dtype=np.int64)
    encoded = clicks.encode(task.by_hand, at)
    found: dict[str, list[Float64]] = {}
    # All labels are the same however often they are drawn.
    for draw in range(plan.draws if count is not None else 1):
        rng = np.random.default_rng((draw, part.tested[0]))
        taken = train if count is None else labelled_rows(rng.permutation(train), task.labels, count)
        features = FeatureEncoding.fit(task.columns, taken.tolist()).encode(task.columns)
        for name, odds in _of_draw(task.labels, features, encoded, vectors, taken, test, draw).items():
            found.setdefault(name, []).append(odds)
    return {name: np.stack(each, axis=1) for name, each in found.items()}


def _of_draw(
    labels: Int64,
    features: Float64,
    clicks: Float64,
    vectors: Vectors,
    taken: Int64,
    test: Int64,
    draw: int,
) -> Odds:
    """[S, B], or [1, B] of `hand`."""
    own: dict[Block, Float64] = {"features": features, "clicks": clicks}
    asked = {reads: values[test] for reads, values in own.items()}
    by_hand = _fitted(own, labels, taken, BY_HAND, draw)
    found = {
        name: _log_odds(logs)[None] for name, logs in scores(by_hand, BY_HAND, labels[taken], asked).items()
    }
    for recipe, of_seeds in vectors.items():
        by_seed = []
        for values in of_seeds:
            more = _fitted({"embedding": values}, labels, taken, {EMBEDDING: WITH_EMBEDDING[EMBEDDING]}, draw)
            blocks: dict[Block, Float64] = {**asked, "embedding": values[test]}
            by_seed.append(scores({**by_hand, **more}, WITH_EMBEDDING, labels[taken], blocks))
        for name in WITH_EMBEDDING:
            found[f"{name}: {recipe}"] = np.stack([_log_odds(each[name]) for each in by_seed])
    return found


def _fitted(
    blocks: Mapping[Block, Float64], labels: Int64, taken: Int64, contenders: Mapping[str, Choice], seed: int
) -> dict[Any, Tuned]:
    """The folds are the same for all of a draw, for visitors have one row each."""
    learnt = {reads: values[taken] for reads, values in blocks.items()}
    names = heads_of(contenders.values())
    return fitted_heads(learnt, labels[taken], 2, np.arange(len(taken)), names, seed)


def _log_odds(logs: Float64) -> Float64:
    return logs[:, 1] - logs[:, 0]


def _compared(odds: Odds, labels: Int64, plan: Plan) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(plan.seeds), size=(plan.resampled, len(plan.seeds)))
    draws = rng.integers(plan.draws, size=(plan.resampled, plan.draws))
    resampled = {name: _resampled(each, labels, seeds, draws) for name, each in odds.items()}
    if plan.ensembles:
        for name in (f"{each}: {recipe}" for each in OF_ENSEMBLES for recipe in plan.recipes):
            if name in odds:
                ensemble = _ensemble(odds[name], labels, seeds, draws)
                resampled[f"{name}, ensemble of {len(plan.seeds)} seeds"] = ensemble
    hand = resampled[HAND]
    return {
        "auc": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "gain_over_hand": {
            name: interval(each.value - hand.value, each.draws - hand.draws).as_dict()
            for name, each in resampled.items()
            if name not in BY_HAND
        },
    }


def _resampled(odds: Float64, labels: Int64, seeds: Int64, draws: Int64) -> Resampled:
    """Under draws of visitors, of seeds [R, S] and of labels [R, D], the same for all contenders."""
    of_seeds, of_draws, rows = odds.shape
    tested = [
        ScoredDraw(np.arange(rows), labels, np.stack([np.zeros(rows), each], axis=1))
        for each in odds.reshape(-1, rows)
    ]
    chosen = (seeds % of_seeds)[:, :, None] * of_draws + (draws % of_draws)[:, None, :]
    return Resampling(rows, chosen.reshape(len(seeds), -1), 0).apply(tested, auc)


def _nested(hand: Float64, embedding: Float64, labels: Int64, part_of: Int64) -> Float64:
    """[S, D, B] of log odds [1, D, B] and [S, D, B]; `part_of` [B] says in which part a row is tested."""
    ensemble = embedding.mean(axis=0)
    found = np.empty_like(embedding)
    for part in np.unique(part_of):
        others = part_of != part

        def tried(share: float, others: Bool = others) -> float:
            odds = (1.0 - share) * hand[0] + share * ensemble
            return float(np.mean([auroc(each[others], labels[others] == 1) for each in odds]))

        share = max(NESTED_SHARES, key=tried)
        found[..., ~others] = ((1.0 - share) * hand + share * embedding)[..., ~others]
    return found


def _ensemble(odds: Float64, labels: Int64, seeds: Int64, draws: Int64) -> Resampled:
    """As `_resampled`, of the mean log odds of the seeds.

    Of a resampling's members some are the same, so that its intervals lie lower than those of other ensembles
    of as many would.
    """
    count = len(odds)
    choices = list(combinations_with_replacement(range(count), seeds.shape[1]))
    place = {choice: at for at, choice in enumerate(choices)}
    chosen = np.array([[place[tuple(sorted(members))]] for members in seeds.tolist()])
    means = np.stack([odds[list(choice)].mean(axis=0) for choice in choices])
    whole = _resampled(odds.mean(axis=0, keepdims=True), labels, np.zeros_like(chosen[:1]), draws[:1])
    return Resampled(whole.value, _resampled(means, labels, chosen, draws).draws)

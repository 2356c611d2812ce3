"""eshop2008: which product is looked at next in a session cut at a fixed random place, by mean reciprocal
rank.

The floor is a table of transitions from the last product, smoothed by how popular products are, or from the
last two, smoothed by the first: the better of them. Against it: what a causal encoder expects, and both by
averaged logs. Tables and share are chosen on validation visitors, of whom neither the tables nor that encoder
has seen anything; test visitors are scored once. N rows, V products, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.bootstrap import Resampled, interval
from streamer.models.evaluation.real.clickstreams import session_of
from streamer.models.evaluation.real.eshop2008 import cut_of
from streamer.models.evaluation.real.few_labels import RESAMPLED, TEST, VALIDATION, Part, stored_encoder
from streamer.models.evaluation.real.tasks import clicks_of_eshop2008
from streamer.models.evaluation.result_store import ResultStore
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.training.encoder import Encoder
from streamer.models.training.objectives import Objectives
from streamer.models.training.pretrain import deterministic
from streamer.schemas.click import Session

TABLE, CAUSAL, BOTH = "transition table", "causal head", "causal head and table"
SHARES = (0.0, 0.25, 0.5, 0.75)
"""That the causal head may have of the logs."""
SMOOTHING = (3.0, 10.0, 30.0)
"""Transitions that popularity counts for."""
BACKOFFS = (10.0, 30.0, 100.0)
"""Transitions from the last two products that those from the last one count for."""
_PRODUCT = LEARNT_FIELDS.index("product_id")
_RARE = 1e-6


class Order(NamedTuple):
    """Of a table of transitions."""

    smoothing: float
    backoff: float | None
    """None: from the last product alone."""


def evaluate(
    folder: Path, settings: Mapping[str, Any], seeds: Sequence[int], store: ResultStore
) -> dict[str, Any]:
    """`settings` of the encoders; the first seed's has a part in the choice."""
    by_visitor = clicks_of_eshop2008(folder)
    rows = {visitor: clicks for visitor, clicks in by_visitor.items() if len(clicks) > 1}
    cuts = {visitor: cut_of(visitor, clicks) for visitor, clicks in rows.items()}
    names = sorted({str(click.product_id) for clicks in by_visitor.values() for click in clicks})
    number = {name: place for place, name in enumerate(names)}
    viewed = {v: np.array([number[str(c.product_id)] for c in clicks]) for v, clicks in by_visitor.items()}
    begun = {visitor: viewed[visitor][:cut] for visitor, cut in cuts.items()}
    whole = [session_of(visitor, clicks) for visitor, clicks in by_visitor.items()]

    def scored(part: Part, seed: int) -> tuple[Int64, dict[Order, Float64], Float64]:
        """Answers [N], logs of the tables and logs of the causal head, [N, V]."""
        tested = [visitor for visitor in rows if part.tests(visitor)]
        config = TrainConfig(seed=seed, **settings)
        modules = stored_encoder("eshop2008_fields", whole, part, config, store)
        beginnings = [session_of(visitor, rows[visitor][: cuts[visitor]]) for visitor in tested]
        answers = np.array([viewed[visitor][cuts[visitor]] for visitor in tested])
        learnt = [ids for visitor, ids in viewed.items() if part.learns(visitor)]
        tables = _tables(learnt, [begun[visitor] for visitor in tested], len(names))
        return answers, tables, _expected(*modules, beginnings, names)

    answers, tables, expected = scored(VALIDATION[0], seeds[0])

    def tried(order: Order, share: float) -> float:
        return float(_reciprocal_ranks(_mixed(tables[order], expected, share), answers).mean())

    alone = max(tables, key=lambda each: tried(each, 0.0))
    fused, share = max(product(tables, SHARES), key=lambda each: tried(*each))
    ranks: dict[str, list[Float64]] = {TABLE: [], CAUSAL: [], BOTH: []}
    for seed in seeds:
        answers, tables, expected = scored(TEST[0], seed)
        ranks[TABLE].append(_reciprocal_ranks(tables[alone], answers))
        ranks[CAUSAL].append(_reciprocal_ranks(expected, answers))
        ranks[BOTH].append(_reciprocal_ranks(_mixed(tables[fused], expected, share), answers))
    resampled = {name: _resampled(np.stack(each)) for name, each in ranks.items()}
    floor = resampled[TABLE]
    return {
        "rows": {"test": len(answers)},
        "seeds": len(seeds),
        "chosen_on_validation": {
            TABLE: alone._asdict(),
            BOTH: {**fused._asdict(), "share": share},
        },
        "mrr": {name: each.estimate().as_dict() for name, each in resampled.items()},
        "gain_over_table": {
            name: interval(each.value - floor.value, each.draws - floor.draws).as_dict()
            for name, each in resampled.items()
            if name != TABLE
        },
    }


def _tables(learnt: Sequence[Int64], begun: Sequence[Int64], products: int) -> dict[Order, Float64]:
    """Of each table the logs [N, V] of what follows the beginnings."""
    found = {}
    last = np.array([ids[-1] for ids in begun])
    seen = _after_two(learnt, begun, products)
    for smoothing in SMOOTHING:
        after_last = _transitions(learnt, products, smoothing)[last]
        found[Order(smoothing, None)] = np.log(after_last)
        for backoff in BACKOFFS:
            of_both = seen + backoff * after_last
            found[Order(smoothing, backoff)] = np.log(of_both / of_both.sum(axis=1, keepdims=True))
    return found


def _after_two(learnt: Sequence[Int64], begun: Sequence[Int64], products: int) -> Float64:
    """[N, V]: how often each product followed the last two of a beginning; never, if that has but one."""
    counts = np.zeros((products, products, products))
    for ids in learnt:
        np.add.at(counts, (ids[:-2], ids[1:-1], ids[2:]), 1.0)
    none = np.zeros(products)
    return np.stack([counts[ids[-2], ids[-1]] if len(ids) > 1 else none for ids in begun])


def _transitions(learnt: Sequence[Int64], products: int, smoothing: float) -> Float64:
    """[V, V]: probability of the second after the first."""
    counts = np.zeros((products, products))
    for ids in learnt:
        np.add.at(counts, (ids[:-1], ids[1:]), 1.0)
    popular = counts.sum(axis=0) + 1.0
    smoothed = counts + smoothing * popular / popular.sum()
    chances: Float64 = smoothed / smoothed.sum(axis=1, keepdims=True)
    return chances


@torch.no_grad()
def _expected(
    encoder: Encoder,
    objectives: Objectives,
    tokenizer: Tokenizer,
    beginnings: Sequence[Session],
    names: Sequence[str],
) -> Float64:
    """[N, V] logs; a product that the tokenizer doesn't know has next to none."""
    ids = torch.tensor([tokenizer.vocabularies["product_id"].id_of(name) for name in names])
    known = ids >= tokenizer.vocabularies["product_id"].first_learnt
    logs = torch.full((len(beginnings), len(names)), float(np.log(_RARE)))
    with deterministic(1):
        for rows, tokens in Corpus.of(beginnings, tokenizer).in_order():
            of_values = objectives.next_value(encoder, tokens, _PRODUCT).log_softmax(1)
            logs[rows] = torch.where(known, of_values[:, ids], logs[rows])
    return logs.numpy().astype(np.float64)


def _mixed(table: Float64, expected: Float64, share: float) -> Float64:
    return (1.0 - share) * table + share * expected


def _reciprocal_ranks(logs: Float64, answers: Int64) -> Float64:
    """[N]; ties count as if half of them came before."""
    own = logs[np.arange(len(logs)), answers][:, None]
    ranks: Float64 = 1.0 + (logs > own).sum(axis=1) + ((logs == own).sum(axis=1) - 1) / 2.0
    return 1.0 / ranks


def _resampled(ranks: Float64) -> Resampled:
    """Of [S, N]: under draws of seeds and visitors, the same for all."""
    rng = np.random.default_rng(0)
    seeds, rows = ranks.shape
    draws = np.empty(RESAMPLED)
    for number in range(RESAMPLED):
        times = rng.multinomial(rows, np.full(rows, 1.0 / rows))
        draws[number] = ranks[rng.integers(seeds, size=seeds)].mean(axis=0) @ times / rows
    return Resampled(float(ranks.mean()), draws)

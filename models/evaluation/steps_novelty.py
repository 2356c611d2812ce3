"""Novelty: can the head tell sessions of intents that nobody showed it?

Rules: intents are held out in folds, from pretraining and labels alike; sessions with a held-out intent
next to a known one are on neither side. The score is that of the bundle's classifier; its AUROC is per
held-out intent, among test visitors, over sessions that the product would label at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.evaluation import trained
from models.evaluation.bootstrap import CONFIDENCE, Estimate, interval
from models.evaluation.calibrated import auroc
from models.evaluation.features import Floats
from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.reader import teach
from models.evaluation.splits import Ints
from models.evaluation.trained import Parts
from models.evaluation.world import Bools, World

FOLDS = 4
ACCURACY = 0.85
CLEAR_CLICKS = 2
SCORES = ("novelty", "doubt")
"""The classifier's distance to the nearest intent; and 1 - the best probability, for comparison."""


def novelty(lab: Laboratory) -> Json:
    seed = lab.scale.seeds[0]
    facts = {"small_sessions": lab.scale.small_sessions, "short_epochs": lab.scale.short_epochs}
    config = {**lab.of_features(seed), **facts, "folds": FOLDS, "accuracy": ACCURACY}

    def compute() -> Json:
        world = lab.world(seed)
        by_intent: dict[str, Json] = {}
        for fold in range(FOLDS):
            held_out = np.arange(len(world.names)) % FOLDS == fold
            scored = _scored(lab, world, held_out, fold)
            by_intent |= _aurocs(world, held_out, scored)
        rng = np.random.default_rng(0)
        means = {name: _mean([each[name] for each in by_intent.values()], rng).as_dict() for name in SCORES}
        return {"auroc": means, "by_intent": by_intent, "interval": f"{CONFIDENCE:.0%} over intents"}

    return lab.ledger.result("novelty", config, compute)


def _scored(lab: Laboratory, world: World, held_out: Bools, fold: int) -> dict[str, Floats]:
    """[S] each."""
    seed, sessions = lab.scale.seeds[0], world.sessions
    known = ~world.intents[:, held_out].any(axis=1)
    chosen = trained.train_config({"seed": seed, "epochs": lab.scale.short_epochs})
    config = {
        **lab.of_seed(seed),
        "small_sessions": lab.scale.small_sessions,
        "encoder": trained.encoder_facts(chosen),
        "fold": fold,
        "folds": FOLDS,
    }

    def compute() -> dict[str, Any]:
        return {"embedding": trained.embeddings(sessions, lab.small(seed) & known, chosen).astype(np.float32)}

    embedding = lab.ledger.arrays("held-out", config, compute)["embedding"].astype(np.float64)
    chances = lab.reading(seed)[:, ~held_out] + 1e-9
    labels = teach(chances / chances.sum(axis=1, keepdims=True), ACCURACY, np.random.default_rng(seed))
    parts = Parts.of(sessions)
    only = Parts(parts.train & known, parts.validation & known, parts.test)
    asked = trained.student(embedding, labels.soft, only, lab.scale.labelled, chosen, seed)
    return {"novelty": asked.novelty, "doubt": 1.0 - asked.probabilities.max(axis=1)}


def _aurocs(world: World, held_out: Bools, scored: dict[str, Floats]) -> dict[str, Json]:
    clear = np.array(
        [s.event_count >= CLEAR_CLICKS or any(c.search_query for c in s.clicks) for s in world.sessions]
    )
    test = Parts.of(world.sessions).test & clear
    known = test & ~world.intents[:, held_out].any(axis=1)
    strange = test & ~world.intents[:, ~held_out].any(axis=1)
    found = {}
    for intent in np.flatnonzero(held_out).tolist():
        rows: Ints = np.flatnonzero(known | (strange & (world.intent == intent)))
        positive = strange[rows]
        found[world.names[intent]] = {
            **{name: auroc(scored[name][rows], positive) for name in SCORES},
            "sessions": int(positive.sum()),
        }
    return found


def _mean(values: list[float], rng: np.random.Generator) -> Estimate:
    array = np.array(values)
    drawn = rng.integers(len(array), size=(2_000, len(array)))
    return interval(float(array.mean()), array[drawn].mean(axis=1))

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
from models.training.novelty import MOST_SESSIONS, PAGES, UNSEEN_SHARE, Surprising, surprising

FOLDS = 4
ACCURACY = 0.85
CLEAR_CLICKS = 2
SCORES = ("novelty", "distance", "doubt")
"""The classifier's; for comparison the distance to the nearest intent alone, and 1 - the best probability."""
NOT_CHOSEN_ON = (2, 3)
"""Folds whose intents had no part in choosing the score: that looked at validation visitors of the others."""


def novelty(lab: Laboratory) -> Json:
    seed = lab.scale.seeds[0]
    facts = {"small_sessions": lab.scale.small_sessions, "short_epochs": lab.scale.short_epochs}
    config = {**lab.of_features(seed), **facts, "folds": FOLDS, "accuracy": ACCURACY, "scores": list(SCORES)}

    def compute() -> Json:
        world = lab.world(seed)
        by_intent: dict[str, Json] = {}
        for fold in range(FOLDS):
            held_out = np.arange(len(world.names)) % FOLDS == fold
            scored = _scored(lab, world, held_out, fold)
            by_intent |= _aurocs(world, held_out, scored, fold)
        untouched = [each for each in by_intent.values() if each["fold"] in NOT_CHOSEN_ON]
        return {
            "auroc": _means(list(by_intent.values())),
            "auroc_not_chosen_on": _means(untouched),
            "by_intent": by_intent,
            "interval": f"{CONFIDENCE:.0%} over intents",
        }

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
        "labelled": lab.scale.labelled,
        "unusual": {"pages": list(PAGES), "unseen": UNSEEN_SHARE, "sessions": MOST_SESSIONS},
    }

    chances = lab.reading(seed)[:, ~held_out] + 1e-9
    labels = teach(chances / chances.sum(axis=1, keepdims=True), ACCURACY, np.random.default_rng(seed))
    parts = Parts.of(sessions)
    only = Parts(parts.train & known, parts.validation & known, parts.test)

    def compute() -> dict[str, Any]:
        embed = trained.embedder(sessions, lab.small(seed) & known, chosen)
        # The labels are those that the student gets.
        rng = np.random.default_rng(seed)
        given = trained.labels_of_some(labels.soft[only.train], lab.scale.labelled, rng)
        learnable = [s for s, learnt in zip(sessions, only.train.tolist(), strict=True) if learnt]
        found = surprising(learnable, given, embed, rng)
        return {
            "embedding": embed(sessions),
            "unusual": found.embeddings,
            "surprise": found.surprise,
            "real": np.array(found.real),
        }

    stored = lab.ledger.arrays("held-out", config, compute)
    unusual = Surprising(stored["unusual"], stored["surprise"], int(stored["real"]))
    embedding = stored["embedding"].astype(np.float64)
    asked = trained.student(embedding, labels.soft, only, lab.scale.labelled, chosen, seed, unusual)
    plain = trained.student(embedding, labels.soft, only, lab.scale.labelled, chosen, seed)
    return {
        "novelty": asked.novelty,
        "distance": plain.novelty,
        "doubt": 1.0 - asked.probabilities.max(axis=1),
    }


def _aurocs(world: World, held_out: Bools, scored: dict[str, Floats], fold: int) -> dict[str, Json]:
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
            "fold": fold,
        }
    return found


def _means(rows: list[Json]) -> Json:
    rng = np.random.default_rng(0)
    return {name: _mean([each[name] for each in rows], rng).as_dict() for name in SCORES}


def _mean(values: list[float], rng: np.random.Generator) -> Estimate:
    array = np.array(values)
    drawn = rng.integers(len(array), size=(2_000, len(array)))
    return interval(float(array.mean()), array[drawn].mean(axis=1))

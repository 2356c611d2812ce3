"""Novelty: does the head detect sessions of intents it has never seen?

Rules: intents are held out in folds, from pretraining and labels alike; sessions with a held-out intent
beside a known one are left out. The score is that of the bundle's classifier; its AUROC is per
held-out intent, among test visitors, over sessions that the product would label at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.bootstrap import CONFIDENCE, Estimate, interval
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.metrics import auroc
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.models.evaluation.simulated_teacher import teach
from streamer.models.evaluation.training_runs import SplitMasks
from streamer.models.training.config import for_simulated_bank
from streamer.models.training.novelty import MOST_SESSIONS, PAGES, UNSEEN_SHARE, Embed, Surprising, surprising
from streamer.schemas.click import Session

FOLDS = 4
ACCURACY = 0.85
CLEAR_CLICKS = 2
SCORES = ("novelty", "distance", "doubt")
"""The classifier's; for comparison the distance to the nearest intent alone, and 1 - the best probability."""
NOT_CHOSEN_ON = (2, 3)
"""Folds whose intents had no part in choosing the score: that looked at validation visitors of the others."""


def novelty(experiment: Experiment) -> Json:
    seed = experiment.scale.seeds[0]
    facts = {"small_sessions": experiment.scale.small_sessions, "short_epochs": experiment.scale.short_epochs}
    config = {
        **experiment.of_features(seed),
        **facts,
        "folds": FOLDS,
        "accuracy": ACCURACY,
        "scores": list(SCORES),
    }

    def compute() -> Json:
        data = experiment.data(seed)
        by_intent: dict[str, Json] = {}
        for fold in range(FOLDS):
            held_out = np.arange(len(data.names)) % FOLDS == fold
            scored = _scored(experiment, data, held_out, fold)
            by_intent |= _aurocs(data, held_out, scored, fold)
        untouched = [each for each in by_intent.values() if each["fold"] in NOT_CHOSEN_ON]
        return {
            "auroc": _means(list(by_intent.values())),
            "auroc_not_chosen_on": _means(untouched),
            "by_intent": by_intent,
            "interval": f"{CONFIDENCE:.0%} over intents",
        }

    return experiment.store.result("novelty", config, compute)


def _scored(experiment: Experiment, data: SimulatedData, held_out: Bool, fold: int) -> dict[str, Float64]:
    """[S] each."""
    seed, labelled = experiment.scale.seeds[0], experiment.scale.labelled
    known = ~data.intents[:, held_out].any(axis=1)
    train_config = for_simulated_bank(seed=seed, epochs=experiment.scale.short_epochs)
    chances = experiment.reference_probabilities(seed)[:, ~held_out] + 1e-9
    labels = teach(chances / chances.sum(axis=1, keepdims=True), ACCURACY, np.random.default_rng(seed)).soft
    masks = SplitMasks.of(data.sessions)
    masks = SplitMasks(masks.train & known, masks.validation & known, masks.test)
    config = {
        **experiment.of_seed(seed),
        "small_sessions": experiment.scale.small_sessions,
        "encoder": training_runs.encoder_facts(train_config),
        "fold": fold,
        "folds": FOLDS,
        "labelled": labelled,
        "unusual": {"pages": list(PAGES), "unseen": UNSEEN_SHARE, "sessions": MOST_SESSIONS},
    }

    def compute() -> dict[str, Any]:
        embed = training_runs.embedder(data.sessions, experiment.small(seed) & known, train_config)
        return _embedded(embed, data.sessions, labels, masks.train, labelled, np.random.default_rng(seed))

    stored = experiment.store.arrays("held-out", config, compute)
    unusual = Surprising(stored["unusual"], stored["surprise"], int(stored["real"]))
    embedding = stored["embedding"].astype(np.float64)
    full = training_runs.student(embedding, labels, masks, labelled, train_config, seed, unusual)
    plain = training_runs.student(embedding, labels, masks, labelled, train_config, seed)
    return {"novelty": full.novelty, "distance": plain.novelty, "doubt": 1.0 - full.probabilities.max(axis=1)}


def _embedded(
    embed: Embed,
    sessions: Sequence[Session],
    labels: Float64,
    train: Bool,
    labelled: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Embeddings of all sessions, and of sessions made unusual; by the labels that the student gets."""
    given = training_runs.labels_of_some(labels[train], labelled, rng)
    learnable = [session for session, learnt in zip(sessions, train.tolist(), strict=True) if learnt]
    found = surprising(learnable, given, embed, rng)
    return {
        "embedding": embed(sessions),
        "unusual": found.embeddings,
        "surprise": found.surprise,
        "real": np.array(found.real),
    }


def _aurocs(data: SimulatedData, held_out: Bool, scored: dict[str, Float64], fold: int) -> dict[str, Json]:
    clear = np.array(
        [s.event_count >= CLEAR_CLICKS or any(c.search_query for c in s.clicks) for s in data.sessions]
    )
    test = SplitMasks.of(data.sessions).test & clear
    known = test & ~data.intents[:, held_out].any(axis=1)
    strange = test & ~data.intents[:, ~held_out].any(axis=1)
    found = {}
    for intent in np.flatnonzero(held_out).tolist():
        rows: Int64 = np.flatnonzero(known | (strange & (data.intent == intent)))
        positive = strange[rows]
        found[data.names[intent]] = {
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

"""Do soft memberships in a bundle's prototypes help beside its vector? Both tasks, on other seeds' visitors.

Encoder and prototypes are the bundle's, trained on other people; heads alone are fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamer.models.bundle import Bundle
from streamer.models.evaluation.bootstrap import Resampled, as_arrays, from_arrays, more_of_gap, pooled
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.protocol import FLOOR, ORACLE, compared
from streamer.models.evaluation.result_store import MissingResultError
from streamer.models.evaluation.steps_main import measure_tasks, resample_tasks, side_by_side
from streamer.models.training.prototypes import served_embeddings

SEEDS = (61, 62, 63)
"""Nothing was chosen on them."""
EMBEDDING, MEMBERSHIPS, BOTH = "embedding", "memberships", "embedding_and_memberships"
TASKS = {"tiles": ("log_loss", "macro_recall_at_1"), "conversions": ("micro_f1",)}


def memberships(experiment: Experiment, bundle: Bundle) -> Json:
    """Over all seeds, by visitors. Raises MissingResultError if the bundle has no prototypes."""
    if bundle.prototypes is None:
        raise MissingResultError("memberships")
    # Not by the model's version: that changes with whatever is written into its manifest.
    about = [bundle.embedding_space, bundle.prototypes.version]
    visitors, draws = experiment.scale.visitors, experiment.scale.draws
    config = {"visitors": visitors, "seeds": list(SEEDS), "draws": draws, "bundle": about}

    def compute() -> Json:
        rng = np.random.default_rng(0)
        by_seed = [_draws(experiment, bundle, seed, about) for seed in SEEDS]
        found: Json = {"prototypes": len(bundle.prototypes or ()), "gained": {}}
        for task, metrics in TASKS.items():
            of_task = pooled([each[task] for each in by_seed], rng)
            found[task] = compared(of_task)
            found["gained"] |= {metric: _gained(of_task, metric) for metric in metrics}
        return found

    return experiment.store.result("memberships", config, compute)


def _draws(
    experiment: Experiment, bundle: Bundle, seed: int, about: list[str]
) -> dict[str, dict[str, Resampled]]:
    """By task and "metric/contender"."""

    def compute() -> dict[str, Any]:
        data = experiment.data(seed)
        vectors = served_embeddings(bundle.tokenizer, bundle.runtime, data.sessions)
        assert bundle.prototypes is not None
        features = {
            EMBEDDING: vectors.astype(np.float64),
            MEMBERSHIPS: bundle.prototypes.memberships(vectors).astype(np.float64),
        }
        features[BOTH] = side_by_side(features, EMBEDDING, MEMBERSHIPS)
        found = resample_tasks(data, measure_tasks(data, features, features), seed, experiment.scale.draws)
        return {
            f"{task}/{name}": array
            for task, of_task in zip(TASKS, found, strict=True)
            for name, array in as_arrays(of_task).items()
        }

    config = {**experiment.of_seed(seed), "draws": experiment.scale.draws, "bundle": about}
    stored = experiment.store.arrays("membership_tasks", config, compute)
    return {
        task: from_arrays(
            {name.removeprefix(f"{task}/"): a for name, a in stored.items() if name.startswith(f"{task}/")}
        )
        for task in TASKS
    }


def _gained(draws: Mapping[str, Resampled], metric: str) -> Json:
    """By contender: how much more of the gap it closes than the vector alone."""
    alone, floor, oracle = (draws[f"{metric}/{name}"] for name in (EMBEDDING, FLOOR, ORACLE))
    return {
        name: more_of_gap(draws[f"{metric}/{name}"], alone, floor, oracle).as_dict()
        for name in (MEMBERSHIPS, BOTH)
    }

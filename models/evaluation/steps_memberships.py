"""What a bundle adds: soft memberships beside its vector, and both beside a strong production model.

Both tasks, on other seeds' visitors. Encoder and prototypes are the bundle's, trained on other people; heads
alone are fitted, and which pages are counted is learnt from the training visitors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streamer.models.arrays import Float64
from streamer.models.bundle import Bundle
from streamer.models.evaluation.bootstrap import (
    Resampled,
    as_arrays,
    from_arrays,
    more_of_gap,
    pooled,
    versus,
)
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.features import Bag
from streamer.models.evaluation.protocol import ALL_LINEAR, FLOOR, ORACLE, Kinds, compared
from streamer.models.evaluation.result_store import Arrays, MissingResultError
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.models.evaluation.steps_main import TASKS, TREES, measure_tasks, resample_tasks, side_by_side
from streamer.models.evaluation.training_runs import SplitMasks
from streamer.models.training.prototypes import served_embeddings

SEEDS = (65, 66, 67, 68)
"""Nothing was chosen on them."""
EMBEDDING, MEMBERSHIPS, BOTH = "embedding", "memberships", "embedding_and_memberships"
AVERAGED = "bag_trees_averaged_with_both"
PRODUCTION_SEEDS = (61, 62, 63, 64)
PRODUCTION_VISITORS = 6_000
"""Of each seed: about 2,600 clicks on tiles and 11,000 sessions of users."""
PRODUCTION = Kinds(boosted=(TREES,), averaged={AVERAGED: (TREES, BOTH)})


def memberships(experiment: Experiment, bundle: Bundle) -> Json:
    """Over all seeds, by visitors. Raises MissingResultError if the bundle has no prototypes."""

    def compute() -> Json:
        assert bundle.prototypes is not None
        by_task = _pooled(experiment, bundle, SEEDS, _WITH_MEMBERSHIPS)
        found: Json = {"prototypes": len(bundle.prototypes), "gained": {}}
        for task, metrics in TASKS.items():
            found[task] = compared(by_task[task])
            found["gained"] |= {metric: _gained(by_task[task], metric) for metric in metrics}
        return found

    return experiment.store.result("memberships", _config(experiment, bundle, SEEDS), compute)


def production(experiment: Experiment, bundle: Bundle) -> Json:
    """As `memberships`: boosted trees over the app's features and counts of pages and words, vector and
    memberships, and the mean of both."""
    visitors = min(PRODUCTION_VISITORS, experiment.scale.visitors)
    experiment = replace(experiment, scale=replace(experiment.scale, visitors=visitors))

    def compute() -> Json:
        part = _Part("production_tasks", _beside_pages, PRODUCTION)
        by_task = _pooled(experiment, bundle, PRODUCTION_SEEDS, part)
        found: Json = {"above_trees": {}}
        for task, metrics in TASKS.items():
            of_task = by_task[task]
            found[task] = compared(of_task)
            for metric in metrics:
                above = {name: versus(of_task, metric, name, [TREES]) for name in (BOTH, AVERAGED)}
                found["above_trees"][metric] = {name: change[TREES] for name, change in above.items()}
        return found

    return experiment.store.result("production", _config(experiment, bundle, PRODUCTION_SEEDS), compute)


def _config(experiment: Experiment, bundle: Bundle, seeds: Sequence[int]) -> Json:
    visitors, draws = experiment.scale.visitors, experiment.scale.draws
    return {"visitors": visitors, "seeds": list(seeds), "draws": draws, "bundle": about(bundle)}


def about(bundle: Bundle) -> list[str]:
    """All that vectors and memberships depend on. Raises MissingResultError if it has no prototypes."""
    if bundle.prototypes is None:
        raise MissingResultError("prototypes")
    # Not by the model's version: that changes with whatever is written into its manifest.
    return [bundle.embedding_space, bundle.prototypes.version]


class _Part(NamedTuple):
    """What a seed's draws are kept as, and what they are of."""

    name: str
    features_of: Callable[[SimulatedData, Bundle], dict[str, Float64]]
    kinds: Kinds


def _pooled(
    experiment: Experiment, bundle: Bundle, seeds: Sequence[int], part: _Part
) -> dict[str, dict[str, Resampled]]:
    """By task and "metric/contender"."""
    rng, by_seed = np.random.default_rng(0), [_draws(experiment, bundle, seed, part) for seed in seeds]
    return {task: pooled([each[task] for each in by_seed], rng) for task in TASKS}


def draws_of_bundle(experiment: Experiment, bundle: Bundle, seed: int) -> dict[str, dict[str, Resampled]]:
    """By task and "metric/contender", of one seed. Raises MissingResultError if the bundle has no
    prototypes."""
    return _draws(experiment, bundle, seed, _WITH_MEMBERSHIPS)


def _draws(experiment: Experiment, bundle: Bundle, seed: int, part: _Part) -> dict[str, dict[str, Resampled]]:
    config = {"draws": experiment.scale.draws, "bundle": about(bundle)}
    return task_draws(
        experiment, seed, part.name, config, lambda data: part.features_of(data, bundle), part.kinds
    )


def task_draws(
    experiment: Experiment,
    seed: int,
    name: str,
    config: Json,
    features_of: Callable[[SimulatedData], dict[str, Float64]],
    kinds: Kinds = ALL_LINEAR,
) -> dict[str, dict[str, Resampled]]:
    """By task and "metric/contender", of a seed's test visitors: the same draws of them for all features.

    Cached by `name` and `config`, which says all that `features_of` depends on besides the seed's data.
    """

    def compute() -> Arrays:
        data = experiment.data(seed)
        features = features_of(data)
        measured = measure_tasks(data, features, features, kinds)
        found = resample_tasks(data, measured, seed, experiment.scale.draws)
        return {
            f"{task}/{key}": array
            for task, of_task in zip(TASKS, found, strict=True)
            for key, array in as_arrays(of_task).items()
        }

    stored = experiment.store.arrays(name, {**experiment.of_seed(seed), **config}, compute)
    return {task: _of_task(stored, task) for task in TASKS}


def _of_task(stored: Arrays, task: str) -> dict[str, Resampled]:
    names = {name: name.removeprefix(f"{task}/") for name in stored if name.startswith(f"{task}/")}
    return from_arrays({short: stored[name] for name, short in names.items()})


def _of_bundle(data: SimulatedData, bundle: Bundle) -> dict[str, Float64]:
    """[S, F] of each."""
    assert bundle.prototypes is not None
    vectors = served_embeddings(bundle.tokenizer, bundle.runtime, data.sessions)
    features = {
        EMBEDDING: vectors.astype(np.float64),
        MEMBERSHIPS: bundle.prototypes.memberships(vectors).astype(np.float64),
    }
    features[BOTH] = side_by_side(features, EMBEDDING, MEMBERSHIPS)
    return features


_WITH_MEMBERSHIPS = _Part("membership_tasks", _of_bundle, ALL_LINEAR)


def _beside_pages(data: SimulatedData, bundle: Bundle) -> dict[str, Float64]:
    """[S, F] of each."""
    learnt = SplitMasks.of(data.sessions).train
    pages = Bag.fit([s for s, chosen in zip(data.sessions, learnt, strict=True) if chosen])
    return {BOTH: _of_bundle(data, bundle)[BOTH], TREES: pages.encode(data.sessions)}


def _gained(draws: Mapping[str, Resampled], metric: str) -> Json:
    """By contender: how much more of the gap it closes than the vector alone."""
    alone, floor, oracle = (draws[f"{metric}/{name}"] for name in (EMBEDDING, FLOOR, ORACLE))
    return {
        name: more_of_gap(draws[f"{metric}/{name}"], alone, floor, oracle).as_dict()
        for name in (MEMBERSHIPS, BOTH)
    }

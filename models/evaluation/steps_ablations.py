"""What parts of the recipe contribute: every objective alone and left out, and every kind of field left out.

Seeds and scale are those of the baselines. The encoders are compared with each other alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from streamer.models.arrays import Float64
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.bootstrap import Resampled, gap_closed, holm, more_of_gap, p_value, pooled
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.protocol import FLOOR, ORACLE
from streamer.models.evaluation.result_store import Arrays
from streamer.models.evaluation.steps_baselines import facts, fresh
from streamer.models.evaluation.steps_main import TASKS, measure_tasks, resample_tasks
from streamer.models.fields import SESSION_FIELDS
from streamer.models.training.config import OBJECTIVES, TrainConfig, for_simulated_bank

Variant = tuple[Json, tuple[str, ...]]
"""Overrides of the training config, and fields that are hidden from the encoder."""

FULL = "full"
MODALITIES = {
    "pages": ("page_type", "path_1", "path_2", "path_3"),
    "events": ("event_type", "element"),
    "products": ("category", "product_id"),
    "times": ("dwell", "gap"),
    "queries": ("query",),
    "context": SESSION_FIELDS,
}
"""Fields that are left out together."""


def ablations(experiment: Experiment) -> Json:
    """Both tasks with all labels: the share of the gap that each variant closes, and how much more or less
    that is than with everything. Intervals are over seeds and visitors."""
    by_seed, variants = fresh(experiment), _variants()

    def compute() -> Json:
        drawn, rng = [_draws(each, variants) for each in by_seed], np.random.default_rng(0)
        rows: Json = {name: {} for name in variants}
        for task, metrics in TASKS.items():
            resampled = pooled([each[task] for each in drawn], rng)
            for metric in metrics:
                for name, entry in _beside_full(resampled, metric, variants).items():
                    rows[name][metric] = entry
        return {"rows": rows, **facts(by_seed), "epochs": experiment.scale.short_epochs}

    config = {
        "by_seed": [
            {
                "draws": each.scale.draws,
                "variants": {name: _key(each, *variant) for name, variant in variants.items()},
            }
            for each in by_seed
        ]
    }
    return experiment.store.result("ablations", config, compute)


def _draws(experiment: Experiment, variants: Mapping[str, Variant]) -> dict[str, dict[str, Resampled]]:
    """Of one seed, by task and "metric/variant"."""
    seed = experiment.scale.seeds[0]
    data = experiment.data(seed)
    features = {name: _embedded(experiment, *variant) for name, variant in variants.items()}
    found = resample_tasks(data, measure_tasks(data, features, features), seed, experiment.scale.draws)
    return dict(zip(TASKS, found, strict=True))


def _beside_full(draws: Mapping[str, Resampled], metric: str, names: Iterable[str]) -> Json:
    """By variant. More than with everything is positive in every metric; Holm's correction is theirs."""
    full, floor, oracle = (draws[f"{metric}/{name}"] for name in (FULL, FLOOR, ORACLE))
    of = {name: draws[f"{metric}/{name}"] for name in names}
    corrected = holm({name: p_value(each, full) for name, each in of.items() if name != FULL})
    found: Json = {
        name: {"gap_closed": gap_closed(each, floor, oracle).as_dict()} for name, each in of.items()
    }
    for name, p in corrected.items():
        more = more_of_gap(of[name], full, floor, oracle)
        found[name]["than_full"] = {**more.as_dict(), "p_holm": p}
    return found


def _embedded(experiment: Experiment, overrides: Json, hidden: tuple[str, ...]) -> Float64:
    """[S, D]"""
    seed = experiment.scale.seeds[0]

    def compute() -> Arrays:
        data, learnt = experiment.data(seed), experiment.small(seed)
        values = training_runs.embeddings(data.sessions, learnt, _config(experiment, overrides), hidden)
        return {"embedding": values.astype(np.float32)}

    found = experiment.store.arrays("ablation", _key(experiment, overrides, hidden), compute)
    values: Float64 = found["embedding"].astype(np.float64)
    return values


def _config(experiment: Experiment, overrides: Json) -> TrainConfig:
    scale = experiment.scale
    return for_simulated_bank(seed=scale.seeds[0], epochs=scale.short_epochs, **overrides)


def _key(experiment: Experiment, overrides: Json, hidden: tuple[str, ...]) -> Json:
    """All that an encoder depends on."""
    scale = experiment.scale
    encoder = training_runs.encoder_facts(_config(experiment, overrides))
    sessions = {**experiment.of_seed(scale.seeds[0]), "small_sessions": scale.small_sessions}
    return {**sessions, "encoder": encoder, "hidden": hidden}


def _variants() -> dict[str, Variant]:
    variants: dict[str, Variant] = {FULL: ({}, ())}
    usual = for_simulated_bank()
    for objective in OBJECTIVES:
        weight = f"weight_{objective}"
        others = {f"weight_{other}": 0.0 for other in OBJECTIVES if other != objective}
        variants[f"objective {objective} alone"] = ({**others, weight: 1.0}, ())
        if getattr(usual, weight):
            variants[f"objective {objective} left out"] = ({weight: 0.0}, ())
        else:
            variants[f"objective {objective} added"] = ({weight: 1.0}, ())
    variants["objective rest in every batch"] = ({"rest_every": 1}, ())
    variants["events of pages shown and asked"] = ({"events_of_pages": True}, ())
    return variants | {f"modality {name} left out": ({}, fields) for name, fields in MODALITIES.items()}

"""Other representations with few labels, and the learning curve over the number of labels.

Both have seeds that chose nothing, at a scale of their own, and the same encoders. Labels are those of whole
visitors, a fifth for validation.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.baselines.interface import BaselineInput, Labelled
from streamer.models.baselines.registry import CONTENDERS, CONTRAST, OURS, Contender
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.bootstrap import (
    Resampled,
    as_arrays,
    from_arrays,
    over_draws,
    pooled,
    versus,
)
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.features import Bag
from streamer.models.evaluation.protocol import ORACLE, Kinds, compared, measure_conversions, resample_rows
from streamer.models.evaluation.result_store import Arrays
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.models.evaluation.splits import Split, split_by_visitor
from streamer.models.evaluation.steps_main import TREES
from streamer.models.training.config import TrainConfig, for_simulated_bank

FEW_LABELS = 2_000
CURVE_LABELS = (50, 100, 250, 500, 1_000, 2_000, 4_000)
"""The last is about five sixths of what there is."""
CURVE_ENCODERS = (OURS, CONTRAST)
CURVE_DRAWS = 8
BASELINE_SEEDS = (71, 72, 73)
BASELINE_DRAWS = 4
BASELINE_VISITORS = 3_500
BASELINE_SESSIONS = 6_000
"""Encoders of the baselines learn from the training part of these."""
RATES = (4e-3,)
"""Learning rates tried besides the encoder's own; the first seed's validation visitors choose."""
VALIDATION_SHARE = 0.2


def baselines(experiment: Experiment) -> Json:
    """Micro F1 of conversions with few labels, for every baseline, and how far the encoder is above each.
    Intervals are over seeds, draws of labels and visitors.
    """
    by_seed = fresh(experiment)

    def compute() -> Json:
        rates = _rates(by_seed[0], CONTENDERS)
        resampled = _over_seeds(by_seed, rates, FEW_LABELS, BASELINE_DRAWS)
        return {
            "micro_f1": compared(resampled)["micro_f1"],
            "ours_versus": _ours_versus(resampled, CONTENDERS),
            "costs": {name: _cost(by_seed, name, rate) for name, rate in rates.items()},
            **facts(by_seed),
            "label_draws": BASELINE_DRAWS,
        }

    config = {"by_seed": [_key(each, CONTENDERS, FEW_LABELS, BASELINE_DRAWS) for each in by_seed]}
    return experiment.store.result("baselines", config, compute)


def learning_curve(experiment: Experiment) -> Json:
    """As `baselines`, of some of them over the number of labels."""
    by_seed = fresh(experiment)

    def compute() -> Json:
        rates, points = _rates(by_seed[0], CURVE_ENCODERS), []
        for labels in CURVE_LABELS:
            resampled = _over_seeds(by_seed, rates, labels, CURVE_DRAWS)
            points.append(
                {
                    "labels": labels,
                    "micro_f1": compared(resampled)["micro_f1"],
                    "ours_versus": _ours_versus(resampled, CURVE_ENCODERS),
                }
            )
        return {"points": points, **facts(by_seed), "label_draws": CURVE_DRAWS}

    config = {"by_seed": [_key(each, CURVE_ENCODERS, CURVE_LABELS, CURVE_DRAWS) for each in by_seed]}
    return experiment.store.result("learning", config, compute)


def fresh(experiment: Experiment) -> list[Experiment]:
    """One for each seed that chose nothing, with no more visitors and sessions than the baselines have."""
    scale = experiment.scale
    smaller = replace(
        scale,
        visitors=min(BASELINE_VISITORS, scale.visitors),
        small_sessions=min(BASELINE_SESSIONS, scale.small_sessions),
    )
    return [replace(experiment, scale=replace(smaller, seeds=(seed,))) for seed in BASELINE_SEEDS]


def facts(by_seed: Sequence[Experiment]) -> Json:
    """What a table says of `fresh` experiments."""
    scale = by_seed[0].scale
    return {"seeds": len(by_seed), "visitors": scale.visitors, "sessions": scale.small_sessions}


def _key(experiment: Experiment, names: Iterable[str], labels: object, label_draws: int) -> Json:
    """All that the figures of one seed depend on; the rates are chosen on the first."""
    return {
        **_of_encoders(experiment),
        "draws": experiment.scale.draws,
        "contenders": {name: CONTENDERS[name].passes for name in names},
        "labels": labels,
        "label_draws": label_draws,
        "rates": list(RATES),
        "rates_of_seed": BASELINE_SEEDS[0],
    }


def _over_seeds(
    by_seed: Sequence[Experiment], rates: Mapping[str, float], labels: int, label_draws: int
) -> dict[str, Resampled]:
    draws = [_draws(each, rates, labels, label_draws) for each in by_seed]
    return pooled(draws, np.random.default_rng(0))


def _ours_versus(resampled: Mapping[str, Resampled], names: Iterable[str]) -> Json:
    others = [name for name in (*names, "bag", TREES) if name != OURS]
    return versus(resampled, "micro_f1", OURS, others)


def few_labels(data: SimulatedData, count: int, number: int) -> Split:
    """Training and validation rows of random visitors, `count` in all; the test rows are always the same."""
    rng = np.random.default_rng([count, number])
    every = split_by_visitor(data.conversions.decisions.visitor_ids)
    validation = round(count * VALIDATION_SHARE)
    visitors = data.conversions.decisions.visitor_ids
    return Split(
        _rows_of_some(every.train, visitors, count - validation, rng),
        _rows_of_some(every.validation, visitors, validation, rng),
        every.test,
    )


def _rows_of_some(rows: Int64, visitors: Sequence[str], count: int, rng: np.random.Generator) -> Int64:
    if count >= len(rows):
        return rows
    order = {visitor: place for place, visitor in enumerate(sorted({visitors[row] for row in rows.tolist()}))}
    shuffled = rng.permutation(len(order))
    ranks = np.array([shuffled[order[visitors[row]]] for row in rows.tolist()])
    chosen: Int64 = np.sort(rows[np.argsort(ranks, kind="stable")[:count]])
    return chosen


def _conversions(
    experiment: Experiment, data: SimulatedData, features: Mapping[str, Float64], split: Split
) -> dict[str, Resampled]:
    """The floor, the oracle and the bag with trees besides; always on the same draws of visitors."""
    tables = {name: [data.conversion_features(name, values)] for name, values in features.items()}
    tables[TREES] = [data.conversion_features(TREES, features["bag"])]
    tables[ORACLE] = [data.conversion_features(ORACLE, data.oracle)]
    found = measure_conversions(data.conversions, data.conversion_floor, tables, split, Kinds((TREES,)))
    rng = np.random.default_rng(0)
    return resample_rows(found, data.conversions.decisions, split, rng, experiment.scale.draws)


def _draws(
    experiment: Experiment, rates: Mapping[str, float], labels: int, label_draws: int
) -> dict[str, Resampled]:
    """Of one seed, over draws of labels and visitors."""
    seed = experiment.scale.seeds[0]

    def compute() -> Arrays:
        data, learnt = experiment.data(seed), experiment.small(seed)
        pages = Bag.fit([s for s, chosen in zip(data.sessions, learnt, strict=True) if chosen])
        bag, draws = pages.encode(data.sessions), []
        for number in range(label_draws):
            features = {name: _embedded(experiment, name, rate, number)[0] for name, rate in rates.items()}
            split = few_labels(data, labels, number)
            draws.append(_conversions(experiment, data, {**features, "bag": bag}, split))
        return as_arrays(over_draws(draws, np.random.default_rng(seed)))

    key = _key(experiment, rates, labels, label_draws)
    return from_arrays(experiment.store.arrays("baseline-draws", key, compute))


def _rates(experiment: Experiment, names: Iterable[str]) -> dict[str, float]:
    return {name: _rate(experiment, name, CONTENDERS[name]) for name in names}


def _rate(experiment: Experiment, name: str, contender: Contender) -> float:
    """The learning rate that is best on validation visitors, if any are left; else the encoder's own."""
    own = TrainConfig().learning_rate
    data = experiment.data(experiment.scale.seeds[0])
    tuning = _tuning_split(data)
    if not contender.tuned or not len(tuning.test):
        return own
    return max((own, *RATES), key=lambda rate: _f1(data, _embedded(experiment, name, rate, 0)[0], tuning))


def _cost(by_seed: Sequence[Experiment], name: str, rate: float) -> Json:
    """CPU time of training and embedding, the mean over seeds."""
    seconds = [_embedded(each, name, rate, 0)[1] for each in by_seed]
    return {"cpu_seconds": float(np.mean(seconds)), "learning_rate": rate}


def _embedded(experiment: Experiment, name: str, rate: float, number: int) -> tuple[Float64, float]:
    """[S, F], and the CPU time in seconds; a supervised baseline learns from the labels of draw `number`."""
    seed, contender = experiment.scale.seeds[0], CONTENDERS[name]
    chosen = _of_contender(experiment, contender, rate)
    config = {**_of_encoders(experiment), "baseline": name, "encoder": training_runs.encoder_facts(chosen)}
    if contender.supervised:
        config |= {"labels": FEW_LABELS, "label_draw": number}

    def compute() -> Arrays:
        data = experiment.data(seed)
        labelled = _labelled(data, few_labels(data, FEW_LABELS, number)) if contender.supervised else None
        given = BaselineInput(data.sessions, experiment.small(seed), chosen, labelled)
        begun = time.process_time()
        values = contender.embed(given).astype(np.float32)
        return {"values": values, "cpu_seconds": np.array(time.process_time() - begun)}

    found = experiment.store.arrays(f"baseline-{name}", config, compute)
    return found["values"].astype(np.float64), float(found["cpu_seconds"])


def _of_contender(experiment: Experiment, contender: Contender, rate: float) -> TrainConfig:
    epochs = max(1, round(experiment.scale.short_epochs * contender.passes))
    return for_simulated_bank(seed=experiment.scale.seeds[0], epochs=epochs, learning_rate=rate)


def _labelled(data: SimulatedData, split: Split) -> Labelled:
    rows = np.concatenate([split.train, split.validation])
    validation = np.arange(len(rows)) >= len(split.train)
    return Labelled(data.conversions.decisions.session[rows], data.conversions.bought[rows], validation)


def _of_encoders(experiment: Experiment) -> Json:
    """The sessions that a baseline learns from, and the recipe whose time it takes."""
    scale, seed = experiment.scale, experiment.scale.seeds[0]
    recipe = training_runs.encoder_facts(for_simulated_bank(seed=seed, epochs=scale.short_epochs))
    return {**experiment.of_seed(seed), "small_sessions": scale.small_sessions, "recipe": recipe}


def _tuning_split(data: SimulatedData) -> Split:
    """Few labels to fit on, scored on the validation visitors left over, if any: no test row is looked at."""
    few = few_labels(data, FEW_LABELS, 0)
    every = split_by_visitor(data.conversions.decisions.visitor_ids)
    return Split(few.train, few.validation, np.setdiff1d(every.validation, few.validation))


def _f1(data: SimulatedData, values: Float64, split: Split) -> float:
    table = [data.conversion_features("tried", values)]
    found = measure_conversions(data.conversions, data.conversion_floor, {"tried": table}, split)
    return found["micro_f1"]["tried"].value()

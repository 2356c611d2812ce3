"""What the results depend on: signal strength, time, concept shift, links between web and app.

One seed each; the clicks stay the same wherever a setting is the app's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamer.models.arrays import Bool, Float64
from streamer.models.evaluation.bootstrap import Resampled, gap_closed, relative_change
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.protocol import (
    FLOOR,
    ORACLE,
    Contenders,
    compared,
    measure_conversions,
    measure_tiles,
    report_of,
    resample_rows,
)
from streamer.models.evaluation.result_store import MissingResultError
from streamer.models.evaluation.simulated_data import SimulatedData, decisions_where
from streamer.models.evaluation.splits import Split, split_by_visitor, split_forward
from streamer.models.evaluation.steps_main import measure_tasks, resample_tasks
from streamer.models.evaluation.task_rows import CONVERSION_DAYS, DAY_MS, Decisions

SIGNALS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Around 1, the middle, at which everything else is measured."""
SHIFTS = (0.0, 0.3, 0.6)
WRONG_LINKS = (0.0, 0.03, 0.15)
MISSING_LINKS = (0.5,)
_DEFAULT_WRONG, _DEFAULT_MISSING = 0.03, 0.1


def signal_curve(experiment: Experiment) -> Json:
    """Per signal strength: both tasks for the embedding, with the share of the gap closed."""
    seed = experiment.scale.seeds[0]

    def compute() -> Json:
        embedding, points = experiment.embedding(seed), []
        for strength in SIGNALS:
            data = experiment.data(seed).with_app(experiment.simulator(seed, signal_strength=strength))
            points.append({"signal_strength": strength, **_tasks(data, {"embedding": embedding}, experiment)})
        return {"points": points}

    return experiment.store.result("signal", {**_config(experiment, seed), "signals": list(SIGNALS)}, compute)


def time_forward(experiment: Experiment) -> Json:
    """Both tasks by time: the encoder learns from sessions closed before testing begins, of all visitors."""
    seed = experiment.scale.seeds[0]

    def compute() -> Json:
        data = experiment.data(seed)
        tile_split, conversion_split = _time_splits(data)
        begins = min(
            data.tiles.decisions.at[tile_split.test].min(),
            data.conversions.decisions.at[conversion_split.test].min(),
        )
        embedding = experiment.pretrained(
            "forward",
            seed,
            lambda: data.table.closed_at < begins,
            {"epochs": experiment.scale.short_epochs},
            {"closed": "before testing"},
        )
        rng = np.random.default_rng(seed)
        of_tiles = _contenders(data, {"embedding": embedding}, "tiles")
        of_conversions = _contenders(data, {"embedding": embedding}, "conversions")
        tiles = measure_tiles(data.tiles, len(data.outcomes.tiles()), data.tile_floor, of_tiles, tile_split)
        bought = measure_conversions(
            data.conversions, data.conversion_floor, of_conversions, conversion_split
        )
        return {
            "pretraining_sessions": int((data.table.closed_at < begins).sum()),
            "tiles": _reported(tiles, data.tiles.decisions, tile_split, rng, experiment),
            "conversions": _reported(bought, data.conversions.decisions, conversion_split, rng, experiment),
        }

    return experiment.store.result("time", {**_config(experiment, seed), "split": "time"}, compute)


def transfer(experiment: Experiment) -> Json:
    """Heads fitted on one kind of visitor and tested on the other, as the two differ more and more."""
    rows: list[Json] = []
    for shift in SHIFTS:
        try:
            rows += _shifted(experiment, shift)["rows"]
        except MissingResultError:
            continue
    if not rows:
        raise MissingResultError("transfer")
    return {"rows": rows}


def _shifted(experiment: Experiment, shift: float) -> Json:
    seed = experiment.scale.seeds[0]
    facts = {"small_sessions": experiment.scale.small_sessions, "short_epochs": experiment.scale.short_epochs}

    def compute() -> Json:
        embedding = experiment.small_embedding(seed, concept_shift=shift)
        data = experiment.data(seed, concept_shift=shift)
        return {"rows": [{"concept_shift": shift, **row} for row in _transfers(data, embedding, experiment)]}

    return experiment.store.result(
        "transfer", {**_config(experiment, seed), **facts, "concept_shift": shift}, compute
    )


def links(experiment: Experiment) -> Json:
    """Wrong and missing links between web and app, in training and test rows alike."""
    seed = experiment.scale.seeds[0]
    settings = [(wrong, _DEFAULT_MISSING) for wrong in WRONG_LINKS]
    settings += [(_DEFAULT_WRONG, missing) for missing in MISSING_LINKS]

    def compute() -> Json:
        embedding, rows = experiment.embedding(seed), []
        for wrong, missing in settings:
            config = experiment.simulator(seed, wrong_link_rate=wrong, missing_link_rate=missing)
            data = experiment.data(seed).with_app(config)
            facts = {"wrong_links": wrong, "missing_links": missing, "coverage": _coverage(data)}
            rows.append({**facts, **_tasks(data, {"embedding": embedding}, experiment)})
        return {"rows": rows}

    config = {**_config(experiment, seed), "links": [list(each) for each in settings]}
    return experiment.store.result("links", config, compute)


def _config(experiment: Experiment, seed: int) -> Json:
    return {**experiment.of_features(seed), "draws": experiment.scale.draws}


def _tasks(data: SimulatedData, features: Mapping[str, Float64], experiment: Experiment) -> Json:
    tiles, conversions = resample_tasks(
        data, measure_tasks(data, features, features), experiment.scale.seeds[0], experiment.scale.draws
    )
    return {"tiles": compared(tiles), "conversions": compared(conversions)}


def _reported(
    found: Any, decisions: Decisions, split: Split, rng: np.random.Generator, experiment: Experiment
) -> Json:
    return report_of(resample_rows(found, decisions, split, rng, experiment.scale.draws), decisions, split)


def _contenders(data: SimulatedData, features: Mapping[str, Float64], task: str) -> Contenders:
    table = data.tile_features if task == "tiles" else data.conversion_features
    return {name: [table(name, values)] for name, values in {**features, ORACLE: data.oracle}.items()}


def _time_splits(data: SimulatedData) -> tuple[Split, Split]:
    tiles, bought = data.tiles.decisions, data.conversions.decisions
    return (
        split_forward(tiles.at, tiles.visitor_ids, 0),
        split_forward(bought.at, bought.visitor_ids, CONVERSION_DAYS * DAY_MS),
    )


def _coverage(data: SimulatedData) -> float:
    """Share of the clicked impressions whose visitor had a linked session shortly before."""
    clicked = sum(row["clicked"] is not None for row in data.outcomes.impressions)
    return len(data.tiles.clicked) / max(1, clicked)


def _transfers(data: SimulatedData, embedding: Float64, experiment: Experiment) -> list[Json]:
    groups: dict[str, Bool] = {"logged_in": ~data.never_login, "never_login": data.never_login}
    rows = []
    for target in groups:
        for source in groups:
            tiles = _crossed(data.tiles.decisions, groups[source], groups[target])
            bought = _crossed(data.conversions.decisions, groups[source], groups[target])
            rng = np.random.default_rng(experiment.scale.seeds[0])
            features = {"embedding": embedding}
            found = measure_tiles(
                data.tiles, len(data.outcomes.tiles()), data.tile_floor,
                _contenders(data, features, "tiles"), tiles,
            )  # fmt: skip
            loss = resample_rows(found, data.tiles.decisions, tiles, rng, experiment.scale.draws)
            found = measure_conversions(
                data.conversions, data.conversion_floor,
                _contenders(data, features, "conversions"), bought,
            )  # fmt: skip
            f1 = resample_rows(found, data.conversions.decisions, bought, rng, experiment.scale.draws)
            rows.append(
                {
                    "fitted_on": source,
                    "tested_on": target,
                    "tile_log_loss": _summarized(loss, "log_loss"),
                    "conversion_micro_f1": _summarized(f1, "micro_f1"),
                }
            )
    return rows


def _summarized(resampled: Mapping[str, Resampled], metric: str) -> Json:
    floor, own, oracle = (resampled[f"{metric}/{name}"] for name in (FLOOR, "embedding", ORACLE))
    return {
        FLOOR: floor.estimate().as_dict(),
        "embedding": own.estimate().as_dict(),
        "vs_app_only": relative_change(own, floor).as_dict(),
        "gap_closed": gap_closed(own, floor, oracle).as_dict(),
    }


def _crossed(decisions: Decisions, source: Bool, target: Bool) -> Split:
    """Training and validation visitors of one kind, test visitors of the other, still by hash."""
    by_visitor = split_by_visitor(decisions.visitor_ids)
    of_source, of_target = decisions_where(decisions, source), decisions_where(decisions, target)
    return Split(
        by_visitor.train[of_source[by_visitor.train]],
        by_visitor.validation[of_source[by_visitor.validation]],
        by_visitor.test[of_target[by_visitor.test]],
    )

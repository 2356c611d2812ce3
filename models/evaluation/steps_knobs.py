"""What the results depend on: signal strength, time, concept shift, links between web and app.

One seed each; the clicks stay the same wherever a knob is the app's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.evaluation.bootstrap import Resampled, gap_closed, relative_change
from models.evaluation.features import Floats
from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.ledger import NotThereError
from models.evaluation.protocol import (
    FLOOR,
    ORACLE,
    Contenders,
    compared,
    measure_conversions,
    measure_tiles,
    report_of,
    resample_rows,
)
from models.evaluation.rows import CONVERSION_DAYS, DAY_MS, Decisions
from models.evaluation.splits import Split, split_by_visitor, split_forward
from models.evaluation.steps_main import measure_tasks, resample_tasks
from models.evaluation.world import Bools, World, decisions_where

SIGNALS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Around 1, the middle, at which everything else is measured."""
SHIFTS = (0.0, 0.3, 0.6)
WRONG_LINKS = (0.0, 0.03, 0.15)
MISSING_LINKS = (0.5,)
_DEFAULT_WRONG, _DEFAULT_MISSING = 0.03, 0.1


def signal_curve(lab: Laboratory) -> Json:
    """Per signal strength: both tasks for the embedding, with the share of the gap closed."""
    seed = lab.scale.seeds[0]

    def compute() -> Json:
        embedding, points = lab.embedding(seed), []
        for strength in SIGNALS:
            world = lab.world(seed).with_app(lab.simulator(seed, signal_strength=strength))
            points.append({"signal_strength": strength, **_tasks(world, {"embedding": embedding}, lab)})
        return {"points": points}

    return lab.ledger.result("signal", {**_config(lab, seed), "signals": list(SIGNALS)}, compute)


def time_forward(lab: Laboratory) -> Json:
    """Both tasks by time: the encoder learns from sessions closed before testing begins, of all visitors."""
    seed = lab.scale.seeds[0]

    def compute() -> Json:
        world = lab.world(seed)
        tile_split, conversion_split = _time_splits(world)
        begins = min(
            world.tiles.decisions.at[tile_split.test].min(),
            world.conversions.decisions.at[conversion_split.test].min(),
        )
        embedding = lab.pretrained(
            "forward",
            seed,
            lambda: world.table.closed_at < begins,
            {"epochs": lab.scale.short_epochs},
            {"closed": "before testing"},
        )
        rng = np.random.default_rng(seed)
        of_tiles = _contenders(world, {"embedding": embedding}, "tiles")
        of_conversions = _contenders(world, {"embedding": embedding}, "conversions")
        tiles = measure_tiles(
            world.tiles, len(world.outcomes.tiles()), world.tile_floor, of_tiles, tile_split
        )
        bought = measure_conversions(
            world.conversions, world.conversion_floor, of_conversions, conversion_split
        )
        return {
            "pretraining_sessions": int((world.table.closed_at < begins).sum()),
            "tiles": _reported(tiles, world.tiles.decisions, tile_split, rng, lab),
            "conversions": _reported(bought, world.conversions.decisions, conversion_split, rng, lab),
        }

    return lab.ledger.result("time", {**_config(lab, seed), "split": "time"}, compute)


def transfer(lab: Laboratory) -> Json:
    """Heads fitted on one kind of visitor and tested on the other, as the two differ more and more."""
    rows: list[Json] = []
    for shift in SHIFTS:
        try:
            rows += _shifted(lab, shift)["rows"]
        except NotThereError:
            continue
    if not rows:
        raise NotThereError("transfer")
    return {"rows": rows}


def _shifted(lab: Laboratory, shift: float) -> Json:
    seed = lab.scale.seeds[0]
    facts = {"small_sessions": lab.scale.small_sessions, "short_epochs": lab.scale.short_epochs}

    def compute() -> Json:
        embedding = lab.small_embedding(seed, concept_shift=shift)
        world = lab.world(seed, concept_shift=shift)
        return {"rows": [{"concept_shift": shift, **row} for row in _transfers(world, embedding, lab)]}

    return lab.ledger.result("transfer", {**_config(lab, seed), **facts, "concept_shift": shift}, compute)


def links(lab: Laboratory) -> Json:
    """Wrong and missing links between web and app, in what is learnt from and in what is tested."""
    seed = lab.scale.seeds[0]
    settings = [(wrong, _DEFAULT_MISSING) for wrong in WRONG_LINKS]
    settings += [(_DEFAULT_WRONG, missing) for missing in MISSING_LINKS]

    def compute() -> Json:
        embedding, rows = lab.embedding(seed), []
        for wrong, missing in settings:
            config = lab.simulator(seed, wrong_link_rate=wrong, missing_link_rate=missing)
            world = lab.world(seed).with_app(config)
            facts = {"wrong_links": wrong, "missing_links": missing, "coverage": _coverage(world)}
            rows.append({**facts, **_tasks(world, {"embedding": embedding}, lab)})
        return {"rows": rows}

    config = {**_config(lab, seed), "links": [list(each) for each in settings]}
    return lab.ledger.result("links", config, compute)


def _config(lab: Laboratory, seed: int) -> Json:
    return {**lab.of_features(seed), "draws": lab.scale.draws}


def _tasks(world: World, features: Mapping[str, Floats], lab: Laboratory) -> Json:
    tiles, conversions = resample_tasks(
        world, measure_tasks(world, features, features), lab.scale.seeds[0], lab.scale.draws
    )
    return {"tiles": compared(tiles), "conversions": compared(conversions)}


def _reported(
    found: Any, decisions: Decisions, split: Split, rng: np.random.Generator, lab: Laboratory
) -> Json:
    return report_of(resample_rows(found, decisions, split, rng, lab.scale.draws), decisions, split)


def _contenders(world: World, features: Mapping[str, Floats], task: str) -> Contenders:
    table = world.tile_features if task == "tiles" else world.conversion_features
    return {name: [table(name, values)] for name, values in {**features, ORACLE: world.oracle}.items()}


def _time_splits(world: World) -> tuple[Split, Split]:
    tiles, bought = world.tiles.decisions, world.conversions.decisions
    return (
        split_forward(tiles.at, tiles.visitor_ids, 0),
        split_forward(bought.at, bought.visitor_ids, CONVERSION_DAYS * DAY_MS),
    )


def _coverage(world: World) -> float:
    """Share of the clicked impressions whose visitor had a linked session shortly before."""
    clicked = sum(row["clicked"] is not None for row in world.outcomes.impressions)
    return len(world.tiles.clicked) / max(1, clicked)


def _transfers(world: World, embedding: Floats, lab: Laboratory) -> list[Json]:
    groups: dict[str, Bools] = {"logged_in": ~world.never_login, "never_login": world.never_login}
    rows = []
    for target in groups:
        for source in groups:
            tiles = _crossed(world.tiles.decisions, groups[source], groups[target])
            bought = _crossed(world.conversions.decisions, groups[source], groups[target])
            rng = np.random.default_rng(lab.scale.seeds[0])
            features = {"embedding": embedding}
            found = measure_tiles(
                world.tiles, len(world.outcomes.tiles()), world.tile_floor,
                _contenders(world, features, "tiles"), tiles,
            )  # fmt: skip
            loss = resample_rows(found, world.tiles.decisions, tiles, rng, lab.scale.draws)
            found = measure_conversions(
                world.conversions, world.conversion_floor,
                _contenders(world, features, "conversions"), bought,
            )  # fmt: skip
            f1 = resample_rows(found, world.conversions.decisions, bought, rng, lab.scale.draws)
            rows.append(
                {
                    "fitted_on": source,
                    "tested_on": target,
                    "tile_log_loss": _told(loss, "log_loss"),
                    "conversion_micro_f1": _told(f1, "micro_f1"),
                }
            )
    return rows


def _told(resampled: Mapping[str, Resampled], metric: str) -> Json:
    floor, own, oracle = (resampled[f"{metric}/{name}"] for name in (FLOOR, "embedding", ORACLE))
    return {
        FLOOR: floor.estimate().as_dict(),
        "embedding": own.estimate().as_dict(),
        "vs_app_only": relative_change(own, floor).as_dict(),
        "gap_closed": gap_closed(own, floor, oracle).as_dict(),
    }


def _crossed(decisions: Decisions, source: Bools, target: Bools) -> Split:
    """Training and validation visitors of one kind, test visitors of the other, still by hash."""
    by_visitor = split_by_visitor(decisions.visitor_ids)
    of_source, of_target = decisions_where(decisions, source), decisions_where(decisions, target)
    return Split(
        by_visitor.train[of_source[by_visitor.train]],
        by_visitor.validation[of_source[by_visitor.validation]],
        by_visitor.test[of_target[by_visitor.test]],
    )

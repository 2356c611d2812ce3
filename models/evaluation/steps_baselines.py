"""Other representations with few labels, the learning curve over label count, and what each part contributes.

One seed. Encoders of the baselines and ablations learn from the training part of `small_sessions` sessions;
so does the encoder they are compared with. Few labels are those of whole visitors, a fifth for validation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.baselines.catalogue import CONTENDERS, OURS, Contender
from models.baselines.interface import BaselineInput, Labelled
from models.evaluation import trained
from models.evaluation.bag import Bag
from models.evaluation.bootstrap import Resampled
from models.evaluation.features import Floats
from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.pooling import versus
from models.evaluation.protocol import ORACLE, compared, measure_conversions, resample_rows
from models.evaluation.splits import Ints, Split, split_by_visitor
from models.evaluation.steps_main import measure_tasks, resample_tasks, session_features
from models.evaluation.world import World

TREES = "bag_trees"
FEW_LABELS = 2_000
"""Trees are fitted on up to so many; with more they cost minutes, and no longer differ much."""
LABEL_COUNTS = (250, 500, 1_000, 2_000, 5_000, 10_000)
LABEL_DRAWS = 2
"""Each with other labelled visitors; figures are means over them."""
RATES = (4e-3,)
"""Learning rates tried besides the encoder's own; the best on validation visitors is taken."""
VALIDATION_SHARE = 0.2

ABLATION_EPOCHS = 2
"""Of nineteen encoders, compared with each other alone."""
FULL = "full"
OBJECTIVES = ("masked", "rest", "contrast")
MODALITIES: Mapping[str, tuple[str, ...]] = {
    "pages": ("page_type", "path_1", "path_2", "path_3"),
    "events": ("event_type", "element"),
    "products": ("category", "product_id"),
    "time": ("dwell", "gap"),
    "queries": ("query",),
    "context": ("device", "referrer", "hour"),
}


def baselines(lab: Laboratory) -> Json:
    """Micro F1 of conversions with few labels, for every baseline, and how far the encoder is above each."""
    seed = lab.scale.seeds[0]
    config = {**_config(lab), "labels": FEW_LABELS, "label_draws": LABEL_DRAWS, "rates": list(RATES)}

    def compute() -> Json:
        world = lab.world(seed)
        fixed, costs = _representations(lab, world)
        draws = []
        for number in range(LABEL_DRAWS):
            split = few_labels(world, FEW_LABELS, number)
            contenders = {**fixed, "bst": _supervised(lab, world, split, costs)}
            draws.append(_conversions(lab, world, contenders, split))
        resampled = mean_of(draws)
        others = [name for name in (*CONTENDERS, "bag", TREES) if name != OURS]
        return {
            "micro_f1": compared(resampled)["micro_f1"],
            "ours_versus": versus(resampled, "micro_f1", OURS, others),
            "costs": costs,
        }

    return lab.ledger.result("baselines", config, compute)


def learning_curve(lab: Laboratory) -> Json:
    """Micro F1 of conversions over the number of labels."""
    seed = lab.scale.seeds[0]
    names = ("embedding", "both", "distilled_soft", "keyless", "bag")

    def compute() -> Json:
        world, features = lab.world(seed), session_features(lab, seed)
        chosen = {name: features[name] for name in names}
        every = split_by_visitor(world.conversions.decisions.visitor_ids)
        points = []
        most = len(every.train) + len(every.validation)
        for count in [*(count for count in LABEL_COUNTS if count < most), most]:
            # All labels are the same labels however often they are drawn.
            times = LABEL_DRAWS if count in LABEL_COUNTS else 1
            splits = [few_labels(world, count, number) for number in range(times)]
            draws = [_conversions(lab, world, chosen, split) for split in splits]
            points.append({"labels": count, "micro_f1": compared(mean_of(draws))["micro_f1"]})
        return {"points": points}

    config = {**_config(lab), "counts": list(LABEL_COUNTS), "label_draws": LABEL_DRAWS}
    return lab.ledger.result("learning", config, compute)


def ablations(lab: Laboratory) -> Json:
    """Each objective and each modality alone and left out: both tasks with all labels."""
    seed = lab.scale.seeds[0]

    def compute() -> Json:
        variants = {name: _variant(lab, name, *variant) for name, variant in _variants().items()}
        world = lab.world(seed)
        tiles, bought = resample_tasks(world, measure_tasks(world, variants, variants), seed, lab.scale.draws)
        of_tiles, of_conversions = compared(tiles), compared(bought)
        return {
            "rows": {
                name: {
                    "log_loss": of_tiles["log_loss"][name],
                    "macro_recall_at_1": of_tiles["macro_recall_at_1"][name],
                    "micro_f1": of_conversions["micro_f1"][name],
                }
                for name in variants
            },
            "full_versus": {
                "log_loss": versus(tiles, "log_loss", FULL, [n for n in variants if n != FULL]),
                "micro_f1": versus(bought, "micro_f1", FULL, [n for n in variants if n != FULL]),
            },
        }

    variants = [[name, *each] for name, each in _variants().items()]
    config = {**_config(lab), "variants": variants, "epochs": ABLATION_EPOCHS}
    return lab.ledger.result("ablations", config, compute)


def _variant(lab: Laboratory, name: str, overrides: Json, hidden: tuple[str, ...]) -> Floats:
    seed = lab.scale.seeds[0]

    def compute() -> dict[str, Any]:
        chosen = trained.train_config({"seed": seed, "epochs": ABLATION_EPOCHS, **overrides})
        values = trained.embeddings(lab.world(seed).sessions, lab.small(seed), chosen, hidden)
        return {"embedding": values.astype(np.float32)}

    found = lab.ledger.arrays(
        "ablation", {**_config(lab), "variant": name, "epochs": ABLATION_EPOCHS}, compute
    )
    values: Floats = found["embedding"].astype(np.float64)
    return values


def few_labels(world: World, count: int, number: int) -> Split:
    """Training and validation rows of random visitors, `count` in all; the test rows are always the same."""
    rng = np.random.default_rng([count, number])
    every = split_by_visitor(world.conversions.decisions.visitor_ids)
    validation = round(count * VALIDATION_SHARE)
    visitors = world.conversions.decisions.visitor_ids
    return Split(
        _rows_of_some(every.train, visitors, count - validation, rng),
        _rows_of_some(every.validation, visitors, validation, rng),
        every.test,
    )


def mean_of(draws: Sequence[Mapping[str, Resampled]]) -> dict[str, Resampled]:
    """Of the same metrics on the same draws of visitors, with other labels to learn from."""
    return {
        name: Resampled(
            float(np.mean([each[name].value for each in draws])),
            np.mean([each[name].draws for each in draws], axis=0),
        )
        for name in draws[0]
    }


def _rows_of_some(rows: Ints, visitors: Sequence[str], count: int, rng: np.random.Generator) -> Ints:
    if count >= len(rows):
        return rows
    order = {visitor: place for place, visitor in enumerate(sorted({visitors[row] for row in rows.tolist()}))}
    shuffled = rng.permutation(len(order))
    ranks = np.array([shuffled[order[visitors[row]]] for row in rows.tolist()])
    chosen: Ints = np.sort(rows[np.argsort(ranks, kind="stable")[:count]])
    return chosen


def _config(lab: Laboratory) -> Json:
    facts = {
        "small_sessions": lab.scale.small_sessions,
        "short_epochs": lab.scale.short_epochs,
        "draws": lab.scale.draws,
    }
    return {**lab.of_features(lab.scale.seeds[0]), **facts}


def _conversions(
    lab: Laboratory, world: World, features: Mapping[str, Floats], split: Split
) -> dict[str, Resampled]:
    """The floor, the oracle and with few labels the bag with trees; always on the same draws of visitors."""
    tables = {name: [world.conversion_features(name, values)] for name, values in features.items()}
    if len(split.train) <= FEW_LABELS:
        tables[TREES] = [world.conversion_features(TREES, features["bag"])]
    tables[ORACLE] = [world.conversion_features(ORACLE, world.oracle)]
    found = measure_conversions(world.conversions, world.conversion_floor, tables, split, (TREES,))
    rng = np.random.default_rng(0)
    return resample_rows(found, world.conversions.decisions, split, rng, lab.scale.draws)


def _representations(lab: Laboratory, world: World) -> tuple[dict[str, Floats], Json]:
    """Of all baselines but the supervised one, whose vectors depend on the labels; and what each cost."""
    found: dict[str, Floats] = {}
    costs: Json = {}
    for name, contender in CONTENDERS.items():
        if not contender.supervised:
            found[name], costs[name] = _tuned(lab, world, name, contender, None)
    learnt = lab.small(lab.scale.seeds[0])
    found["bag"] = Bag.fit([s for s, chosen in zip(world.sessions, learnt, strict=True) if chosen]).encode(
        world.sessions
    )
    return found, costs


def _supervised(lab: Laboratory, world: World, split: Split, costs: Json) -> Floats:
    decisions = world.conversions.decisions
    rows = np.concatenate([split.train, split.validation])
    labelled = Labelled(
        decisions.session[rows],
        world.conversions.bought[rows],
        np.arange(len(rows)) >= len(split.train),
    )
    values, costs["bst"] = _tuned(lab, world, "bst", CONTENDERS["bst"], labelled)
    return values


def _tuned(
    lab: Laboratory, world: World, name: str, contender: Contender, labelled: Labelled | None
) -> tuple[Floats, Json]:
    """The vectors with the learning rate that serves validation visitors best, and its CPU time."""
    seed = lab.scale.seeds[0]
    own = trained.train_config({"seed": seed}).learning_rate
    rates = (own, *RATES) if contender.tuned else (own,)
    tried = []
    for rate in rates:
        epochs = round(lab.scale.short_epochs * contender.passes)
        chosen = trained.train_config({"seed": seed, "epochs": epochs, "learning_rate": rate})
        given = BaselineInput(world.sessions, lab.small(seed), chosen, labelled)
        values, seconds = _embedded(lab, name, given)
        quality = _validation_f1(world, values) if len(rates) > 1 else 0.0
        tried.append((quality, rate, seconds, values))
    quality, rate, seconds, values = max(tried, key=lambda each: each[0])
    cost = {"cpu_seconds": seconds, "learning_rate": rate, "tried": len(rates), "width": values.shape[1]}
    return values, cost


def _embedded(lab: Laboratory, name: str, given: BaselineInput) -> tuple[Floats, float]:
    chosen = given.config
    config: dict[str, Any] = {**_config(lab), "baseline": name, "encoder": trained.encoder_facts(chosen)}
    if given.labelled is not None:
        config["labelled"] = int(given.labelled.rows.sum())

    def compute() -> dict[str, Any]:
        begun = time.process_time()
        values = CONTENDERS[name].embed(given).astype(np.float32)
        return {"values": values, "cpu_seconds": np.array(time.process_time() - begun)}

    found = lab.ledger.arrays(f"baseline-{name}", config, compute)
    return found["values"].astype(np.float64), float(found["cpu_seconds"])


def _validation_f1(world: World, values: Floats) -> float:
    """Heads fitted on few labels, scored on the validation visitors left over: no test row is looked at."""
    few = few_labels(world, FEW_LABELS, 0)
    every = split_by_visitor(world.conversions.decisions.visitor_ids)
    left = np.setdiff1d(every.validation, few.validation)
    split = Split(few.train, few.validation, left)
    table = [world.conversion_features("tried", values)]
    found = measure_conversions(world.conversions, world.conversion_floor, {"tried": table}, split)
    return found["micro_f1"]["tried"].value()


def _variants() -> dict[str, tuple[Json, tuple[str, ...]]]:
    """(overrides of the training config, fields that are hidden from the encoder)"""
    every = [field for fields in MODALITIES.values() for field in fields]
    variants: dict[str, tuple[Json, tuple[str, ...]]] = {FULL: ({}, ())}
    for objective in OBJECTIVES:
        others = {f"weight_{other}": 0.0 for other in OBJECTIVES if other != objective}
        variants[f"objective {objective} alone"] = ({**others, f"weight_{objective}": 1.0}, ())
        variants[f"objective {objective} left out"] = ({f"weight_{objective}": 0.0}, ())
    for name, fields in MODALITIES.items():
        alone = tuple(field for field in every if field not in fields)
        variants[f"modality {name} alone"] = ({}, alone)
        variants[f"modality {name} left out"] = ({}, fields)
    return variants

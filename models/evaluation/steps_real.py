"""Public clickstreams with few labels and with all; and the recipes that are measured there.

`choice` compares recipes on validation visitors of the two larger clickstreams, one seed. The other steps
test, on visitors who had no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.real import next_product, same_person, trivago_history
from streamer.models.evaluation.real.few_labels import RESAMPLED, TEST, VALIDATION, Plan, Recipe, measured
from streamer.models.evaluation.real.tasks import SITES, Site
from streamer.models.evaluation.training_runs import encoder_facts
from streamer.models.training.config import SIMULATED_BANK, TrainConfig
from streamer.models.training.encoder import CAUSAL as CAUSAL_READOUT

MEAN, THREE, CAUSAL = "mean of the tokens", "three readouts", "causal, three readouts"
FOLLOWS = "what follows alone, causal readout"
BANK = "recipe of the simulated bank, three readouts"
RECIPES: Mapping[str, Recipe] = {
    MEAN: Recipe({}, whole=False),
    THREE: Recipe({}),
    CAUSAL: Recipe({"weight_causal": 1.0}),
    FOLLOWS: Recipe(
        {
            "weight_masked": 0.0,
            "weight_rest": 0.0,
            "weight_contrast": 0.0,
            "weight_causal": 1.0,
            "readout": CAUSAL_READOUT,
        },
        times=2,  # with one pass a step rather than four, it takes no longer
    ),
    BANK: Recipe(SIMULATED_BANK, times=2),  # a step takes half as long
}
SAME_PERSON: Mapping[str, Mapping[str, Any]] = {
    MEAN: {},
    "contrast of a visitor's sessions": {"weight_visitor": 1.0},
}
_SAME_PERSON_EPOCHS = 2
_TRIVAGO: Mapping[str, Any] = {"epochs": 4, "min_count": 3, "hashed": {"product_id": 4_096}}
_FIRST = (MEAN, THREE, CAUSAL, BANK)
_CHOICE: Mapping[str, Sequence[str]] = {
    "pisa_cc": _FIRST,
    "eshop2008": _FIRST,
    "eshop2008_fields": (FOLLOWS,),
}
_CHOICE_LABELS, _CHOICE_DRAWS = (100, 500), 4

Step = Callable[[Experiment, Path], Json]


def choice(experiment: Experiment, folder: Path) -> Json:
    found = {}
    for name, recipes in _CHOICE.items():
        site = SITES[name]._replace(parts=VALIDATION, counts=_CHOICE_LABELS)
        plan = _plan(experiment, site, recipes, experiment.scale.seeds[:1], _CHOICE_DRAWS)
        found[name] = _result(experiment, f"real-choice-{name}", site, plan, folder)
    return found


def _tested(name: str, recipes: Sequence[str], ensembles: bool = False) -> Step:
    def step(experiment: Experiment, folder: Path) -> Json:
        site, scale = SITES[name], experiment.scale
        plan = _plan(experiment, site, recipes, scale.seeds, scale.label_draws)
        return _result(experiment, f"real-{name}", site, replace(plan, ensembles=ensembles), folder)

    return step


def next_viewed(experiment: Experiment, folder: Path) -> Json:
    """MRR of the next product of eshop2008."""
    training, seeds = _training(experiment, SITES["eshop2008_fields"]), experiment.scale.seeds
    settings = RECIPES[FOLLOWS].settings(training)
    store = experiment.store

    def compute() -> Json:
        return next_product.evaluate(folder, settings, seeds, store)

    config = {"encoder": _facts(settings), "seeds": list(seeds), "backoffs": list(next_product.BACKOFFS)}
    return store.result("real-next-product", config, compute)


def same_visitor(experiment: Experiment, folder: Path) -> Json:
    """AUC of telling two sessions of one person of catchme150 from those of two."""
    seeds, store = experiment.scale.seeds, experiment.store
    epochs = experiment.scale.real_epochs or _SAME_PERSON_EPOCHS
    recipes = {name: {"epochs": epochs, **settings} for name, settings in SAME_PERSON.items()}

    def compute() -> Json:
        return same_person.evaluate(folder, TEST[0], recipes, seeds, store)

    facts = {name: _facts(settings) for name, settings in recipes.items()}
    return store.result("real-same-person", {"encoders": facts, "seeds": list(seeds)}, compute)


def earlier_sessions(experiment: Experiment, folder: Path) -> Json:
    """MRR of trivago's click-outs with earlier sessions of the visitor."""
    seeds = experiment.scale.seeds
    epochs = experiment.scale.real_epochs
    settings = {**_TRIVAGO, **({} if epochs is None else {"epochs": epochs})}

    def compute() -> Json:
        return trivago_history.evaluate(folder, settings, seeds)

    config = {"encoder": _facts(settings), "seeds": list(seeds), "shares": list(trivago_history.SHARES)}
    return experiment.store.result("real-trivago", config, compute)


STEPS: Mapping[str, Step] = {
    "real_choice": choice,
    "real_shop1999": _tested("shop1999", (MEAN, THREE, BANK), ensembles=True),
    "real_pisa_cc": _tested("pisa_cc", _FIRST),
    "real_eshop2008": _tested("eshop2008", _FIRST),
    "real_eshop2008_fields": _tested("eshop2008_fields", (FOLLOWS,), ensembles=True),
    "real_next_product": next_viewed,
    "real_same_person": same_visitor,
    "real_trivago": earlier_sessions,
}


def _facts(settings: Mapping[str, Any]) -> Json:
    return encoder_facts(TrainConfig(**settings))


def _training(experiment: Experiment, site: Site) -> Mapping[str, Any]:
    epochs = experiment.scale.real_epochs
    return site.training if epochs is None else {**site.training, "epochs": epochs}


def _plan(
    experiment: Experiment, site: Site, recipes: Sequence[str], seeds: tuple[int, ...], draws: int
) -> Plan:
    scale = experiment.scale
    training = _training(experiment, site)
    of_recipes = {name: RECIPES[name] for name in recipes}
    return Plan(site.parts, site.counts, training, of_recipes, seeds, draws, min(scale.draws, RESAMPLED))


def _result(experiment: Experiment, step: str, site: Site, plan: Plan, folder: Path) -> Json:
    store = experiment.store
    return store.result(step, plan.as_config(), lambda: measured(site.load(folder), plan, store))

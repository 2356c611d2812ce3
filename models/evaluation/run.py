"""All steps of an evaluation by name, in an order in which they share data; any can be run alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from streamer.models.bundle import Bundle
from streamer.models.evaluation import (
    steps_ablations,
    steps_baselines,
    steps_cost,
    steps_history,
    steps_identity,
    steps_main,
    steps_memberships,
    steps_novelty,
    steps_real,
    steps_scaling,
    steps_sensitivity,
    steps_slices,
    training_runs,
)
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.household_data import IdentityStages
from streamer.models.evaluation.real import eshop2008, shop1999, trivago
from streamer.models.evaluation.result_store import MissingResultError
from streamer.models.training.config import TrainConfig

REAL = ("trivago", "shop1999", "eshop2008", *steps_real.STEPS)
SEED = 7
"""Of the steps on public clickstreams: their results are stored like any other, so the test split is read
once."""


@dataclass(frozen=True)
class Context:
    experiment: Experiment
    bundle: Bundle
    """Whose cost, memberships and slices are measured."""
    identity: IdentityStages
    """With that bundle."""
    clickstreams: Path | None
    """The folder of the public clickstreams; None where there is none."""


Step = Callable[[Context], Json]


def trivago_ranking(experiment: Experiment, folder: Path) -> Json:
    chosen = TrainConfig(seed=SEED, epochs=experiment.scale.epochs)
    config = {"encoder": training_runs.encoder_facts(chosen), "seed": SEED, "draws": experiment.scale.draws}
    return experiment.store.result(
        "trivago", config, lambda: trivago.evaluate(folder, chosen, experiment.scale.draws)
    )


def shop1999_conversion(experiment: Experiment, folder: Path) -> Json:
    chosen = TrainConfig(seed=SEED, epochs=shop1999.EPOCHS, min_count=shop1999.MIN_COUNT)
    config = {"encoder": training_runs.encoder_facts(chosen), "seed": SEED, "draws": experiment.scale.draws}
    return experiment.store.result(
        "shop1999", config, lambda: shop1999.evaluate(folder, chosen, experiment.scale.draws)
    )


def eshop2008_category(experiment: Experiment, folder: Path) -> Json:
    chosen = TrainConfig(seed=SEED, epochs=eshop2008.EPOCHS)
    config = {
        "encoder": training_runs.encoder_facts(chosen),
        "seed": SEED,
        "draws": experiment.scale.draws,
        "sessions": eshop2008.MOST_SESSIONS,
    }
    return experiment.store.result(
        "eshop2008", config, lambda: eshop2008.evaluate(folder, chosen, experiment.scale.draws)
    )


def _of_experiment(step: Callable[[Experiment], Json]) -> Step:
    return lambda context: step(context.experiment)


def _of_clickstreams(step: Callable[[Experiment, Path], Json]) -> Step:
    def run(context: Context) -> Json:
        if context.clickstreams is None:
            raise ValueError("a step on public clickstreams has no folder to read them from")
        return step(context.experiment, context.clickstreams)

    return run


STEPS: dict[str, Step] = {
    "main": _of_experiment(steps_main.main_table),
    "student": _of_experiment(steps_main.student_table),
    "signal": _of_experiment(steps_sensitivity.signal_curve),
    "time": _of_experiment(steps_sensitivity.time_forward),
    "links": _of_experiment(steps_sensitivity.links),
    "attribution": lambda context: steps_identity.attribution(context.experiment, context.identity),
    "history": lambda context: steps_history.history(context.experiment, context.identity),
    "transfer": _of_experiment(steps_sensitivity.transfer),
    "memberships": lambda context: steps_memberships.memberships(context.experiment, context.bundle),
    "production": lambda context: steps_memberships.production(context.experiment, context.bundle),
    "scaling": lambda context: steps_scaling.scaling(context.experiment, context.bundle),
    "slices": lambda context: steps_slices.slices(context.experiment, context.bundle),
    "map": _of_experiment(steps_main.embedding_map),
    "costs": lambda context: steps_cost.costs(context.experiment, context.bundle),
    "baselines": _of_experiment(steps_baselines.baselines),
    "learning": _of_experiment(steps_baselines.learning_curve),
    "ablations": _of_experiment(steps_ablations.ablations),
    "novelty": _of_experiment(steps_novelty.novelty),
    "trivago": _of_clickstreams(trivago_ranking),
    "shop1999": _of_clickstreams(shop1999_conversion),
    "eshop2008": _of_clickstreams(eshop2008_category),
    **{name: _of_clickstreams(step) for name, step in steps_real.STEPS.items()},
}


def evaluate(context: Context, steps: Collection[str]) -> dict[str, Json]:
    """Results by step: of the steps given, and of all others whose result is there already.

    Left out are steps on public clickstreams where neither those nor their results are there, and those on
    memberships where the bundle has no prototypes.
    """
    results = {}
    for name, step in STEPS.items():
        runs = name in steps and (name not in REAL or context.clickstreams is not None)
        try:
            results[name] = step(context if runs else _known(context))
        except MissingResultError:
            continue
    return results


def _known(context: Context) -> Context:
    store = replace(context.experiment.store, known_only=True)
    return replace(
        context,
        experiment=replace(context.experiment, store=store),
        clickstreams=context.clickstreams or Path(),
    )

"""All steps of an evaluation by name, in an order in which they share worlds; any can be run alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from models.bundle import Bundle
from models.evaluation import (
    steps_baselines,
    steps_cost,
    steps_knobs,
    steps_main,
    steps_map,
    steps_novelty,
    steps_real,
)
from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.ledger import NotThereError


@dataclass(frozen=True)
class Context:
    lab: Laboratory
    bundle: Bundle
    """Whose cost is measured."""
    data: Path | None
    """The folder of the public clickstreams; None where there is none."""


Step = Callable[[Context], Json]


def _of_lab(step: Callable[[Laboratory], Json]) -> Step:
    return lambda context: step(context.lab)


def _of_data(step: Callable[[Laboratory, Path], Json]) -> Step:
    def run(context: Context) -> Json:
        if context.data is None:
            raise ValueError("a step on public clickstreams has no folder to read them from")
        return step(context.lab, context.data)

    return run


REAL = ("trivago", "shop1999", "eshop2008")
STEPS: dict[str, Step] = {
    "main": _of_lab(steps_main.main_table),
    "student": _of_lab(steps_main.student_table),
    "signal": _of_lab(steps_knobs.signal_curve),
    "time": _of_lab(steps_knobs.time_forward),
    "links": _of_lab(steps_knobs.links),
    "transfer": _of_lab(steps_knobs.transfer),
    "learning": _of_lab(steps_baselines.learning_curve),
    "map": _of_lab(steps_map.embedding_map),
    "costs": lambda context: steps_cost.costs(context.lab, context.bundle),
    "baselines": _of_lab(steps_baselines.baselines),
    "ablations": _of_lab(steps_baselines.ablations),
    "novelty": _of_lab(steps_novelty.novelty),
    "trivago": _of_data(steps_real.trivago_ranking),
    "shop1999": _of_data(steps_real.shop1999_conversion),
    "eshop2008": _of_data(steps_real.eshop2008_category),
}


def evaluate(context: Context, steps: Collection[str]) -> dict[str, Json]:
    """Results by step: of the steps given, and of all others whose result is there already.

    Steps on public clickstreams are left out where neither those nor their results are there.
    """
    results = {}
    for name, step in STEPS.items():
        runs = name in steps and (name not in REAL or context.data is not None)
        try:
            results[name] = step(context if runs else _known(context))
        except NotThereError:
            continue
    return results


def _known(context: Context) -> Context:
    ledger = replace(context.lab.ledger, known_only=True)
    return replace(context, lab=replace(context.lab, ledger=ledger), data=context.data or Path())

"""Does a customer's history help? The latest session of their record, the decayed profile, and both together.

Rows, splits and intervals are by customer, with what the record said at the time. Encoder and classifier are
a bundle's, trained on other people; heads alone are fitted. Conditions differ in their ties: right ones,
wrong links, shared browsers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from streamer.models.arrays import Bool, Int64
from streamer.models.evaluation.bootstrap import (
    Resampled,
    as_arrays,
    from_arrays,
    holm,
    p_value,
    relative_change,
)
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.features import FeatureTable
from streamer.models.evaluation.household_data import (
    INTEREST_DAYS,
    CustomerRecords,
    HouseholdData,
    IdentityStages,
    household_data,
)
from streamer.models.evaluation.protocol import (
    ByMetric,
    Contenders,
    compared,
    measure_conversions,
    measure_tiles,
    resample_rows,
)
from streamer.models.evaluation.result_store import Arrays
from streamer.models.evaluation.simulated_data import FADING_DAYS
from streamer.models.evaluation.splits import Split, split_by_visitor
from streamer.models.evaluation.steps_identity import SHARING
from streamer.models.evaluation.steps_main import TASKS
from streamer.models.evaluation.task_rows import (
    Decisions,
    Outcomes,
    app_only,
    conversion_rows,
    session_features,
    tile_rows,
)


class Condition(NamedTuple):
    sharing: float
    wrong_links: float


RIGHT_TIES = "right ties"
CONDITIONS = {
    RIGHT_TIES: Condition(0.0, 0.0),
    "3 % wrong": Condition(0.0, 0.03),
    "15 % wrong": Condition(0.0, 0.15),
    "shared browsers": Condition(SHARING, 0.0),
}
HALF_LIFE_DAYS = 7.0
"""Of all but the comparison of half lives: the product's default."""
HALF_LIVES = (1.0, 7.0, 30.0)
"""In days; the profile alone is compared, on validation customers, with right ties."""
FORMS = ("embedding", "intents")
ALL, SEVERAL = "all", "several"
"""Rows: all of them, and those of records with more than one session."""


def history(experiment: Experiment, stages: IdentityStages) -> Json:
    """By condition, both tasks; and half lives. Of the first seed."""
    seed = experiment.scale.seeds[0]
    config = {**experiment.of_seed(seed), **_config(experiment, stages)}

    def compute() -> Json:
        households = _Households(experiment, stages, seed)
        return {
            "conditions": {name: _compared(households.draws(name)) for name in CONDITIONS},
            "half_lives": _half_lives(households.half_lives()),
        }

    return experiment.store.result("history", config, compute)


def _config(experiment: Experiment, stages: IdentityStages) -> Json:
    return {
        "draws": experiment.scale.draws,
        # Not the model's version: that changes with whatever is written into its manifest.
        "bundle": [stages.bundle.embedding_space, stages.bundle.taxonomy.version],
        "conditions": {name: list(condition) for name, condition in CONDITIONS.items()},
        "half_life_days": HALF_LIFE_DAYS,
        "half_lives": list(HALF_LIVES),
        "interest_days": INTEREST_DAYS,
    }


def _compared(draws: Mapping[str, Resampled]) -> Json:
    found: Json = {}
    for rows in (ALL, SEVERAL):
        found[rows] = {}
        for task, metrics in TASKS.items():
            begin = f"{rows}/{task}/"
            of_task = {key.removeprefix(begin): each for key, each in draws.items() if key.startswith(begin)}
            found[rows][task] = {
                "metrics": compared(of_task),
                "against_latest": {metric: against_latest(of_task, metric) for metric in metrics},
            }
    return found


def against_latest(draws: Mapping[str, Resampled], metric: str) -> Json:
    """By contender: the relative change against the latest session in the same form, with Holm over all."""
    pairs = {f"{what}_{form}": f"{metric}/latest_{form}" for form in FORMS for what in ("profile", "both")}
    p = holm({name: p_value(draws[f"{metric}/{name}"], draws[latest]) for name, latest in pairs.items()})
    return {
        name: {
            **relative_change(draws[f"{metric}/{name}"], draws[latest]).as_dict(),
            "p_holm": p[name],
        }
        for name, latest in pairs.items()
    }


def _half_lives(draws: Mapping[str, Resampled]) -> Json:
    """By metric and contender, the relative change of each half life against the default."""
    found: Json = {}
    for task, metrics in TASKS.items():
        for metric in metrics:
            begin = f"{task}/{metric}"
            found[metric] = {
                f"profile_{form}": {
                    f"{days:g}": relative_change(
                        draws[f"{begin}/profile_{form} {days:g}"],
                        draws[f"{begin}/profile_{form} {HALF_LIFE_DAYS:g}"],
                    ).as_dict()
                    for days in HALF_LIVES
                    if days != HALF_LIFE_DAYS
                }
                for form in FORMS
            }
    return found


class _Households:
    """The last data that was made is kept: conditions that need the same follow each other."""

    def __init__(self, experiment: Experiment, stages: IdentityStages, seed: int) -> None:
        self.experiment, self.stages, self.seed = experiment, stages, seed
        self._made: dict[float, HouseholdData] = {}

    def draws(self, name: str) -> dict[str, Resampled]:
        """By rows, task, metric and contender, of test customers; cached."""

        def compute() -> Arrays:
            data = self._data(CONDITIONS[name])
            rng, arrays = np.random.default_rng(self.seed), Arrays()
            for task in tasks_of(data.outcomes, self._records(data, HALF_LIFE_DAYS)):
                found = task.measure(task.contenders(), task.split)
                several = task.sessions[task.split.test] > 1
                for rows, chosen in ((ALL, np.ones_like(several)), (SEVERAL, several)):
                    drawn = self._resampled(task, found, task.split, chosen, rng)
                    arrays |= {f"{rows}/{task.name}/{key}": each for key, each in as_arrays(drawn).items()}
            return arrays

        return self._cached("history", {"condition": name}, compute)

    def half_lives(self) -> dict[str, Resampled]:
        """By task, metric and contender with its half life, of validation customers; cached."""

        def compute() -> Arrays:
            data = self._data(CONDITIONS[RIGHT_TIES])
            by_days = {days: tasks_of(data.outcomes, self._records(data, days)) for days in HALF_LIVES}
            rng, arrays = np.random.default_rng(self.seed), Arrays()
            for place, task in enumerate(by_days[HALF_LIFE_DAYS]):
                contenders = {
                    f"{name} {days:g}": tables
                    for days, tasks in by_days.items()
                    for name, tables in tasks[place].contenders().items()
                    if name.startswith("profile")
                }
                # Test customers have no part in the choice.
                split = replace(task.split, test=task.split.validation)
                found = task.measure(contenders, split)
                drawn = self._resampled(task, found, split, np.ones(len(split.test), dtype=np.bool_), rng)
                arrays |= {f"{task.name}/{key}": each for key, each in as_arrays(drawn).items()}
            return arrays

        return self._cached("half_lives", {}, compute)

    def _data(self, condition: Condition) -> HouseholdData:
        sharing = condition.sharing
        if sharing not in self._made:
            simulator, cache = self.experiment.simulator(self.seed), self.experiment.store.cache
            made = household_data(simulator, sharing, self.experiment.cut, self.stages, cache)
            self._made = {sharing: made}
        return self._made[sharing].with_links(self.seed, *condition)

    def _records(self, data: HouseholdData, half_life_days: float) -> CustomerRecords:
        moments = self.stages.records(data.scored, data.links, half_life_days)
        return CustomerRecords.of(moments, self.stages.bundle)

    def _resampled(
        self, task: Task, found: ByMetric, split: Split, chosen: Bool, rng: np.random.Generator
    ) -> dict[str, Resampled]:
        """Of those test rows; `chosen` has one entry for each."""
        within = {
            metric: {name: replace(each, numbers=each.numbers[chosen]) for name, each in by_name.items()}
            for metric, by_name in found.items()
        }
        rows = replace(split, test=split.test[chosen])
        return resample_rows(within, task.decisions, rows, rng, self.experiment.scale.draws)

    def _cached(self, step: str, facts: Json, compute: Callable[[], Arrays]) -> dict[str, Resampled]:
        config = {**self.experiment.of_seed(self.seed), **_config(self.experiment, self.stages), **facts}
        return from_arrays(self.experiment.store.arrays(step, config, compute))


@dataclass(frozen=True)
class Task:
    """N rows of a task, each of a customer with a record at the time."""

    name: str
    decisions: Decisions
    features: Mapping[str, FeatureTable]
    """[N, F] by name of the record's values"""
    sessions: Int64
    """[N]: how many stand behind the record."""
    measure: Callable[[Contenders, Split], ByMetric]

    @property
    def split(self) -> Split:
        """By customer."""
        return split_by_visitor(self.decisions.visitor_ids)

    def contenders(self) -> Contenders:
        """Latest session, profile and both, in each form."""
        found = {name: [table] for name, table in self.features.items()}
        for form in FORMS:
            found[f"both_{form}"] = [self.features[f"latest_{form}"], self.features[f"profile_{form}"]]
        return found


def tasks_of(outcomes: Outcomes, records: CustomerRecords) -> list[Task]:
    """Tiles: impressions, with the record before each. Conversions: records with another latest session than
    before, the moment after they were known."""
    changed = records.where(records.has_new_latest)
    tiles = tile_rows(outcomes, records.table)
    bought = conversion_rows(outcomes, changed.table)
    shown_floor, bought_floor = app_only(outcomes, tiles.decisions), app_only(outcomes, bought.decisions)
    count = len(outcomes.tiles())
    return [
        Task(
            "tiles",
            tiles.decisions,
            _features(records, tiles.decisions, FADING_DAYS),
            records.sessions[tiles.decisions.session],
            lambda contenders, split: measure_tiles(tiles, count, shown_floor, contenders, split),
        ),
        Task(
            "conversions",
            bought.decisions,
            _features(changed, bought.decisions, None),
            changed.sessions[bought.decisions.session],
            lambda contenders, split: measure_conversions(bought, bought_floor, contenders, split),
        ),
    ]


def _features(
    records: CustomerRecords, decisions: Decisions, fading_days: float | None
) -> dict[str, FeatureTable]:
    return {
        name: session_features(name, values, records.table, decisions, fading_days)
        for name, values in records.values.items()
    }

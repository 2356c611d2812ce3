"""Customers' records over time as features: what was known when, whose, and how it is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.bundle import Bundle
from streamer.models.evaluation.bootstrap import Resampled
from streamer.models.evaluation.experiment import Experiment, Scale
from streamer.models.evaluation.features import NEVER, require_known
from streamer.models.evaluation.household_data import CustomerRecords, HouseholdData, household_data
from streamer.models.evaluation.result_store import ResultStore
from streamer.models.evaluation.steps_history import CONDITIONS, against_latest, history, tasks_of
from streamer.models.evaluation.task_rows import DAY_MS
from streamer.models.simulator import SimulatorConfig
from streamer.models.visitor_splits import split_of
from streamer.replay.identities import Identities
from tests.models.evaluation.sessions_of_people import cut


@pytest.fixture(scope="module")
def data(stages: Identities, tmp_path_factory: pytest.TempPathFactory) -> HouseholdData:
    config = SimulatorConfig(seed=21, visitors=400)
    return household_data(config, 0.2, cut, stages, tmp_path_factory.mktemp("households"))


@pytest.fixture(scope="module")
def records(stages: Identities, data: HouseholdData) -> CustomerRecords:
    return CustomerRecords.of(stages.records(data.scored, data.links, 7.0), stages.bundle)


def record(bundle: Bundle, number: int, session_id: str = "a") -> dict[str, Any]:
    first, second = (intent.id for intent in bundle.taxonomy.intents[:2])
    return {
        "session_id": session_id,
        "started_at": number,
        "closed_at": number + 1,
        "embedding": [1.0, 2.0],
        "profile_embedding": [3.0, 4.0],
        "intents": [{"intent_id": second, "probability": 0.5}],
        "profile": [{"intent_id": first, "probability": 0.25}, {"intent_id": second, "probability": 0.75}],
        "sessions": 2,
    }


def test_a_version_has_the_values_of_its_record(stages: Identities) -> None:
    bundle = stages.bundle
    moments = [
        (10, "u", record(bundle, 1)),
        (20, "u", record(bundle, 1)),
        (30, "v", record(bundle, 5)),
        (40, "u", record(bundle, 9, "b")),
        (50, "u", None),
    ]
    found = CustomerRecords.of(moments, bundle)
    assert found.table.visitor_ids == ("u", "u", "v", "u", "u")
    assert found.table.known_at.tolist() == [10, 20, 30, 40, 50]
    assert found.table.closed_at.tolist() == [2, 2, 6, 10, NEVER]
    assert found.has_new_latest.tolist() == [True, False, True, True, True]
    assert found.values["latest_embedding"][3:].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert found.values["profile_embedding"][0].tolist() == [3.0, 4.0]
    assert found.values["latest_intents"][0, :3].tolist() == [0.0, 0.5, 0.0]
    assert found.values["profile_intents"][0, :3].tolist() == [0.25, 0.75, 0.0]
    changed = found.where(found.has_new_latest)
    assert changed.table.known_at.tolist() == [10, 30, 40, 50]


def test_rows_are_of_records_known_before_and_split_by_customer(
    data: HouseholdData, records: CustomerRecords
) -> None:
    users = [user["user_id"] for user in data.outcomes.users]
    for task in tasks_of(data.outcomes, records):
        decisions = task.decisions
        for table in task.features.values():
            require_known(table, decisions.at)
        assert [users[user] for user in decisions.user.tolist()] == list(decisions.visitor_ids)
        for name in ("train", "validation", "test"):
            assert {split_of(decisions.visitor_ids[row]) for row in getattr(task.split, name)} == {name}
        assert set(task.sessions.tolist()) > {1, 2}


def test_a_tile_row_has_the_last_record_before_its_impression(
    data: HouseholdData, records: CustomerRecords
) -> None:
    tiles, conversions = tasks_of(data.outcomes, records)
    for row, (user, at) in enumerate(zip(tiles.decisions.visitor_ids, tiles.decisions.at, strict=True)):
        known = [
            place
            for place, whose in enumerate(records.table.visitor_ids)
            if whose == user and records.table.known_at[place] < at
        ]
        assert tiles.sessions[row] == records.sessions[known[-1]]
        assert at - records.table.closed_at[known[-1]] <= 7 * DAY_MS
    assert len(conversions.decisions.at) == len(
        {*zip(conversions.decisions.visitor_ids, conversions.decisions.at.tolist(), strict=True)}
    )


def test_profile_and_latest_are_the_same_where_a_record_has_one_session(records: CustomerRecords) -> None:
    single = records.sessions == 1
    for form in ("embedding", "intents"):
        latest, profile = records.values[f"latest_{form}"], records.values[f"profile_{form}"]
        assert np.allclose(latest[single], profile[single], atol=1e-6)
        assert not np.allclose(latest[~single], profile[~single], atol=1e-3)


def test_a_change_against_the_latest_is_of_the_same_form() -> None:
    draws = {
        f"f1/{what}_{form}": Resampled(value, np.full(100, value))
        for form, values in (("embedding", (2.0, 3.0, 4.0)), ("intents", (10.0, 5.0, 10.0)))
        for what, value in zip(("latest", "profile", "both"), values, strict=True)
    }
    found = against_latest(draws, "f1")
    assert {name: each["value"] for name, each in found.items()} == {
        "profile_embedding": 0.5,
        "both_embedding": 1.0,
        "profile_intents": -0.5,
        "both_intents": 0.0,
    }
    assert found["both_intents"]["p_holm"] == 1.0


def test_every_condition_has_each_contender_and_a_second_run_computes_nothing(
    stages: Identities, tmp_path: Path
) -> None:
    scale = Scale(visitors=400, seeds=(21,), draws=30)
    experiment = Experiment(ResultStore(tmp_path / "results", tmp_path / "cache"), cut, scale)
    found = history(experiment, stages)
    assert found["conditions"].keys() == CONDITIONS.keys()
    contenders = {
        f"{what}_{form}" for what in ("latest", "profile", "both") for form in ("embedding", "intents")
    }
    for condition in found["conditions"].values():
        for rows in ("all", "several"):
            assert condition[rows]["tiles"]["metrics"]["log_loss"].keys() == contenders | {"app_only"}
            assert condition[rows]["conversions"]["metrics"]["micro_f1"].keys() == contenders | {"app_only"}
    assert found["half_lives"]["micro_f1"]["profile_intents"].keys() == {"1", "30"}
    known = replace(experiment, store=replace(experiment.store, known_only=True))
    assert history(known, stages) == found

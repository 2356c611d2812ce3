"""Steps are run once for each config, and never found half."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.evaluation.experiment import Experiment
from streamer.models.evaluation.result_store import Config, MissingResultError, ResultStore, key_of, rounded
from streamer.models.evaluation.run import Context, evaluate
from streamer.models.evaluation.training_runs import _ADDED, encoder_facts
from streamer.models.extra_fields import FieldSpec
from streamer.models.training.config import TrainConfig
from streamer.replay.identities import Identities

STEPS = Path(__file__).parents[3] / "docs/results/steps"


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results", tmp_path / "cache")


def test_a_result_is_computed_once_and_found_again(store: ResultStore) -> None:
    calls: list[int] = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"x": 1 / 3}

    first, second = store.result("s", {"a": 1}, compute), store.result("s", {"a": 1}, compute)
    assert first == second == {"x": 0.333333}
    assert len(calls) == 1


def test_another_config_or_step_never_finds_it(store: ResultStore) -> None:
    assert store.result("s", {"a": 1}, lambda: {"x": 1}) == {"x": 1}
    assert store.result("s", {"a": 2}, lambda: {"x": 2}) == {"x": 2}
    assert store.result("t", {"a": 1}, lambda: {"x": 3}) == {"x": 3}


def test_the_file_says_what_it_was_made_with(store: ResultStore) -> None:
    store.result("s", {"a": 1}, lambda: {"x": 1})
    (path,) = store.results.iterdir()
    document = json.loads(path.read_text())
    assert (document["step"], document["config"], document["result"]) == ("s", {"a": 1}, {"x": 1})


def test_results_of_the_repository_are_found_though_settings_have_come_since() -> None:
    kept = [json.loads(path.read_text())["config"] for path in STEPS.glob("*.json")]
    encoders = [config["encoder"] for config in kept if "encoder" in config]
    assert len(encoders) > 10
    for encoder in encoders:
        fields = tuple(FieldSpec(**field) for field in encoder.get("fields", ()))
        assert encoder_facts(TrainConfig(**{**_ADDED, **encoder, "fields": fields})) == encoder


def test_every_result_of_the_repository_is_found_by_its_step(stages: Identities) -> None:
    """One that no step finds would stand there as if it were still true."""
    found = set()

    class Noted(ResultStore):
        def result(self, step: str, config: Config, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
            known = super().result(step, config, compute)
            found.add(f"{step}-{key_of(step, config)}.json")
            return known

    experiment = Experiment(Noted(STEPS, Path()), lambda path: pytest.fail(f"cut {path}"))
    evaluate(Context(experiment, load_bundle(default_bundle()), stages, None), ())
    assert found == {path.name for path in STEPS.iterdir()}


def test_a_step_that_fails_leaves_nothing_behind(store: ResultStore) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.result("s", {}, fail)
    with pytest.raises(RuntimeError):
        store.arrays("s", {}, fail)  # type: ignore[arg-type]
    assert store.result("s", {}, lambda: {"x": 1}) == {"x": 1}
    assert store.arrays("s", {}, lambda: {"y": np.ones(2)})["y"].tolist() == [1, 1]


def test_arrays_are_kept_as_they_are(store: ResultStore) -> None:
    made = np.random.default_rng(0).normal(size=(3, 2))
    store.arrays("s", {}, lambda: {"metric/name": made})
    found = store.arrays("s", {}, lambda: pytest.fail("computed again"))
    assert np.array_equal(found["metric/name"], made)


def test_what_is_no_number_becomes_null() -> None:
    found = rounded({"a": float("nan"), "b": [np.float64(np.inf), np.int64(3)], "c": 123.4567891})
    assert found == {"a": None, "b": [None, 3], "c": 123.457}


def test_a_ledger_that_makes_nothing_gives_what_is_there(store: ResultStore) -> None:
    known = replace(store, known_only=True)
    with pytest.raises(MissingResultError):
        known.result("s", {}, lambda: {"x": 1})
    store.result("s", {}, lambda: {"x": 1})
    assert known.result("s", {}, lambda: {"x": 2}) == {"x": 1}

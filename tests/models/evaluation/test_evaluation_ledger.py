"""Steps are run once for each config, and never found half."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.ledger import Ledger, NotThereError, rounded


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "results", tmp_path / "cache")


def test_a_result_is_computed_once_and_found_again(ledger: Ledger) -> None:
    calls: list[int] = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return {"x": 1 / 3}

    first, second = ledger.result("s", {"a": 1}, compute), ledger.result("s", {"a": 1}, compute)
    assert first == second == {"x": 0.333333}
    assert len(calls) == 1


def test_another_config_or_step_never_finds_it(ledger: Ledger) -> None:
    assert ledger.result("s", {"a": 1}, lambda: {"x": 1}) == {"x": 1}
    assert ledger.result("s", {"a": 2}, lambda: {"x": 2}) == {"x": 2}
    assert ledger.result("t", {"a": 1}, lambda: {"x": 3}) == {"x": 3}


def test_the_file_says_what_it_was_made_with(ledger: Ledger) -> None:
    ledger.result("s", {"a": 1}, lambda: {"x": 1})
    (path,) = ledger.results.iterdir()
    document = json.loads(path.read_text())
    assert (document["step"], document["config"], document["result"]) == ("s", {"a": 1}, {"x": 1})


def test_a_step_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ledger.result("s", {}, fail)
    with pytest.raises(RuntimeError):
        ledger.arrays("s", {}, fail)  # type: ignore[arg-type]
    assert ledger.result("s", {}, lambda: {"x": 1}) == {"x": 1}
    assert ledger.arrays("s", {}, lambda: {"y": np.ones(2)})["y"].tolist() == [1, 1]


def test_arrays_are_kept_as_they_are(ledger: Ledger) -> None:
    made = np.random.default_rng(0).normal(size=(3, 2))
    ledger.arrays("s", {}, lambda: {"metric/name": made})
    found = ledger.arrays("s", {}, lambda: pytest.fail("computed again"))
    assert np.array_equal(found["metric/name"], made)


def test_what_is_no_number_becomes_null() -> None:
    found = rounded({"a": float("nan"), "b": [np.float64(np.inf), np.int64(3)], "c": 123.4567891})
    assert found == {"a": None, "b": [None, 3], "c": 123.457}


def test_a_ledger_that_makes_nothing_gives_what_is_there(ledger: Ledger) -> None:
    known = replace(ledger, known_only=True)
    with pytest.raises(NotThereError):
        known.result("s", {}, lambda: {"x": 1})
    ledger.result("s", {}, lambda: {"x": 1})
    assert known.result("s", {}, lambda: {"x": 2}) == {"x": 1}

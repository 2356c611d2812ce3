from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.splits import percent_of, split_by_time, split_by_visitor


def test_the_rows_of_a_visitor_never_lie_in_two_splits() -> None:
    visitors = [f"v-{i % 300}" for i in range(1_500)]
    split = split_by_visitor(visitors)
    parts = [{visitors[row] for row in part} for part in (split.train, split.validation, split.test)]
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == 300


def test_visitors_are_split_60_15_25() -> None:
    split = split_by_visitor([f"visitor {i}" for i in range(20_000)])
    shares = [len(part) / 20_000 for part in (split.train, split.validation, split.test)]
    assert shares == pytest.approx([0.6, 0.15, 0.25], abs=0.01)


def test_a_visitor_stays_in_its_split_whoever_else_is_there() -> None:
    alone, among = split_by_visitor(["v-7"]), split_by_visitor(["v-1", "v-7", "v-9"])
    for name in ("train", "validation", "test"):
        assert (len(getattr(alone, name)) == 1) == (1 in getattr(among, name))


def test_the_split_agrees_with_the_one_that_encoders_are_trained_on() -> None:
    corpus = pytest.importorskip("models.training.corpus")
    names = {"train": range(60), "validation": range(60, 75), "test": range(75, 100)}
    for i in range(500):
        assert percent_of(f"v-{i}") in names[corpus.split_of(f"v-{i}")]


def test_the_split_by_time_trains_on_what_came_first() -> None:
    at = np.random.default_rng(0).permutation(1_000).astype(np.int64)
    split = split_by_time(at)
    assert at[split.train].max() < at[split.validation].min()
    assert at[split.validation].max() < at[split.test].min()
    assert len(split.train) + len(split.validation) + len(split.test) == 1_000
    assert len(split.test) == 250


def test_the_split_by_time_leaves_out_rows_whose_outcome_was_still_to_come() -> None:
    at = np.arange(1_000, dtype=np.int64)
    split = split_by_time(at, outcome_ms=50)
    assert at[split.train].max() + 50 < at[split.validation].min()
    assert at[split.validation].max() + 50 < at[split.test].min()

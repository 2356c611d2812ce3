from __future__ import annotations

import pytest

from streamer.models.evaluation.splits import split_by_visitor
from streamer.models.visitor_splits import split_of


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


def test_rows_are_split_as_training_splits_visitors() -> None:
    visitors = [f"v-{i}" for i in range(500)]
    split = split_by_visitor(visitors)
    for name in ("train", "validation", "test"):
        assert {split_of(visitors[row]) for row in getattr(split, name)} == {name}

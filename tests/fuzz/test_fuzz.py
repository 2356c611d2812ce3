"""A thousand and more damaged inputs of every parser: each ends where it should, none crashes."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.mutations import variants
from tests.fuzz.targets import TARGETS

CASES = 1500


@pytest.mark.parametrize("name", TARGETS)
def test_no_damaged_input_crashes_a_parser(name: str) -> None:
    target = TARGETS[name]
    ends = {target.run(value) for value in itertools.islice(variants(target.seeds, seed=len(name)), CASES)}
    assert len(ends) > 1, "the damage never matters"

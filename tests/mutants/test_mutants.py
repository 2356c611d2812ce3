"""The catalogue of mutants still fits the code; `make mutants` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_code_that_is_there(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")
    kind, _, fault = mutant.caught_by.partition(":")
    assert fault in FAULTS if kind == "chaos" else (ROOT / kind.split()[0]).exists()

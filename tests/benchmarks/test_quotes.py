"""Documents quote what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quotes import BLOCKS, DOCUMENTS, figures, filled

FOUND = figures()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_document_has_the_figures_of_the_result(document: Path) -> None:
    text = document.read_text()
    assert "<!-- figures: " in text
    assert filled(text, FOUND) == text, "run `python -m benchmarks.quotes`"


def test_every_block_is_quoted_somewhere() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    for name in BLOCKS:
        assert f"<!-- figures: {name} -->" in text, name


def test_a_document_says_what_was_not_measured() -> None:
    text = "<!-- figures: latency -->\nold\n<!-- end -->"
    assert filled(text, {}) == text.replace("old", "Not measured in the result at hand: latency.")

"""What is too poor to learn from is said with its bound; names are names, not ids."""

from __future__ import annotations

import pytest

from streamer.models.labelling.gate import Bounds, failures, labels_with_ids
from tests.models.hand_made import a_click, a_session

BOUNDS = Bounds(min_kappa=0.4, min_evidence_precision=0.8, max_without_vote=0.2)


def test_what_is_within_the_bounds_or_was_not_measured_passes() -> None:
    assert failures(0.4, 0.8, 0.2, [], BOUNDS) == []
    assert failures(None, None, None, [], BOUNDS) == []


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ((-0.19, 1.0, 0.0, []), "kappa is -0.19, below llm.min_kappa 0.4"),
        ((1.0, 0.5, 0.0, []), "evidence precision is 0.5, below llm.min_evidence_precision 0.8"),
        ((1.0, 1.0, 0.5, []), "without a usable vote is 0.5, above llm.max_without_vote 0.2"),
        ((1.0, 1.0, 0.0, ["/cards", "P-1"]), "2 labels carry a product id or a path, as '/cards'"),
    ],
)
def test_each_bound_is_named_by_its_setting(
    measured: tuple[float, float, float, list[str]], said: str
) -> None:
    (found,) = failures(*measured, BOUNDS)
    assert said in found


def test_labels_of_paths_and_of_product_ids_are_no_names() -> None:
    sessions = [a_session(a_click(0, product_id="P-3301"), a_click(1, product_id="mortgage"))]
    good = ["Get a mortgage", "Block a lost card", "Compare home / contents cover", "Save for a car"]
    poor = ["/loans/car", "Look at loans/car", "Buy p-3301", "See index.html", "https://a.example"]
    assert labels_with_ids([*good, *poor], sessions) == poor

"""A taxonomy may be edited between labelling and distillation, within rules that keep ids' meaning."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from streamer.models.labelling.teacher import SoftLabels
from streamer.models.taxonomy import Intent, Mapped, Parent, Taxonomy
from streamer.models.training.relabel import Division, EditError, GivenLabels, aligned

MADE = Taxonomy(
    1, "1", "llm:x", (Parent("p", "P"),), tuple(Intent(i, i.title(), "p") for i in ("a", "b", "c"))
)
IDS = ["a", "b", "c"]
LABELS = SoftLabels(np.array([4, 7, 9]), np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75]], np.float32))


def edited(*kept: str, **fields: Any) -> Taxonomy:
    intents = tuple(Intent(i, f"New {i}", "p") for i in kept)
    return msgspec.structs.replace(MADE, intents=intents, **({"version": "2"} | fields))


def test_labels_and_order_may_change_freely() -> None:
    found = aligned(LABELS, IDS, edited("c", "a", "b", version="1"), "1")
    assert found.rows.tolist() == [4, 7, 9]
    np.testing.assert_array_equal(found.probabilities, LABELS.probabilities[:, [2, 0, 1]])


def test_a_merged_intent_gives_its_mass_to_the_one_that_continues_it() -> None:
    found = aligned(LABELS, IDS, edited("a", "c", mapping=(Mapped("b", "c"),)), "1")
    np.testing.assert_array_equal(found.probabilities, np.array([[1, 0], [0.5, 0.5], [0, 1]], np.float32))


def test_sessions_of_a_retired_intent_only_are_left_out() -> None:
    found = aligned(LABELS, IDS, edited("b", "c", retired=("a",)), "1")
    assert found.rows.tolist() == [7, 9]
    np.testing.assert_array_equal(found.probabilities, np.array([[1, 0], [0.25, 0.75]], np.float32))


@pytest.mark.parametrize(
    ("taxonomy", "why"),
    [
        (edited("a", "b"), "'c', which taxonomy.json lacks"),
        (edited("a", "b", "see"), "'c', which taxonomy.json lacks"),
        (edited("a", "b", "c", "d"), "no session is labelled with the intent 'd'"),
        (edited("a", "b", retired=("c",), version="1"), "give it a new `version`"),
        (edited("d", mapping=tuple(Mapped(i, None) for i in "abc")), "intent 'd'"),
    ],
)
def test_what_breaks_the_rules_says_which(taxonomy: Taxonomy, why: str) -> None:
    with pytest.raises(EditError, match=why):
        aligned(LABELS, IDS, taxonomy, "1")


def test_nothing_left_is_said() -> None:
    labels = SoftLabels(LABELS.rows[:1], LABELS.probabilities[:1])
    with pytest.raises(EditError, match="no labelled session has one"):
        aligned(labels, IDS, edited("b", "c", retired=("a",)), "1")


def test_the_parts_of_a_split_intent_share_its_sessions() -> None:
    taxonomy = edited("a", "b1", "b2", "c", retired=("b",))
    which = np.array([0, 1, 0])
    given = GivenLabels(("a", "b", "c"), "1", LABELS, LABELS)
    train, validation = given.over(taxonomy, [Division("b", ("b1", "b2"), which, 1 - which)])
    np.testing.assert_array_equal(train.probabilities, [[1, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0.25, 0, 0.75]])
    np.testing.assert_array_equal(validation.probabilities[1], [0.5, 0.5, 0, 0])


def test_a_split_that_people_have_taken_back_does_not_count() -> None:
    given = GivenLabels(("a", "b", "c"), "1", LABELS, LABELS)
    division = Division("b", ("b1", "b2"), np.zeros(3, np.int64), np.zeros(3, np.int64))
    train, _ = given.over(edited("a", "b", "c"), [division])
    np.testing.assert_array_equal(train.probabilities, LABELS.probabilities)
    train, _ = given.over(edited("a", "c", retired=("b",)), [division])
    np.testing.assert_array_equal(train.rows, [4, 7, 9])
